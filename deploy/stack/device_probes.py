"""The probes and metrics of several workers of one machine, answered on one port.

`/readyz` is 200 when all workers are warm, `/healthz` when none hangs. `/metrics` has the metrics
of all workers, with the label `worker`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from deploy.stack.device_workers import DeviceWorker

TIMEOUT_S = 3.0


class MergedMetrics(Collector):
    """The metrics of all workers that answer."""

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        """`texts`: a worker's name and its `/metrics`."""
        self._texts = list(texts)

    def collect(self) -> Iterator[Metric]:
        """One family for each name, with the samples of every worker."""
        families: dict[str, Metric] = {}
        for name, text in self._texts:
            for found in text_string_to_metric_families(text):
                family = families.setdefault(
                    found.name, Metric(found.name, found.documentation, found.type)
                )
                for sample in found.samples:
                    labels = {**sample.labels, "worker": name}
                    family.samples.append(sample._replace(labels=labels))
        yield from families.values()


def merged(texts: Iterable[tuple[str, str]]) -> bytes:
    """The metrics of several workers as one text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MergedMetrics(texts))
    return generate_latest(registry)


def serve_probes(workers: Sequence[DeviceWorker], port: int) -> ThreadingHTTPServer:
    """Start listening on a port of every address; close the server to stop. Raises OSError."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/metrics":
                answers = ((one.name, _ask(one, "/metrics")) for one in workers)
                body = merged((name, said.text) for name, said in answers if said is not None)
                self._send(200, CONTENT_TYPE_LATEST, body)
            elif self.path in ("/healthz", "/readyz"):
                said = {one.name: _ask(one, self.path) for one in workers}
                good = all(one is not None and one.status_code == 200 for one in said.values())
                states = {
                    name: one.json()["status"] if one is not None else "no answer"
                    for name, one in said.items()
                }
                text = json.dumps({"status": "ok" if good else "not all", "workers": states})
                self._send(200 if good else 503, "application/json", text.encode())
            else:
                self._send(404, "text/plain", b"")

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: probes arrive every few seconds."""

    server = ThreadingHTTPServer(("", port), Handler)
    Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server


def _ask(worker: DeviceWorker, path: str) -> httpx.Response | None:
    try:
        return httpx.get(worker.url + path, timeout=TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return None
