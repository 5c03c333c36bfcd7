"""File names in headers: ASCII only, and complete for programs that read RFC 8187."""

from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.content_disposition import MAX_NAME_CHARS, content_disposition


def read(value: str) -> str:
    """The name that a program reads if it knows both forms."""
    for part in value.split("; "):
        if part.startswith("filename*=UTF-8''"):
            return unquote(part.removeprefix("filename*=UTF-8''"), errors="strict")
    message = Message()
    message["Content-Disposition"] = value
    return str(message.get_filename())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shoe.png", 'inline; filename="shoe.png"'),
        ("a b (1).png", 'inline; filename="a b (1).png"'),
        ("靴.png", "inline; filename=\"_.png\"; filename*=UTF-8''%E9%9D%B4.png"),
        ("é.png", "inline; filename=\"_.png\"; filename*=UTF-8''%C3%A9.png"),
        ('a"b\\c.png', "inline; filename=\"a_b_c.png\"; filename*=UTF-8''a%22b%5Cc.png"),
        ("50%41.png", "inline; filename=\"50_41.png\"; filename*=UTF-8''50%2541.png"),
        ("a\r\nX: y.png", 'inline; filename="aX: y.png"'),
        ("", 'inline; filename="unnamed"'),
    ],
)
def test_names_keep_their_letters(name: str, value: str) -> None:
    assert content_disposition("inline", name) == value


def test_a_long_name_keeps_its_extension() -> None:
    name = read(content_disposition("attachment", "靴" * 1_000 + ".png"))
    assert len(name) == MAX_NAME_CHARS
    assert name.endswith("靴.png")


@given(st.text(max_size=300))
def test_any_name_is_plain_ascii_without_control_characters(name: str) -> None:
    value = content_disposition("attachment", name)
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2
    read(value)
