"""The API's Prometheus metrics: its own counters, the duration of requests, and the queue."""

import re
import time
import uuid
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api.background.system_facts import SystemFacts
from shared import job_store
from shared.errors import MattingError
from shared.queue import Lane, lane_of, queue_name
from shared.telemetry import REQUEST_SECONDS, get_logger

log = get_logger(__name__)

WARM = "matting_warm_workers"

REQUEST_ID = "X-Request-ID"
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER_METHOD, NO_ROUTE = "other", "none"
"""Unknown methods and routes share one label. Callers choose them, and each label stays in memory
forever.
"""

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A caller's request id that is safe to log."""


async def exposition(facts: SystemFacts) -> bytes:
    """All metrics in Prometheus' text format. The backlog is the same in every process. An unknown
    value has no sample, because 0 would mean an empty queue.
    """
    families = queue_families()
    found: list[GaugeMetricFamily] = []
    try:
        stored = await facts.stored.get()
        found += _backlog(stored.backlog, families)
        families[WARM].add_metric([], len(stored.workers))
        found.append(families[WARM])
    except MattingError as error:
        log.warning("metrics-incomplete", code=error.code, detail=error.detail)
    try:
        found += _lanes(await facts.lanes.get(), families)
    except MattingError as error:
        log.warning("metrics-incomplete", code=error.code, detail=error.detail)
    asked = CollectorRegistry(auto_describe=False)
    asked.register(_Given(found))
    return await facts.counters.get() + generate_latest(asked)


def queue_families() -> dict[str, GaugeMetricFamily]:
    """The metric families that are read from other services, by name, without samples."""
    labels = ["queue", "priority"]
    found = [
        GaugeMetricFamily(WARM, "Warm workers with a recent heartbeat."),
        GaugeMetricFamily(
            "matting_backlog_images",
            "Images of unfinished jobs that no worker has started.",
            labels=labels,
        ),
        GaugeMetricFamily(
            "matting_running_images", "Images that workers process now.", labels=labels
        ),
        GaugeMetricFamily(
            "matting_backlog_oldest_seconds",
            "Age of the oldest job that has waiting images.",
            labels=labels,
        ),
        GaugeMetricFamily(
            "matting_queue_depth", "Messages in Redis that no worker has received.", labels=labels
        ),
        GaugeMetricFamily(
            "matting_queue_oldest_seconds", "How long the next message has waited.", labels=labels
        ),
    ]
    return {family.name: family for family in found}


class _Given(Collector):
    """A collector of samples that were read before."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the samples."""
        return iter(self._families)


def _lanes(
    lanes: list[Lane], families: dict[str, GaugeMetricFamily]
) -> Iterator[GaugeMetricFamily]:
    depth, oldest = families["matting_queue_depth"], families["matting_queue_oldest_seconds"]
    for lane in lanes:
        depth.add_metric([lane.queue, lane.name], lane.messages)
        oldest.add_metric([lane.queue, lane.name], lane.oldest_s)
    yield from (depth, oldest)


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
    """ASGI middleware. It measures each request under the template of its route (an id in a path
    must not become a label), and gives it an id for its log lines and its response: the caller's
    X-Request-ID, or a new one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request."""
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
            # the duration of a stream means nothing
            if not scope.get("path", "").endswith("/events"):
                REQUEST_SECONDS.labels(method, route, str(status)).observe(
                    time.perf_counter() - started
                )
