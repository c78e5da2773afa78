"""Serve the static files of all apps straight from where they lie, before Django sees the request."""

from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import AppDirectoriesFinder, FileSystemFinder, get_finders
from servestatic import ServeStaticASGI


def with_static_files(application: Any) -> ServeStaticASGI:
    """`application`, with everything below STATIC_URL answered in front of it. No collecting step is needed."""
    served = ServeStaticASGI(application, autorefresh=settings.DEBUG, max_age=0 if settings.DEBUG else 3600)
    for finder in get_finders():
        if isinstance(finder, AppDirectoriesFinder | FileSystemFinder):
            for storage in finder.storages.values():
                served.add_files(storage.location, prefix=settings.STATIC_URL)
    return served
