from importlib import import_module

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AnalyticsConfig(AppConfig):
    name = "analytics"
    verbose_name = "Analytics"

    def ready(self) -> None:
        import_module("analytics.signals")  # connects itself; models exist only once the apps are ready
        import_module("analytics.webhook_signals")
        schedule = import_module("analytics.schedule")
        post_migrate.connect(schedule.ensure_after_migrate, sender=self)
        alerts = import_module("analytics.services.alerts")
        post_migrate.connect(alerts.ensure_after_migrate, sender=self)
