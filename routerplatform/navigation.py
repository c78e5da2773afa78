"""The admin's look and its sidebar, in the order of the work of ops."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

TEAL = {
    "50": "#f0f8fa",
    "100": "#dceff3",
    "200": "#bce0e8",
    "300": "#8fcbd9",
    "400": "#5cb2c8",
    "500": "#2b8ba6",
    "600": "#0a6a87",
    "700": "#0a5a73",
    "800": "#0b4a5e",
    "900": "#0c3c4c",
    "950": "#06222b",
}
SLATE = {
    "50": "#f6f8f9",
    "100": "#eef2f3",
    "200": "#dce3e6",
    "300": "#bfcad0",
    "400": "#8fa1ab",
    "500": "#5f7580",
    "600": "#465963",
    "700": "#2e3f48",
    "800": "#1b2930",
    "900": "#121d22",
    "950": "#0c1417",
}


def environment(request: HttpRequest) -> list[str]:
    """The label beside the page's title: which installation this is, red when it is production."""
    name: str = settings.ENVIRONMENT
    return [name, "danger" if "prod" in name.lower() else "warning"]


def may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def rows(title: str, icon: str, model: str) -> dict[str, Any]:
    """A link to the list of `model` (“app.model”), for those who may see it."""
    app, _, name = model.partition(".")
    link = reverse_lazy(f"admin:{app}_{name}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": may(f"{app}.view_{name}")}


OPERATE = [
    {"title": "Overview", "icon": "space_dashboard", "link": reverse_lazy("admin:index")},
    {"title": "Spend", "icon": "bar_chart", "link": "/dashboards/"},
    {"title": "Requests", "icon": "receipt_long", "link": "/dashboards/requests/"},
    {"title": "Playground", "icon": "forum", "link": "/playground/"},
    rows("Batches", "stacks", "routerplatform.batchjob"),
    rows("Usage records", "database", "analytics.usagerecord"),
    rows("Corrections", "price_change", "analytics.usageadjustment"),
    rows("Budgets", "savings", "analytics.budget"),
    rows("Budget raises", "price_check", "analytics.budgetraise"),
    rows("Alerts", "notifications", "analytics.alert"),
    rows("Alert rules", "rule_settings", "analytics.alertrule"),
    rows("Alert channels", "campaign", "analytics.alertchannel"),
    rows("Alert messages", "outbox", "analytics.alertdelivery"),
    rows("Webhooks", "webhook", "analytics.webhookendpoint"),
    rows("Webhook messages", "outbound", "analytics.webhookdelivery"),
    rows("Ledger checks", "fact_check", "analytics.ledgercheck"),
    rows("Scheduled jobs", "schedule", "django_celery_beat.periodictask"),
]
ROUTING = [
    rows("Policies", "alt_route", "routing.routingpolicy"),
    rows("Experiments", "science", "routing.experiment"),
    rows("Policy changes", "rule", "routing.policydraft"),
    rows("Rules", "filter_alt", "routing.routingrule"),
    rows("Replays", "replay", "analytics.replay"),
    rows("Decisions", "call_split", "analytics.decisionrecord"),
    rows("Classifiers", "category", "routing.classifierplugin"),
    rows("Trained artefacts", "model_training", "routing.routerartefact"),
    rows("Personas", "theater_comedy", "routing.persona"),
    rows("Prompt templates", "description", "routing.prompttemplate"),
    rows("Model aliases", "sell", "routing.modelalias"),
]
PROVIDERS = [
    rows("Providers", "cloud", "providers.provider"),
    rows("Provider keys", "key", "providers.providerkey"),
    rows("Deployments", "dns", "providers.deployment"),
    rows("Models", "deployed_code", "providers.cataloguemodel"),
    rows("Prices", "payments", "providers.price"),
    {
        "title": "Dominated models",
        "icon": "compare_arrows",
        "link": "/dashboards/models/",
        "permission": may("providers.view_cataloguemodel"),
    },
    rows("Health checks", "monitor_heart", "providers.providercheck"),
]
ACCESS = [
    rows("Teams", "groups", "routing.team"),
    rows("Virtual keys", "vpn_key", "routing.virtualkey"),
    rows("Access tokens", "badge", "routing.accesstoken"),
    rows("People", "person", "auth.user"),
    rows("Roles", "admin_panel_settings", "auth.group"),
    rows("Sign-in attempts", "login", "axes.accessattempt"),
]

SIDEBAR: list[dict[str, Any]] = [
    {"title": "Operate", "separator": False, "items": OPERATE},
    {"title": "Routing", "separator": True, "items": ROUTING},
    {"title": "Providers", "separator": True, "items": PROVIDERS},
    {"title": "Access", "separator": True, "items": ACCESS},
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Router Platform",
    "SITE_HEADER": "Router Platform",
    "SITE_SUBHEADER": "LLM gateway",
    "SITE_SYMBOL": "hub",
    "SITE_URL": "/dashboards/",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("favicon.svg")}],
    "ENVIRONMENT": "routerplatform.navigation.environment",
    "DASHBOARD_CALLBACK": "routerplatform.admin_index.overview",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "7px",
    "COLORS": {"primary": TEAL, "base": SLATE},
    "STYLES": [lambda request: static("css/admin.css")],
    "COMMAND": {"search_models": True},
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "show_all_applications": False,
        "navigation": "routerplatform.admin_index.sidebar",
    },
}
