from django.apps import AppConfig


class PlatformConfig(AppConfig):
    name = "routerplatform"
    verbose_name = "Router Platform"
