"""OpenTelemetry traces, off by default: a job is a trace, each image a span with its stages below.

The trace's id is the job's, and the root's span id follows from it: so nothing has to be carried
through database and queue, and whoever knows a job finds its trace. Where traces go to is said by
OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, …).
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
    """A stage's time, in nanoseconds since 1970."""

    name: str
    started_ns: int
    ended_ns: int


@dataclass
class _Open:
    """What an open provider is used through; none while traces are off."""

    provider: Any = None
    tracer: Any = None


_open = _Open()
_root_of: ContextVar[uuid.UUID | None] = ContextVar("root_of", default=None)
"""The job whose root span is being made."""


def open_tracing(settings: Settings, process: str) -> Callable[[], None]:
    """Begin to trace, if settings say so; returns what sends the last spans and ends it.

    Raises SetupError without the packages.
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
        """A job's root span has the ids that follow from the job."""

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
    """The root of a job's trace, with the request that brought it."""
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
    """An image's try, from its claim to now, and its stages below it."""
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
