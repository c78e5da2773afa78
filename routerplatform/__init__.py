"""The platform itself. Importing the Celery app here makes it the one that every process sends its tasks through."""

from routerplatform.celery import app as celery_app

__all__ = ["celery_app"]
