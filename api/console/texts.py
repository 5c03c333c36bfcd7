"""The texts of the pages, by name: one file per language in api/console/texts."""

import json
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "texts"
LANGUAGE = "en"


@lru_cache(maxsize=1)
def texts() -> dict[str, str]:
    """Every text by its name, such as `jobs.empty`."""
    known: dict[str, dict[str, str]] = json.loads((FOLDER / f"{LANGUAGE}.json").read_text("utf-8"))
    return {
        f"{subject}.{name}": text for subject, some in known.items() for name, text in some.items()
    }


def text(name: str, /, **values: object) -> str:
    """A text with its `{values}` filled in."""
    return texts()[name].format(**values) if values else texts()[name]
