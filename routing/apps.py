from importlib import import_module

from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"
    verbose_name = "Routing"

    def ready(self) -> None:
        import_module("routing.signals")  # connects itself; models exist only once the apps are ready
