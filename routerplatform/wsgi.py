"""The WSGI entry point: admin and pages only. The gateway's own paths need an ASGI server."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
application = get_wsgi_application()
