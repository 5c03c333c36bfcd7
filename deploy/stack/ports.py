"""Addresses and ports of an embedded stack. The ports stay the same between two starts, so
bookmarks and links to results stay valid.
"""

import json
import socket
from pathlib import Path

from deploy.stack.processes import answers, free_port

LOOPBACK = "127.0.0.1"
WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104
"""Addresses that mean all of a machine's, and the one by which it reaches itself."""

PORTS_FILE = "ports.json"
NAMES = ("redis", "s3", "flower", "api")

ELSEWHERE = ("192.0.2.1", 9)
"""An address that is nobody's (RFC 5737). Nothing is sent there: the kernel only picks a route."""


def same_ports(data: Path) -> dict[str, int]:
    """The ports of the earlier start on this folder; a free one where one is in use by now."""
    try:
        earlier = {name: int(str(port)) for name, port in _read(data).items() if name in NAMES}
    except (OSError, ValueError, TypeError, AttributeError):
        earlier = {}
    ports: dict[str, int] = {}
    for name in NAMES:
        port = earlier.get(name)
        taken = port is None or port in ports.values() or answers(port)
        ports[name] = free_port() if taken or port is None else port
    return ports


def remember_ports(data: Path, ports: dict[str, int]) -> None:
    """Store the ports for the next start."""
    (data / PORTS_FILE).write_text(json.dumps(ports))


def own_address(host: str) -> str:
    """The address by which this machine reaches what listens on `host`."""
    return WILDCARDS.get(host, host)


def network_address(host: str) -> str:
    """The address by which other machines reach what listens on `host`."""
    if host not in WILDCARDS:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:  # no network
            return own_address(host)
        address: str = probe.getsockname()[0]
        return address


def listening(host: str) -> str:
    """`host` as it stands before `:port`."""
    return f"[{host}]" if ":" in host else host


def http_url(host: str, port: int | None) -> str:
    """The address of a server."""
    return f"http://{listening(host)}:{port}"


def _read(data: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((data / PORTS_FILE).read_text())
    return found
