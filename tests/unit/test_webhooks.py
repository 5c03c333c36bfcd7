"""Signatures and secrets, against the specification's own package."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from shared.webhooks import new_secret, secret_bytes, signed_headers


@given(
    body=st.text().map(str.encode), keys=st.lists(st.binary(min_size=24, max_size=64), min_size=1)
)
def test_every_secret_verifies_what_all_of_them_signed(body: bytes, keys: list[bytes]) -> None:
    secrets = ["whsec_" + base64.b64encode(key).decode() for key in keys]
    headers = signed_headers(
        "0191", int(time.time()), b'{"x":"' + body.hex().encode() + b'"}', secrets
    )
    for secret in secrets:
        Webhook(secret).verify(b'{"x":"' + body.hex().encode() + b'"}', headers)


def test_a_made_secret_is_one() -> None:
    assert len(secret_bytes(new_secret())) == 32
    assert new_secret() != new_secret()


@given(
    st.text() | st.binary(max_size=23).map(lambda key: "whsec_" + base64.b64encode(key).decode())
)
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        secret_bytes(text)
