"""Text of others on the terminal: names of files and what a service says can hold control codes."""

import os
import re

from rich import markup

_CONTROLS = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
)
"""C0 and C1 controls, line separators, and the marks that turn the direction of text."""


def printable(text: str) -> str:
    r"""A name for people: bytes that are not UTF-8 become `\xNN`, and control characters `\x1b`,
    `\n` or `\u202e`.
    """
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:  # a lone surrogate that is no byte of a file's name
        raw = text.encode("utf-8", "backslashreplace")
    return _CONTROLS.sub(_escaped, raw.decode("utf-8", "backslashreplace"))


def printable_lines(text: str) -> str:
    """The same for a text of several lines: they stay."""
    return "\n".join(map(printable, text.split("\n")))


def escape(text: str) -> str:
    """A text that rich prints as it is: nothing in it is markup or a control code."""
    return markup.escape(printable(text))


def escape_lines(text: str) -> str:
    """The same for a text of several lines: they stay."""
    return markup.escape(printable_lines(text))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
