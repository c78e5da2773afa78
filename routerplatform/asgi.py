"""The ASGI entry point. Any server will do: uvicorn in production and `script/server`, daphne for `runserver`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
pages = get_asgi_application()  # loads the apps: everything below may import models

from routerplatform.application import Application  # noqa: E402
from routerplatform.doors.websocket import socket_application  # noqa: E402
from routerplatform.gateway.build import build_runtime  # noqa: E402
from routerplatform.gateway.runtime import Runtimes  # noqa: E402
from routerplatform.static_files import with_static_files  # noqa: E402

application = Application(
    runtimes=Runtimes(build_runtime), pages=with_static_files(pages), sockets=socket_application()
)
