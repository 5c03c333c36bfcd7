"""Structured logs and Prometheus metrics: constant event names, data in fields."""

import logging
import sys
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

from shared.otlp_logs import otlp_handler
from shared.settings import Settings

IMAGES = Counter(
    "matting_images", "Images that succeeded or failed, with the error code.", ["status", "code"]
)
RETRIES = Counter("matting_retries", "Attempts that will be repeated, by error code.", ["code"])
REDELIVERIES = Counter(
    "matting_redeliveries", "Messages whose image was finished or held by another worker."
)
BATCH_IMAGES = Histogram(
    "matting_batch_images", "Images per claimed batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
STAGE_SECONDS = Histogram(
    "matting_stage_seconds",
    "Time that a photo spends in a stage. Clips are not counted.",
    ["stage"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
PREDICT_IMAGES = Histogram(
    "matting_predict_images",
    "Images per forward pass.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
PADDING = Histogram(
    "matting_padding_ratio",
    "Share of a network input that is padding.",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1),
)
DEVICE_BUSY_SECONDS = Counter(
    "matting_device_busy_seconds",
    "Time that the worker's own networks computed, summed over streams; not Triton's.",
)
TRITON_WAIT_SECONDS = Counter(
    "matting_triton_wait_seconds",
    "Time that requests to a Triton server took, its queue included, summed over requests.",
)
PREDICT_STREAMS = Gauge(
    "matting_predict_streams",
    "Networks that the worker runs in parallel; 0 with Triton.",
    multiprocess_mode="livesum",
)
REUSED = Counter("matting_results_reused", "Images whose earlier result was copied.")
NEEDS_REVIEW = Counter(
    "matting_needs_review", "Results that were marked for review, by reason.", ["reason"]
)
SECOND_OPINIONS = Counter(
    "matting_second_opinions",
    "Doubtful images that a second model was asked about, by what became of them.",
    ["model", "outcome"],
)
PREDICTOR_WARM = Gauge(
    "matting_predictor_warm",
    "1 while the predictor is warm and takes work.",
    multiprocess_mode="livesum",
)
RECONCILED = Counter(
    "matting_reconciled", "Items that the reconciler put back, by cause.", ["action"]
)
WEBHOOKS = Counter(
    "matting_webhook_deliveries", "Webhook delivery attempts, by outcome.", ["outcome"]
)
REQUEST_SECONDS = Histogram(
    "matting_request_seconds",
    "Time of a request, to the end of its response.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

_SECRETS = ("secret", "password", "authorization", "api_key", "token")


def configure_logging(settings: Settings) -> None:
    """Write records of this service and of all libraries in one format to standard error."""
    shared_steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default traceback prints all local variables, including keys and passwords in
            # URLs.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    last_steps: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta
    ]
    if settings.log_format == "json":
        last_steps.append(structlog.processors.format_exc_info)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared_steps, processors=[*last_steps, renderer]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    if settings.log_otlp:
        root.addHandler(otlp_handler())
    root.setLevel(settings.log_level)
    # These libraries log at INFO what this service's own events already say.
    for name in ("botocore", "boto3", "urllib3", "httpx", "celery.worker.strategy", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared_steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose records consist of an event name and fields."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _hide_secrets(
    _logger: Any, _method: str, record: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace the value of every field whose name suggests a secret."""
    for name in record:
        if any(secret in name.lower() for secret in _SECRETS):
            record[name] = "***"
    return record
