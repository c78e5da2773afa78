"""Where each address leads."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path

from routerplatform.api.urls import unknown

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("routerplatform.pages")),
    path("", include("routerplatform.api.urls")),
    re_path(r"^api/v1/(?!(?:docs|schema)$)", unknown),  # those two lack only their last slash
    path("", include("routerplatform.account_tokens")),
    path("dashboards/", include("analytics.urls")),
    path("", include("routerplatform.policy_trial")),
    path("admin/", admin.site.urls),
]
