"""Photos in Base64, as clients write it."""

import base64
import io
import random

import pytest

from api.submissions.removebg_call import decode_base64
from shared.errors import InvalidOptionsError


def decoded(text: bytes) -> bytes:
    into = io.BytesIO()
    decode_base64(io.BytesIO(text), into)
    return into.getvalue()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1_000, 100_000, 3_000_001])
def test_base64_is_read_as_clients_write_it(size: int) -> None:
    data = random.Random(size).randbytes(size)
    plain = base64.b64encode(data)
    for name, text in {
        "plain": plain,
        "in lines": base64.encodebytes(data),
        "in lines of Windows": base64.encodebytes(data).replace(b"\n", b"\r\n"),
        "for URLs": base64.urlsafe_b64encode(data),
        "without padding": plain.rstrip(b"="),
        "data URL": b"data:image/jpeg;base64," + plain,
        "data URL in lines": b"data:image/png;base64," + base64.encodebytes(data),
    }.items():
        assert decoded(text) == data, name


@pytest.mark.parametrize("text", [b"a", b"*", b"YQ==YQ==", b"YWJj=YWJj", "größe".encode()])
def test_what_is_no_base64_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidOptionsError, match="not valid Base64"):
        decoded(text)
