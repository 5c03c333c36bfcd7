"""Writes the table of error codes into the README: `python -m deploy.maintenance.reference`."""

import sys
from pathlib import Path

from shared.errors import ERRORS, SetupError

BEGIN = "<!-- errors: written by make reference -->"
END = "<!-- errors end -->"

README = Path(__file__).parents[2] / "README.md"


def error_table() -> str:
    """All codes with status, meaning and remedy, as Markdown."""
    lines = ["| code | status | what happened | what to do |", "|---|---|---|---|"]
    for error in ERRORS.values():
        text = " ".join((error.__doc__ or "").split("\n\n")[0].split())
        status = "" if issubclass(error, SetupError) else str(error.http_status)
        lines.append(f"| `{error.code}` | {status} | {text} | {error.remedy} |")
    return "\n".join(lines)


def with_table(readme: str) -> str:
    """The README's text with the present table in it."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{error_table()}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
    sys.exit(0)
