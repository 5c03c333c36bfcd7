"""What logs must never contain, and what they must contain."""

import json
import logging
from collections.abc import Iterator

import pytest

from shared.settings import Settings
from shared.telemetry import configure_logging, get_logger

SECRET = "hunter2-the-broker-password"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _fail(password: str) -> None:
    raise ConnectionError(f"no answer to {len(password)} characters")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_logged_exception_contains_no_values(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(Settings.model_validate({"log_format": log_format}))
    try:
        _fail(SECRET)
    except ConnectionError:
        logging.getLogger("some.library").exception("connection lost")
        get_logger("ours").warning("gave-up", api_key=SECRET, exc_info=True)
    told = capsys.readouterr().err
    assert told.count("no answer to 27 characters") >= 2
    assert "_fail(SECRET)" in told, "where it happened"
    assert SECRET not in told
    if log_format == "json":
        assert all("exception" in json.loads(line) for line in told.splitlines())
