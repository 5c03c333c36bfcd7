"""Webhook signatures and secrets, compared with the specification's own package."""

import base64
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from api.background.webhook_delivery import WebhookDeliverer
from shared.database import Database
from shared.settings import Settings
from shared.webhooks import new_secret, retry_after_s, secret_bytes, signed_headers

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@given(
    body=st.text().map(str.encode), keys=st.lists(st.binary(min_size=24, max_size=64), min_size=1)
)
def test_signatures_of_several_secrets_verify_with_each_of_them(
    body: bytes, keys: list[bytes]
) -> None:
    secrets = ["whsec_" + base64.b64encode(key).decode() for key in keys]
    headers = signed_headers(
        "0191", int(time.time()), b'{"x":"' + body.hex().encode() + b'"}', secrets
    )
    for secret in secrets:
        Webhook(secret).verify(b'{"x":"' + body.hex().encode() + b'"}', headers)


def test_a_generated_secret_is_valid() -> None:
    assert len(secret_bytes(new_secret())) == 32
    assert new_secret() != new_secret()


@given(
    st.text() | st.binary(max_size=23).map(lambda key: "whsec_" + base64.b64encode(key).decode())
)
def test_an_invalid_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        secret_bytes(text)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Fri, 01 May 2026 12:02:00 GMT", 120),
        ("Fri, 01 May 2026 12:02:00 -0000", 120),
        ("Fri, 01 May 2026 11:00:00 GMT", 0),
        ("", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("Fri, 01 May 99999 12:00:00 GMT", 0),
        ("9" * 5_000, 9_999_999_999),
        ("٣", 0),
    ],
)
def test_retry_after_is_read(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOON) == seconds


@given(st.text())
def test_no_retry_after_gives_a_negative_wait_or_an_error(header: str) -> None:
    assert retry_after_s(header, NOON) >= 0


def test_a_delivery_for_which_there_is_no_thread_is_not_busy_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    settings: Any = Settings.model_construct()
    database = Database(f"sqlite:///{tmp_path / 'x.db'}", process="tests")
    deliverer = WebhookDeliverer(database, settings)
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    attempt: Any = SimpleNamespace(webhook_id=uuid.uuid4(), api_key_id=uuid.uuid4())
    with pytest.raises(RuntimeError, match="thread"):
        deliverer._begin(attempt)
    assert deliverer._busy == {}
    database.close()
