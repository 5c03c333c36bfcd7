"""docs/reference agrees with the code: every option, setting, error, metric and command."""

import pytest
import typer

from deploy.cli import app as cli
from deploy.maintenance.reference.pages import FOLDER, PAGES
from shared import errors
from shared.options import Options
from shared.settings import Settings


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_up_to_date(name: str) -> None:
    path = FOLDER / name
    assert path.exists(), "run: make reference"
    assert path.read_text() == PAGES[name](), f"docs/reference/{name} is old; run: make reference"


def test_every_reference_page_is_generated() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


@pytest.mark.parametrize("name", ["options.md", "settings.md", "errors.md", "metrics.md"])
def test_every_row_has_a_description(name: str) -> None:
    rows = [line for line in PAGES[name]().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []


def test_nothing_is_left_out() -> None:
    commands = typer.main.get_command(cli)
    for page, names in {
        "options.md": [f"`{name}`" for name in Options.model_fields],
        "settings.md": [f"_{name.removeprefix('aws_')}`".upper() for name in Settings.model_fields],
        "errors.md": [f"`{code}`" for code in errors.ERRORS],
        "cli.md": [f"## `matting {name}`" for name in commands.commands],  # type: ignore[attr-defined]
    }.items():
        text = PAGES[page]()
        assert [name for name in names if name not in text] == []
