"""What Prometheus reads from the API: its own counters, how requests fare, and the queue."""

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
"""One label for all methods and routes that there are none of: callers choose them, and each label
stays in memory for good."""

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What of a caller's may go into the log."""


async def exposition(facts: SystemFacts) -> bytes:
    """Everything in Prometheus' text format. What waits is the same whichever process answers; what
    can't be found out has no sample, since 0 would read as drained.
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
    """The families of what is asked of other parts, with no samples yet, by their names."""
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
    """Samples that are there already."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Them."""
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
