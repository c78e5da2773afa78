from importlib import import_module

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AnalyticsConfig(AppConfig):
    name = "analytics"
    verbose_name = "Analytics"

    def ready(self) -> None:
        schedule = import_module("analytics.schedule")  # models exist only once the apps are ready
        post_migrate.connect(schedule.ensure_after_migrate, sender=self)
