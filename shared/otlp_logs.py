"""Log lines by OTLP (off by default): each line is a record whose trace is that of its job.

OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, …) set destination
and name.
"""

import logging
import uuid
from typing import Any

from shared.errors import SetupError

OWN = ("opentelemetry", "urllib3", "requests")
"""Loggers of the exporter itself: their lines would make further lines."""

SHOWN_ELSEWHERE = frozenset({"event", "level", "timestamp", "logger", "_record", "_from_structlog"})


def otlp_handler() -> logging.Handler:
    """A handler that sends every record, in the background. Raises SetupError if the packages are
    missing.
    """
    try:
        from opentelemetry._logs import LogRecord, SeverityNumber
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.resources import Resource
    except ImportError as error:
        raise SetupError(
            f"MATTING_LOG_OTLP is on and {error.name} is missing: pip install 'matting[otel]'"
        ) from error

    severities = {
        logging.DEBUG: SeverityNumber.DEBUG,
        logging.INFO: SeverityNumber.INFO,
        logging.WARNING: SeverityNumber.WARN,
        logging.ERROR: SeverityNumber.ERROR,
        logging.CRITICAL: SeverityNumber.FATAL,
    }
    provider = LoggerProvider(resource=Resource.create({"service.name": "matting"}))
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logger = provider.get_logger("matting")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.startswith(OWN):
                return
            fields: dict[str, Any] = record.msg if isinstance(record.msg, dict) else {}
            logger.emit(
                LogRecord(
                    timestamp=int(record.created * 1e9),
                    trace_id=_trace_id(fields.get("job")),
                    severity_text=record.levelname,
                    severity_number=severities.get(record.levelno, SeverityNumber.UNSPECIFIED),
                    body=str(fields.get("event", "")) or record.getMessage(),
                    attributes={"logger": record.name, **_attributes(fields)},
                )
            )

        def close(self) -> None:
            provider.shutdown()
            super().close()

    return Handler()


def _trace_id(job: object) -> int | None:
    """A job's trace has the job's id (shared.tracing)."""
    try:
        return uuid.UUID(str(job)).int if job else None
    except ValueError:
        return None


def _attributes(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in fields.items()
        if name not in SHOWN_ELSEWHERE and value is not None
    }
