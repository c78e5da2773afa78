"""Early pytest plugin of parallel runs: each worker process gets a Valkey of its own, as it gets a database of its own.

Loaded with `-p`, because the settings read REDIS_URL before any conftest.py is imported.
"""

import os

worker = os.environ.get("PYTEST_XDIST_WORKER", "")
urls = os.environ.get("ROUTER_TEST_REDIS_URLS", "").split()
if worker and urls:
    os.environ["REDIS_URL"] = urls[int(worker.removeprefix("gw")) % len(urls)]
