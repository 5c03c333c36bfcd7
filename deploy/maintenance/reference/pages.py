"""The pages of docs/reference: the name of each file and the function that writes its text."""

from collections.abc import Callable
from pathlib import Path

from deploy.maintenance.reference.commands import commands_page
from deploy.maintenance.reference.errors import errors_page
from deploy.maintenance.reference.metrics import metrics_page
from deploy.maintenance.reference.options import options_page
from deploy.maintenance.reference.settings import settings_page

FOLDER = Path(__file__).parents[3] / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "options.md": options_page,
    "settings.md": settings_page,
    "errors.md": errors_page,
    "metrics.md": metrics_page,
    "cli.md": commands_page,
}
