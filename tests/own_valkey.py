"""Early pytest plugin of parallel runs: each worker process gets a Valkey and a data folder of its own, as it gets a
database of its own. In a shared folder the metrics of one worker would count what the other one is doing.

Loaded with `-p`, because the settings read REDIS_URL and DATA_DIR before any conftest.py is imported.
"""

import os
from pathlib import Path

worker = os.environ.get("PYTEST_XDIST_WORKER", "")
urls = os.environ.get("ROUTER_TEST_REDIS_URLS", "").split()
folder = os.environ.get("DATA_DIR", "")
if worker and urls:
    os.environ["REDIS_URL"] = urls[int(worker.removeprefix("gw")) % len(urls)]
if worker and folder:
    os.environ["DATA_DIR"] = str(Path(folder) / worker)
