"""A job's trace as a collector receives it: one id from the request to the stored object."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from structlog.contextvars import bound_contextvars

from shared.database import Database
from shared.settings import Settings
from shared.storage import Storage
from shared.tracing import open_tracing, trace_job
from tests.http_servers import LocalHTTPServer
from tests.integration.test_batch_runner import Threshold, submit
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.pipeline.pipeline import Pipeline


class Collector(LocalHTTPServer):
    """An OTLP collector that keeps all spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.lines: list[Any] = []


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/logs":
            for lines in ExportLogsServiceRequest.FromString(body).resource_logs:
                for of_logger in lines.scope_logs:
                    self.server.lines.extend(of_logger.log_records)
            self.send_response(200)
            self.end_headers()
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_job_is_a_trace_and_its_id_the_trace_id(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes, collector: Collector
) -> None:
    settings = settings.model_copy(update={"traces": True})
    job_id, messages = submit(database, storage, {"a.jpg": jpeg, "cut.jpg": jpeg[:200]})
    close = open_tracing(settings, "tests")
    with bound_contextvars(request="r-1"):
        trace_job(job_id, 2)
    pipeline = Pipeline(Threshold(), storage, settings)
    BatchRunner(database, pipeline, settings, "tests-1", CircuitBreaker(storage.ping)).run_many(
        messages
    )
    pipeline.close()
    close()

    spans = {span.span_id: span for span in collector.spans}
    assert {span.trace_id for span in spans.values()} == {job_id.bytes}
    [root] = [span for span in spans.values() if not span.parent_span_id]
    assert (root.name, _attributes(root)["request"]) == ("job", "r-1")
    images = {
        _attributes(span)["file"]: span
        for span in spans.values()
        if span.parent_span_id == root.span_id
    }
    assert set(images) == {"a.jpg", "cut.jpg"}
    assert _stages(spans, images["a.jpg"]) == ["fetch", "decode", "predict", "finish", "store"]
    assert _stages(spans, images["cut.jpg"]) == ["fetch", "decode"]
    assert _attributes(images["cut.jpg"])["code"] == images["cut.jpg"].status.message != ""
    for span in spans.values():
        assert span.start_time_unix_nano <= span.end_time_unix_nano


def test_tracing_is_off_by_default(settings: Settings, collector: Collector) -> None:
    from uuid import uuid4

    close = open_tracing(settings, "tests")
    trace_job(uuid4(), 1)
    close()
    assert collector.spans == []


def _attributes(span: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


def _stages(spans: dict[bytes, Any], image: Any) -> list[str]:
    own = [span for span in spans.values() if span.parent_span_id == image.span_id]
    return [span.name for span in sorted(own, key=lambda span: span.start_time_unix_nano)]


def test_a_log_line_is_sent_with_its_fields_and_the_trace_of_its_job(collector: Collector) -> None:
    code = (
        "import logging\n"
        "from shared.settings import Settings\n"
        "from shared.telemetry import configure_logging, get_logger\n"
        "configure_logging(Settings(log_otlp=True))\n"
        "get_logger('worker').warning('image-failed', job='{0}', attempt=2, api_key='mtk_x')\n"
        "logging.getLogger('library').error('plain %s', 'words')\n"
    )
    job = "01890a5d-ac96-774b-bcce-b302099a8057"
    subprocess.run([sys.executable, "-c", code.format(job)], check=True, capture_output=True)
    ours, plain = collector.lines
    assert ours.body.string_value == "image-failed"
    assert ours.severity_text == "WARNING"
    assert ours.trace_id == uuid.UUID(job).bytes, "the trace of the job"
    fields = {one.key: one.value for one in ours.attributes}
    assert fields["attempt"].int_value == 2
    assert fields["api_key"].string_value == "***"
    assert plain.body.string_value == "plain words"
