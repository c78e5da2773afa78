"""Batches over HTTP: answered at once, or kept for the workers and asked about by their id.

A key with the scope `chat` sends them, and sees all those of its team; any other batch is not found.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Final
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from routerplatform.api.budgets import number
from routerplatform.batches.selectors import batch_told, batches_after, batches_of, results_all, results_page
from routerplatform.batches.services import batch_cancel, batch_create
from routerplatform.batches.telling import answer_told
from routerplatform.doors import schema
from routerplatform.doors.batch import answered_for
from routerplatform.doors.batch_items import Said
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.batch import Batch, Bounds, parse
from routerplatform.doors.hints import hints_of
from routerplatform.doors.idempotency import tell_whole
from routerplatform.doors.rest import LIFETIME, GatewayView, credential, request_id
from routerplatform.gateway.errors import InvalidRequest, Unavailable, UnknownAddress
from routerplatform.gateway.pipeline import current_config
from routerplatform.gateway.response_cache import HEADER as CACHE_HEADER
from routerplatform.gateway.runtime import Runtime
from routerplatform.models import BatchJob
from routerplatform.tasks import batches_queue
from routing.domain.config import Caller, Scope

PAGE: Final = 50
LARGEST_PAGE: Final = 200
LINES_AT_ONCE: Final = 50


class BatchRequestSerializer(serializers.Serializer[Any]):
    requests = serializers.ListField(
        child=serializers.DictField(),
        required=False,
        help_text="Chats as /api/v1/chat takes them, or with `prompt` for one message; `custom_id` is yours.",
    )
    prompts = serializers.ListField(child=serializers.CharField(), required=False, help_text="Or texts, a chat each.")
    max_parallel = serializers.IntegerField(required=False, min_value=1, help_text="Chats asked at a time; usually 8.")
    background = serializers.BooleanField(
        required=False, help_text="true: a worker asks them. By default only when there are many."
    )
    model = serializers.CharField(required=False, help_text="This and any other field holds for every chat.")
    persona = serializers.CharField(required=False)


class BatchErrorSerializer(schema.ErrorDetailSerializer):
    status = serializers.IntegerField(help_text="The HTTP status that the chat would have had by itself.")
    retry_after_s = serializers.FloatField(required=False)
    details = serializers.DictField(required=False)


class BatchResultSerializer(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    custom_id = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(choices=["waiting", "running", "ok", "error", "cancelled"])
    request_id = serializers.UUIDField(allow_null=True)
    earlier_request_ids = serializers.ListField(child=serializers.UUIDField(), required=False)
    response = schema.ChatAnswerSerializer(required=False)
    error = BatchErrorSerializer(required=False)


class BatchCountsSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    ok = serializers.IntegerField()
    error = serializers.IntegerField()


class BatchJobCountsSerializer(BatchCountsSerializer):
    cancelled = serializers.IntegerField()
    left = serializers.IntegerField()


class BatchAnswerSerializer(serializers.Serializer[Any]):
    object = serializers.ChoiceField(choices=["batch"])
    counts = BatchCountsSerializer()
    total_cost = serializers.FloatField(help_text="USD, of all that is priced.")
    total_cost_usd = serializers.CharField(help_text="The same, exactly.")
    unpriced = serializers.IntegerField(help_text="Requests of unknown price: not in the cost.")
    usage = schema.TokensSerializer()
    results = BatchResultSerializer(many=True)


class BatchJobErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()


class BatchJobSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    object = serializers.ChoiceField(choices=["batch.job"])
    state = serializers.ChoiceField(choices=["waiting", "running", "done", "failed", "cancelled"])
    error = BatchJobErrorSerializer(allow_null=True, help_text="Why it ended early.")
    max_parallel = serializers.IntegerField()
    counts = BatchJobCountsSerializer()
    total_cost = serializers.FloatField(help_text="USD so far, of all that is priced.")
    total_cost_usd = serializers.CharField(help_text="The same, exactly.")
    unpriced = serializers.IntegerField()
    usage = schema.TokensSerializer()
    seconds_left = serializers.FloatField(allow_null=True, help_text="By the pace so far; null: nobody can tell yet.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    deadline_at = serializers.DateTimeField()


class BatchJobListSerializer(serializers.Serializer[Any]):
    object = serializers.ChoiceField(choices=["list"])
    data = BatchJobSerializer(many=True)  # type: ignore[assignment]  # declared fields do not stay attributes
    has_more = serializers.BooleanField()


class BatchResultListSerializer(serializers.Serializer[Any]):
    object = serializers.ChoiceField(choices=["list"])
    data = BatchResultSerializer(many=True)  # type: ignore[assignment]  # declared fields do not stay attributes
    has_more = serializers.BooleanField()


class _ForKeys(GatewayView):
    """For virtual keys that may chat."""

    def who(self, request: Request) -> Caller:
        """:raises Unauthenticated, Forbidden:"""
        runtime = self.runtime(request)
        snapshot = current_config(runtime)
        return runtime.authenticator.caller(snapshot, credential(request), now=runtime.now(), scope=Scope.CHAT)

    def job(self, request: Request, id: UUID) -> BatchJob:
        """:raises UnknownAddress: there is none, or it is another team's."""
        job = batches_of(self.who(request).team_id).filter(pk=id).first()
        if job is None:
            raise UnknownAddress(request.path)
        return job

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, DatabaseError):
            exc = Unavailable("Batches cannot be reached now: the database does not answer. Try again in a moment.")
        return super().handle_exception(exc)


