"""The edge (deploy/caddy): what the internet reaches, with the real Caddy before stand-ins."""

import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from deploy.stack.processes import answers, free_port, start, wait_until
from shared.settings import Settings
from tests.http_servers import LocalHTTPServer

CADDYFILE = Path(__file__).parents[2] / "deploy" / "caddy" / "Caddyfile"
LIMIT_BYTES = 100_000

pytestmark = pytest.mark.skipif(
    not shutil.which("caddy") and os.environ.get("SERVER_TESTS") != "required",
    reason="caddy is not installed",
)

GO_ON = threading.Event()


class Upstream(BaseHTTPRequestHandler):
    """Answers with what reached it; for a job's events it sends one and waits."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        try:
            body = self.rfile.read(length)
        except OSError:
            return
        assert isinstance(self.server, LocalHTTPServer)
        seen = f"{self.server.server_port} {self.path} {self.headers['Host']} "
        seen += f"{self.headers['X-Forwarded-Proto']} {len(body)}"
        self.send_response(200)
        if self.path.endswith("/events"):
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            self.wfile.flush()
            GO_ON.wait(180)
            return
        self.send_header("Content-Length", str(len(seen)))
        self.end_headers()
        self.wfile.write(seen.encode())

    do_POST = do_PUT = do_GET  # noqa: N815  # the names that the standard library calls

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, int]]]:
    """Caddy with the file of deploy/caddy. Returns its HTTPS port, and the upstreams' ports."""
    folder = tmp_path_factory.mktemp("caddy")
    servers = {
        name: LocalHTTPServer(("127.0.0.1", 0), Upstream)
        for name in ("API", "S3", "FLOWER", "GRAFANA")
    }
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = {name: server.server_port for name, server in servers.items()}
    https = free_port()
    env = {
        **os.environ,
        **{name: f"127.0.0.1:{port}" for name, port in ports.items()},
        "DOMAIN": "photos.test",
        "TLS": "internal",
        "HTTP_PORT": str(free_port()),
        "HTTPS_PORT": str(https),
        "HEALTH_PORT": str(free_port()),
        "MATTING_MAX_REQUEST_BYTES": str(LIMIT_BYTES),
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    command = [shutil.which("caddy") or "caddy", "run", "--adapter", "caddyfile"]
    command += ["--config", str(CADDYFILE)]
    process = start("caddy", command, log=folder / "caddy.log", folder=folder, env=env)
    wait_until(lambda: answers(https), process, timeout_s=180)
    with httpx.Client(verify=False) as client:  # the certificate is of Caddy's own CA

        def issued() -> bool:
            try:
                return _ask(client, https, "photos.test", "/healthz").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(issued, process, timeout_s=180)
    yield https, ports
    process.stop(10)
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(verify=False, timeout=120) as client:
        yield client


def _ask(
    client: httpx.Client, port: int, host: str, path: str, *, method: str = "GET", body: bytes = b""
) -> httpx.Response:
    return client.request(
        method,
        f"https://127.0.0.1:{port}{path}",
        headers={"Host": host},
        content=body,
        extensions={"sni_hostname": host},
    )


def _status(client: httpx.Client, port: int, path: str) -> int:
    """The status alone: the body of a job's events does not end while the job goes on."""
    with client.stream(
        "GET",
        f"https://127.0.0.1:{port}{path}",
        headers={"Host": "photos.test"},
        extensions={"sni_hostname": "photos.test"},
    ) as answer:
        return answer.status_code


def test_every_public_route_is_reachable_and_internal_ones_are_not(
    edge: tuple[int, dict[str, int]], client: httpx.Client
) -> None:
    https, _ = edge
    routes = set(create_app(Settings()).openapi()["paths"])
    routes |= {"/", "/console/jobs", "/console/static/x.js", "/static-offline-docs/x.css"}
    hidden = {
        route
        for route in routes
        if _status(client, https, route.replace("{", "").replace("}", "")) != 200
    }
    assert hidden == {"/metrics", "/readyz"}
    for path in ("/metrics/", "//metrics", "/v1/../metrics", "/%6detrics", "/METRICS", "/readyz/"):
        answer = _ask(client, https, "photos.test", path)
        assert "metrics" not in answer.text.lower() or answer.status_code == 404, path
        assert "readyz" not in answer.text.lower(), path


def test_the_api_learns_that_the_caller_used_tls(
    edge: tuple[int, dict[str, int]], client: httpx.Client
) -> None:
    answer = _ask(client, edge[0], "photos.test", "/console/jobs")
    assert answer.text.split()[2:4] == ["photos.test", "https"], "session cookies become Secure"
    assert answer.headers["Strict-Transport-Security"]


def test_each_name_leads_to_its_part(
    edge: tuple[int, dict[str, int]], client: httpx.Client
) -> None:
    https, ports = edge
    for name, part in (("s3", "S3"), ("flower", "FLOWER"), ("grafana", "GRAFANA")):
        port, path, host, *_ = _ask(client, https, f"{name}.photos.test", "/a/b?c=d").text.split()
        assert (int(port), path) == (ports[part], "/a/b?c=d")
        assert host == f"{name}.photos.test", "presigned URLs are signed with it"


def test_a_body_has_the_api_s_limit_and_an_upload_to_s3_has_none(
    edge: tuple[int, dict[str, int]], client: httpx.Client
) -> None:
    https, _ = edge
    fits, large = b"x" * LIMIT_BYTES, b"x" * (LIMIT_BYTES + 1)
    sent = _ask(client, https, "photos.test", "/v1/jobs", method="POST", body=fits)
    assert sent.text.endswith(f" {LIMIT_BYTES}")
    refused = _ask(client, https, "photos.test", "/v1/jobs", method="POST", body=large)
    assert refused.status_code in (413, 502)
    stored = _ask(client, https, "s3.photos.test", "/matting/a", method="PUT", body=large)
    assert stored.text.endswith(f" {LIMIT_BYTES + 1}")


def test_a_job_s_events_arrive_at_once(
    edge: tuple[int, dict[str, int]], client: httpx.Client
) -> None:
    with client.stream(
        "GET",
        f"https://127.0.0.1:{edge[0]}/v1/jobs/1/events",
        headers={"Host": "photos.test", "Accept-Encoding": "gzip"},
        extensions={"sni_hostname": "photos.test"},
    ) as answer:
        assert next(answer.iter_lines()) == "data: 1", "while the job goes on"
        assert not GO_ON.is_set()
        GO_ON.set()
