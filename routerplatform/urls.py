"""Where each address leads."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("routerplatform.pages")),
    path("", include("routerplatform.api")),
    path("dashboards/", include("analytics.urls")),
    path("admin/", admin.site.urls),
]
