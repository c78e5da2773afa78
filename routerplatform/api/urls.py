"""The addresses of the REST API, and its documentation."""

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from routerplatform.api.batches import BatchCancelView, BatchesView, BatchLinesView, BatchResultsView, BatchView
from routerplatform.api.budgets import BudgetsView, BudgetView
from routerplatform.api.catalogue import HealthView, PersonasView, ProvidersView
from routerplatform.api.explain import ExplainView
from routerplatform.api.feedback import FeedbackView
from routerplatform.api.replays import (
    PolicyReplayView,
    ReplayCancelView,
    ReplayCsvView,
    ReplayDialView,
    ReplayView,
)
from routerplatform.api.stats import StatsView
from routerplatform.api.templates import TemplatesView
from routerplatform.doors.rest import error_response
from routerplatform.doors.rest_chat import ChatView, CompleteView, MessageView, RouteView
from routerplatform.gateway.errors import UnknownAddress
from routerplatform.gateway.ids import new_request_id

# Swagger's page writes its icons' styles into the document itself
docs = csp_replace({"style-src": [SELF, UNSAFE_INLINE]})(SpectacularSwaggerSplitView.as_view(url_name="api-schema"))


@csrf_exempt
def unknown(request: HttpRequest) -> HttpResponse:
    """What is not there is told to programs in the API's own shape, not as a page."""
    return error_response(UnknownAddress(request.path), new_request_id())


urlpatterns = [
    path("api/v1/chat", ChatView.as_view(), name="api-chat"),
    path("api/v1/route", RouteView.as_view(), name="api-route"),
    path("api/v1/stats", StatsView.as_view(), name="api-stats"),
    path("api/v1/route/explain", ExplainView.as_view(), name="api-explain"),
    path("api/v1/batch", BatchesView.as_view(), name="api-batches"),
    path("api/v1/batch/<uuid:id>", BatchView.as_view(), name="api-batch"),
    path("api/v1/batch/<uuid:id>/results", BatchResultsView.as_view(), name="api-batch-results"),
    path("api/v1/batch/<uuid:id>/results.jsonl", BatchLinesView.as_view(), name="api-batch-lines"),
    path("api/v1/batch/<uuid:id>/cancel", BatchCancelView.as_view(), name="api-batch-cancel"),
    path("api/v1/feedback", FeedbackView.as_view(), name="api-feedback"),
    path("api/v1/budgets", BudgetsView.as_view(), name="api-budgets"),
    path("api/v1/budgets/<int:id>", BudgetView.as_view(), name="api-budget"),
    path("api/v1/policies/<int:id>/replay", PolicyReplayView.as_view(), name="api-policy-replay"),
    path("api/v1/replays/<int:id>", ReplayView.as_view(), name="api-replay"),
    path("api/v1/replays/<int:id>/csv", ReplayCsvView.as_view(), name="api-replay-csv"),
    path("api/v1/replays/<int:id>/cancel", ReplayCancelView.as_view(), name="api-replay-cancel"),
    path("api/v1/replays/<int:id>/dial", ReplayDialView.as_view(), name="api-replay-dial"),
    path("api/v1/manage/", include("routerplatform.api.management.urls")),
    path("api/v1/personas", PersonasView.as_view(), name="api-personas"),
    path("api/v1/providers", ProvidersView.as_view(), name="api-providers"),
    path("api/v1/templates", TemplatesView.as_view(), name="api-templates"),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("api/v1/docs/", docs, name="api-docs"),
    path("chat/", MessageView.as_view(), name="chat-message"),
    path("chat", MessageView.as_view()),
    path("v1/complete", CompleteView.as_view(), name="complete"),
    path("health", HealthView.as_view(), name="health"),
]