class BatchesView(_ForKeys):
    @extend_schema(
        operation_id="batches_send",
        request=BatchRequestSerializer,
        responses={200: BatchAnswerSerializer, 202: BatchJobSerializer, **schema.ERRORS},
        summary="Ask many chats",
        tags=["Batches"],
        description="Each chat is a request of its own, with its own record, limits, budget and cache. A few are "
        "answered at once, in their order, with 200 also where some failed; many, or with `background: true`, are kept "
        "for the workers: 202, and the address of the batch is to be asked about them.",
        examples=[
            OpenApiExample(
                "Prompts for one persona",
                value={"prompts": ["Summarise: …", "Translate: …"], "persona": "chatbot", "max_parallel": 4},
                request_only=True,
            ),
            OpenApiExample(
                "Different chats, in the background",
                value={
                    "requests": [
                        {"custom_id": "a", "prompt": "Hello!"},
                        {"custom_id": "b", "model": "auto", "messages": [{"role": "user", "content": "Hi!"}]},
                    ],
                    "background": True,
                },
                request_only=True,
            ),
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        runtime, caller = self.runtime(request), self.who(request)
        bounds = Bounds(most_items=settings.BATCH_MAX_ITEMS, most_parallel=settings.BATCH_MAX_PARALLEL)
        batch = parse(request._request.body, bounds)
        if _is_for_workers(batch):
            job = batch_create(
                batch=batch, team_id=caller.team_id, key_id=caller.key_id, said=_said(request), now=timezone.now()
            )
            with suppress(DatabaseError):  # it is kept: a caller who heard of an error would send it again
                batches_queue()
            answer = Response(batch_told(job, now=timezone.now()), status=202)
            answer["location"] = f"{request.path}/{job.pk}"
        else:
            answer = Response(self._answered(request, runtime, batch))
        answer["x-request-id"] = request_id(request)
        tell_whole(_scope(request))
        return answer

    def _answered(self, request: Request, runtime: Runtime, batch: Batch) -> dict[str, Any]:
        items = async_to_sync(answered_for)(
            _scope(request).get(LIFETIME),
            runtime,
            batch,
            credential(request),
            _said(request),
            within_s=settings.REQUEST_TIMEOUT_S,
        )
        return answer_told(items)

    @extend_schema(
        operation_id="batches_list",
        parameters=[
            OpenApiParameter("limit", OpenApiTypes.INT, description=f"1 to {LARGEST_PAGE}; by default {PAGE}."),
            OpenApiParameter("starting_after", OpenApiTypes.UUID, description="The last batch of the page before."),
        ],
        responses={200: BatchJobListSerializer, **schema.ERRORS},
        summary="List batches",
        tags=["Batches"],
        description="The team’s batches that were sent to the workers, the latest first.",
    )
    def get(self, request: Request) -> Response:
        limit = number(request, "limit", PAGE, at_most=LARGEST_PAGE)
        jobs = batches_of(self.who(request).team_id)
        if after := request.query_params.get("starting_after", ""):
            jobs = batches_after(jobs, _last(jobs, after))
        rows = list(jobs[: limit + 1])
        told = [batch_told(job, now=timezone.now()) for job in rows[:limit]]
        return Response({"object": "list", "data": told, "has_more": len(rows) > limit})


class BatchView(_ForKeys):
    @extend_schema(
        operation_id="batches_read",
        responses={200: BatchJobSerializer, **schema.ERRORS},
        summary="Read a batch",
        tags=["Batches"],
    )
    def get(self, request: Request, id: UUID) -> Response:
        return Response(batch_told(self.job(request, id), now=timezone.now()))


class BatchResultsView(_ForKeys):
    @extend_schema(
        operation_id="batches_results",
        parameters=[
            OpenApiParameter("limit", OpenApiTypes.INT, description=f"1 to {LARGEST_PAGE}; by default {PAGE}."),
            OpenApiParameter("starting_after", OpenApiTypes.INT, description="The last index of the page before."),
        ],
        responses={200: BatchResultListSerializer, **schema.ERRORS},
        summary="Read a batch’s results",
        tags=["Batches"],
        description="Every chat in its order; `status` says of each whether it is over.",
    )
    def get(self, request: Request, id: UUID) -> Response:
        job = self.job(request, id)
        limit = number(request, "limit", PAGE, at_most=LARGEST_PAGE)
        after = number(request, "starting_after", -1, at_least=0, at_most=2**31 - 1)
        rows = results_page(job.pk, after=after, limit=limit + 1)
        return Response({"object": "list", "data": rows[:limit], "has_more": len(rows) > limit})


class BatchLinesView(_ForKeys):
    @extend_schema(
        operation_id="batches_results_lines",
        responses={200: OpenApiResponse(OpenApiTypes.STR, "JSON Lines"), **schema.ERRORS},
        summary="Download a batch’s results",
        tags=["Batches"],
        description="All results, a JSON object a line.",
    )
    def get(self, request: Request, id: UUID) -> HttpResponseBase:
        job = self.job(request, id)
        blocks = _blocks(results_all(job.pk))
        # Django warns when an iterator is not of its server's own kind, and then reads it whole.
        content = _off_the_loop(blocks) if isinstance(request._request, ASGIRequest) else blocks
        response = StreamingHttpResponse(content, content_type="application/jsonl")
        response["content-disposition"] = f'attachment; filename="batch-{job.pk}.jsonl"'
        response["cache-control"] = "no-store"
        return response


class BatchCancelView(_ForKeys):
    @extend_schema(
        operation_id="batches_cancel",
        request=None,
        responses={200: BatchJobSerializer, **schema.ERRORS},
        summary="Cancel a batch",
        tags=["Batches"],
        description="What runs is stopped within two seconds and billed for what came; the rest is not asked. One that "
        "is over stays as it is.",
    )
    def post(self, request: Request, id: UUID) -> Response:
        job = self.job(request, id)
        batch_cancel(job_id=job.pk, now=timezone.now())
        job.refresh_from_db()
        return Response(batch_told(job, now=timezone.now()))


def _is_for_workers(batch: Batch) -> bool:
    """:raises InvalidRequest: it is to be answered at once, and too large for that."""
    is_large = len(batch.items) > settings.BATCH_INLINE_MAX
    if is_large and batch.background is False:
        raise InvalidRequest(
            f"Up to {settings.BATCH_INLINE_MAX} chats are answered at once. Leave “background” out, or send fewer.",
            param="background",
        )
    return is_large or batch.background is True


def _said(request: Request) -> Said:
    headers = request.headers
    hints = hints_of((name.lower().encode(), value.encode()) for name, value in headers.items())
    return Said(hints, headers.get(CACHE_HEADER, ""), headers.get("traceparent", ""))


def _scope(request: Request) -> dict[str, Any]:
    scope: dict[str, Any] = getattr(request._request, "scope", {})
    return scope


def _last(jobs: QuerySet[BatchJob], text: str) -> BatchJob:
    """:raises InvalidRequest: `text` is the id of none of these."""
    with suppress(ValueError):
        if last := jobs.filter(pk=UUID(text)).first():
            return last
    raise InvalidRequest("“starting_after” is the id of one of your batches.", param="starting_after")


def _blocks(rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    while some := list(islice(rows, LINES_AT_ONCE)):
        yield b"".join(encode(row) + b"\n" for row in some)


async def _off_the_loop(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(blocks, None))
    while (block := await following()) is not None:
        yield block
