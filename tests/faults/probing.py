"""Probes /healthz like a kubelet, in a process of its own.

`python -m tests.faults.probing HOST PORT` probes until its standard input ends, then prints JSON:
how long each answer took, and how much longer than asked each pause took. The pauses show what any
process waits for on this machine.
"""

import http.client
import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PROBE_EVERY_S = 0.03
ANSWER_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Latencies:
    """Sorted seconds."""

    answers_s: list[float] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    """How much longer than asked the pauses between two probes took."""

    def __str__(self) -> str:
        return (
            f"/healthz: {len(self.answers_s)} answers, {_told(self.answers_s)}; "
            f"a process that only sleeps: {_told(self.pauses_s)}"
        )


class Probing:
    """Probes within a `with` block; afterwards `found` has the latencies."""

    def __init__(self, url: str) -> None:
        host = urlsplit(url)
        self.found = Latencies()
        self._command = [sys.executable, "-m", "tests.faults.probing"]
        self._command += [str(host.hostname), str(host.port)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        told, _ = self._process.communicate(timeout=ANSWER_TIMEOUT_S)
        if kind is None:
            self.found = Latencies(*json.loads(told))


def share(sorted_s: list[float], part: float) -> float:
    """The value that `part` (0..1) of the sorted values do not exceed."""
    return sorted_s[min(len(sorted_s) - 1, int(len(sorted_s) * part))]


def _told(sorted_s: list[float]) -> str:
    parts = {"median": 0.5, "95 %": 0.95, "99 %": 0.99, "worst": 1.0}
    return ", ".join(f"{name} {share(sorted_s, part) * 1e3:.0f} ms" for name, part in parts.items())


def _probe(host: str, port: int) -> tuple[list[float], list[float]]:
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT_S)
    answers_s: list[float] = []
    pauses_s: list[float] = []
    began = time.monotonic()
    while not select.select([sys.stdin], [], [], PROBE_EVERY_S)[0]:
        asked = time.monotonic()
        pauses_s.append(asked - began - PROBE_EVERY_S)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        began = time.monotonic()
        answers_s.append(began - asked)
    return sorted(answers_s), sorted(pauses_s)


if __name__ == "__main__":
    print(json.dumps(_probe(sys.argv[1], int(sys.argv[2]))))
