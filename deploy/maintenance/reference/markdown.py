"""Markdown that every page of the reference uses: its head, its tables, its cells."""

from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by `make reference` from the code. Change the code, not this page. -->"


def page(title: str, introduction: str, *parts: str) -> str:
    """A whole page: title, note, introduction, parts, each separated by an empty line."""
    return "\n\n".join([f"# {title}", NOTE, introduction, *parts]).rstrip() + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a `|` within a cell is escaped, a line break becomes a space."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def code(value: object) -> str:
    """`value` as inline code; nothing for an empty text."""
    return f"`{value}`" if str(value) else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
