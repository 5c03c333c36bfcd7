"""What Prometheus reads from the API: its own counters, how requests fare, and the queue."""

import os
import re
import time
import uuid
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api.resources import Resources
from shared import job_store
from shared.errors import MattingError
from shared.queue import all_queues, lane_of, queue_lanes, queue_name
from shared.telemetry import REQUEST_SECONDS, get_logger

log = get_logger(__name__)

WARM = "matting_warm_workers"

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The client library's own variable: with it, `uvicorn --workers N` adds its processes up."""

REQUEST_ID = "X-Request-ID"
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER_METHOD, NO_ROUTE = "other", "none"
"""One label for all methods and routes that there are none of: callers choose them, and each label
stays in memory for good."""

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What of a caller's may go into the log."""


def exposition(resources: Resources) -> bytes:
    """Everything in Prometheus' text format."""
    own = REGISTRY
    if MULTIPROCESS in os.environ:
        own = CollectorRegistry()
        MultiProcessCollector(own)  # type: ignore[no-untyped-call]  # it has no types
    asked = CollectorRegistry(auto_describe=False)
    asked.register(_Waiting(resources))
    return generate_latest(own) + generate_latest(asked)


def queue_families() -> dict[str, GaugeMetricFamily]:
    """The families of `_Waiting`, with no samples yet, by their names."""
    labels = ["queue", "priority"]
    found = [
        GaugeMetricFamily(WARM, "Warm workers heard of."),
        GaugeMetricFamily(
            "matting_backlog_images", "Images of open jobs that wait, sent or not.", labels=labels
        ),
        GaugeMetricFamily("matting_running_images", "Images that workers hold.", labels=labels),
        GaugeMetricFamily(
            "matting_backlog_oldest_seconds",
            "Age of the oldest open job that waits.",
            labels=labels,
        ),
        GaugeMetricFamily(
            "matting_queue_depth", "Messages in Redis that no worker has taken.", labels=labels
        ),
        GaugeMetricFamily(
            "matting_queue_oldest_seconds", "Wait of the message taken next.", labels=labels
        ),
    ]
    return {family.name: family for family in found}


class _Waiting(Collector):
    """Asked at each scrape: what waits is the same whichever process answers. What can't be
    asked has no sample, since 0 would read as drained.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families without samples, so that registering does not ask Redis."""
        yield from queue_families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Asked when Prometheus scrapes."""
        families = queue_families()
        names = set(all_queues(self._resources.settings))
        try:
            with self._resources.database.transaction() as session:
                found = job_store.backlog(session)
                warm = len(
                    job_store.live_workers(session, stale_s=self._resources.settings.worker_stale_s)
                )
        except MattingError as error:
            log.warning("metrics-incomplete", code=error.code, detail=error.detail)
        else:
            names |= {queue_name(one.model) for one in found}
            yield from _backlog(found, families)
            families[WARM].add_metric([], warm)
            yield families[WARM]
        try:
            yield from self._lanes(sorted(names), families)
        except MattingError as error:
            log.warning("metrics-incomplete", code=error.code, detail=error.detail)

    def _lanes(
        self, names: list[str], families: dict[str, GaugeMetricFamily]
    ) -> Iterator[GaugeMetricFamily]:
        depth, oldest = families["matting_queue_depth"], families["matting_queue_oldest_seconds"]
        for lane in queue_lanes(self._resources.queue, names):
            depth.add_metric([lane.queue, lane.name], lane.messages)
            oldest.add_metric([lane.queue, lane.name], lane.oldest_s)
        yield depth
        yield oldest


def _backlog(
    found: list[job_store.Backlog], families: dict[str, GaugeMetricFamily]
) -> Iterator[GaugeMetricFamily]:
    images = families["matting_backlog_images"]
    held_images = families["matting_running_images"]
    oldest = families["matting_backlog_oldest_seconds"]
    sums: dict[tuple[str, str], list[float]] = {(queue_name(None), "normal"): [0, 0, 0]}
    for one in found:
        total = sums.setdefault((queue_name(one.model), lane_of(one.priority)), [0, 0, 0])
        total[0] += one.waiting
        total[1] += one.running
        total[2] = max(total[2], one.oldest_s)
    for key, (waiting, held, age_s) in sums.items():
        images.add_metric(key, waiting)
        held_images.add_metric(key, held)
        oldest.add_metric(key, age_s)
    yield from (images, held_images, oldest)


class RequestMetrics:
    """Times each request under its route's template (an id in a path must not become a label), and
    gives it an id that its log lines and its answer carry: the caller's own X-Request-ID, or one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if SAFE_ID.fullmatch(given) else uuid.uuid4().hex

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            with bound_contextvars(request=request_id):
                await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
            if not scope.get("path", "").endswith("/events"):  # a stream's length says nothing
                REQUEST_SECONDS.labels(method, route, str(status)).observe(
                    time.perf_counter() - started
                )
