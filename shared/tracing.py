"""OpenTelemetry traces (off by default): a job is a trace, each image a span with one span a stage.

The trace id and the root span id are derived from the job's id, so they need not be stored or sent
along, and the trace of a job can be found by its id. OpenTelemetry's own variables
(OTEL_EXPORTER_OTLP_ENDPOINT, …) set the destination.
"""

import uuid
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from structlog.contextvars import get_contextvars

from shared.errors import SetupError
from shared.settings import Settings

LOW_64 = (1 << 64) - 1


class StageSpan(NamedTuple):
    """The time span of a stage, in nanoseconds since 1970."""

    name: str
    started_ns: int
    ended_ns: int


@dataclass
class _Open:
    """An open tracer and its provider."""

    provider: Any = None
    tracer: Any = None


_open = _Open()
_root_of: ContextVar[uuid.UUID | None] = ContextVar("root_of", default=None)
"""The job whose root span is being created."""


def open_tracing(settings: Settings, process: str) -> Callable[[], None]:
    """Start tracing if the settings ask for it; returns a function that flushes and closes.

    Raises SetupError if the packages are missing.
    """
    if not settings.traces:
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    except ImportError as error:
        raise SetupError(
            f"MATTING_TRACES is on and {error.name} is missing: pip install 'matting[otel]'"
        ) from error

    class JobIds(RandomIdGenerator):
        """An id generator that derives the ids of a root span from its job."""

        def generate_trace_id(self) -> int:
            job_id = _root_of.get()
            return job_id.int if job_id else super().generate_trace_id()

        def generate_span_id(self) -> int:
            job_id = _root_of.get()
            return job_id.int & LOW_64 if job_id else super().generate_span_id()

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"matting-{process}"}), id_generator=JobIds()
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _open.provider, _open.tracer = provider, provider.get_tracer("matting")
    return _close


def _close() -> None:
    provider, _open.provider, _open.tracer = _open.provider, None, None
    provider.shutdown()


def trace_job(job_id: uuid.UUID, images: int) -> None:
    """Record the root span of a job, within the request that submitted it."""
    if _open.tracer is None:
        return
    from opentelemetry.context import Context

    request = str(get_contextvars().get("request", ""))
    attributes = {"job": str(job_id), "images": images, "request": request}
    token = _root_of.set(job_id)
    try:
        _open.tracer.start_span("job", context=Context(), attributes=attributes).end()
    finally:
        _root_of.reset(token)


def trace_image(
    job_id: uuid.UUID, started_ns: int, stages: Iterable[StageSpan], attributes: dict[str, Any]
) -> None:
    """Record one attempt of an image, from its claim until now, with a span for each stage."""
    if _open.tracer is None:
        return
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        Status,
        StatusCode,
        TraceFlags,
        set_span_in_context,
    )

    root = SpanContext(
        job_id.int, job_id.int & LOW_64, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    parent = set_span_in_context(NonRecordingSpan(root))
    image = _open.tracer.start_span(
        "image", context=parent, start_time=started_ns, attributes=attributes
    )
    if attributes.get("code"):
        image.set_status(Status(StatusCode.ERROR, attributes["code"]))
    below = set_span_in_context(image)
    for stage in stages:
        span = _open.tracer.start_span(stage.name, context=below, start_time=stage.started_ns)
        span.end(stage.ended_ns)
    image.end()
