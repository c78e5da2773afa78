"""`GET /api/v1/stats`: what was used, how well it went and what it cost, for a key's team or for signed-in people."""

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import DatabaseError
from django.http import Http404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.domain.rollup import Stretch
from analytics.selectors.stats import Stats, Use, usage_stats
from routerplatform.doors import schema
from routerplatform.doors.rest import GatewayView, credential
from routerplatform.gateway.errors import InvalidRequest, Unavailable
from routerplatform.gateway.pipeline import current_config
from routing.access import access_team, sees_every_team, teams_of
from routing.domain.config import Scope
from routing.models import Team

USUAL: Final = timedelta(days=30)
EVER: Final = "all"
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before any request
END: Final = datetime(2101, 1, 1, tzinfo=UTC)
NANO: Final = 1e9
_LAST: Final = re.compile(r"([1-9]\d{0,3})([hd])")

EXAMPLE = OpenApiExample(
    "A team's month",
    value={
        "object": "stats", "since": "2026-10-22T17:00:00Z", "until": "2026-11-21T17:00:00Z", "team": "support",
        "total_cost": 12.403118, "avg_latency": 1184.2, "success_rate": 0.9962,
        "model_usage": {
            "swift": {
                "requests": 8120, "cost": 2.200118, "tokens": 4410220, "avg_latency": 610.5, "success_rate": 0.9989,
                "unpriced_requests": 0,
            },
        },
        "requests": 9410, "failed_requests": 36, "unpriced_requests": 0, "tokens": 5830114, "input_tokens": 4010022,
        "cache_read_input_tokens": 210400, "cache_creation_input_tokens": 0, "output_tokens": 1609692,
    },
    response_only=True, status_codes=["200"],
)  # fmt: skip


class StatsView(GatewayView):
    """Also signed-in people are let in."""

    authentication_classes = (SessionAuthentication,)  # type: ignore[assignment]  # the base has none

    @extend_schema(
        operation_id="stats",
        parameters=[
            OpenApiParameter("last", OpenApiTypes.STR, description="24h, 7d, … or all; by default 30d."),
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="Or from when; UTC where no zone is given."),
            OpenApiParameter("until", OpenApiTypes.DATETIME, description="Up to when, this moment left out: now."),
            OpenApiParameter("team", OpenApiTypes.STR, description="Only this team, by its slug."),
        ],
        responses={200: schema.StatsSerializer, **schema.ERRORS},
        summary="Usage figures",
        tags=["Usage"],
        description="Cost, latency and success rate over the requests that came in during a stretch of time. A key "
        "needs the scope `usage` and sees its team; a signed-in person sees their teams.",
        examples=[EXAMPLE],
    )
    def get(self, request: Request) -> Response:
        teams, slug = self._teams(request)
        asked = {name: request.query_params.get(name, "") for name in ("last", "since", "until")}
        span = span_of(asked, now=timezone.now())
        try:
            stats = usage_stats(team_ids=teams, span=span)
        except DatabaseError as error:
            raise Unavailable(
                "Figures cannot be read now: the database does not answer. Try again in a moment."
            ) from error
        return Response(stats_json(stats, span, slug))

    def _teams(self, request: Request) -> tuple[Collection[int] | None, str | None]:
        """The ids of the teams whose figures these are (None: all), and the slug of the one that they are narrowed to.

        :raises Unauthenticated, Forbidden: neither a key with the scope `usage` nor a signed-in person.
        :raises InvalidRequest: there is no such team, or it is none of the caller's.
        """
        person, presented, slug = request.user, credential(request), request.query_params.get("team", "")
        if person.is_authenticated and not presented:
            if slug:
                try:
                    return [access_team(person, slug).pk], slug
                except Http404:
                    raise _no_team(slug) from None
            every = sees_every_team(person)
            return (None if every else list(teams_of(person).values_list("pk", flat=True))), None
        runtime = self.runtime(request)
        caller = runtime.authenticator.caller(current_config(runtime), presented, now=runtime.now(), scope=Scope.USAGE)
        own = Team.objects.filter(pk=caller.team_id).values_list("slug", flat=True).first()
        if slug and slug != own:
            raise _no_team(slug)
        return [caller.team_id], own


def _no_team(slug: str) -> InvalidRequest:
    return InvalidRequest(f"You see no team “{slug[:60]}”. Leave “team” out for all that you may see.", param="team")


def span_of(asked: dict[str, str], *, now: datetime) -> Stretch:
    """The stretch that `last`, or `since` and `until`, ask for; by default the last 30 days.

    :raises InvalidRequest: it cannot be read; `param` names it.
    """
    last = asked["last"]
    if last:
        if asked["since"] or asked["until"]:
            raise InvalidRequest("Send “last”, or “since” and “until”, not both.", param="last")
        if last == EVER:
            return Stretch(BEGINNING, now)
        found = _LAST.fullmatch(last)
        if found is None:
            raise InvalidRequest(f"“{last[:40]}” is no stretch of time: say 24h, 7d or all.", param="last")
        hours = int(found[1]) * (24 if found[2] == "d" else 1)
        return Stretch(now - timedelta(hours=hours), now)
    until = _moment(asked, "until") or now
    since = _moment(asked, "since") or until - USUAL
    if since >= until:
        raise InvalidRequest("“since” must lie before “until”.", param="since")
    return Stretch(since, until)


def _moment(asked: dict[str, str], name: str) -> datetime | None:
    text = asked[name]
    if not text:
        return None
    if "T" in text and text[-6:-5] == " ":
        text = f"{text[:-6]}+{text[-5:]}"  # a plus sign that was not escaped
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        moment = END
    if not BEGINNING <= moment < END:
        raise InvalidRequest(f"“{text[:40]}” is no moment: write it as 2026-03-10T12:00:00Z.", param=name)
    return moment


def stats_json(stats: Stats, span: Stretch, team: str | None) -> dict[str, Any]:
    """As the API tells it. Money is USD, times are milliseconds."""
    total, sums = stats.total, stats.total.sums
    return {
        "object": "stats",
        "since": None if span.begins_at == BEGINNING else span.begins_at,
        "until": span.ends_before,
        "team": team,
        "total_cost": sums.cost_nano / NANO,
        "avg_latency": total.avg_latency_ms,
        "success_rate": total.success_rate,
        "model_usage": {model: _model_json(use) for model, use in stats.by_model.items()},
        "requests": sums.requests,
        "failed_requests": sums.errors,
        "unpriced_requests": sums.unpriced,
        "tokens": sums.tokens,
        "input_tokens": sums.input_tokens,
        "cache_read_input_tokens": sums.cache_read_input_tokens,
        "cache_creation_input_tokens": sums.cache_creation_input_tokens,
        "output_tokens": sums.output_tokens,
    }


def _model_json(use: Use) -> dict[str, Any]:
    return {
        "requests": use.sums.requests,
        "cost": use.sums.cost_nano / NANO,
        "tokens": use.sums.tokens,
        "avg_latency": use.avg_latency_ms,
        "success_rate": use.success_rate,
        "unpriced_requests": use.sums.unpriced,
    }
