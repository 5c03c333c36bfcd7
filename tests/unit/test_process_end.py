"""A worker that can't go on ends its process with an error, so that it is started again."""

import os
import re
import subprocess
import sys

import pytest

ENDING = """
import sys
from shared.errors import DatabaseError, OutOfMemoryError, PredictorError
from worker.consumer.process_end import end_at_once, end_stuck, end_without_device

class Runner:
    def fail_in_flight(self, item_id, error):
        print("failed", item_id, error.code, flush=True)
        if item_id == "1":
            raise DatabaseError
    def give_back_all(self):
        print("given back", flush=True)
        raise DatabaseError

{call}
print("goes on")
"""


@pytest.mark.parametrize(
    ("call", "done"),
    [
        ("end_without_device(Runner(), PredictorError('illegal address'))", ["given back"]),
        ("end_at_once(Runner())", ["given back"]),
        ("end_stuck(Runner(), '1', 'decode', 2)", ["failed 1 image-timeout"]),
        ("end_stuck(Runner(), '2', 'decode', 2)", ["failed 2 image-timeout", "given back"]),
        ("end_stuck(Runner(), None, 'batch', 2)", []),
    ],
)
def test_the_process_ends_with_an_error_even_if_the_database_is_away(
    call: str, done: list[str]
) -> None:
    ended = _run(call)
    assert ended.returncode == os.EX_SOFTWARE
    assert re.findall(r"^(failed .*|given back|goes on)$", ended.stdout, re.MULTILINE) == done


def test_a_shortage_of_device_memory_ends_nothing() -> None:
    ended = _run("end_without_device(Runner(), OutOfMemoryError())")
    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["goes on"])


def _run(call: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", ENDING.format(call=call)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
