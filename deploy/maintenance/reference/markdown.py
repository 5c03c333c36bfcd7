"""Markdown building blocks of the reference pages: page, table, inline code."""

from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by `make reference` from the code. Change the code, not this page. -->"


def page(title: str, introduction: str, *parts: str) -> str:
    """A page: title, note, introduction and parts, separated by empty lines."""
    return "\n\n".join([f"# {title}", NOTE, introduction, *parts]).rstrip() + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a `|` within a cell is escaped, a line break becomes a space."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def code(value: object) -> str:
    """`value` as inline code; an empty text stays empty."""
    return f"`{value}`" if str(value) else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
