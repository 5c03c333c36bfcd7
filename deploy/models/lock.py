"""The lock file in the models' folder: what each model was when it first came."""

import json
from pathlib import Path
from typing import Any

from shared.errors import ModelChangedError, ModelDownloadError

LOCK_FILE = "models.lock.json"
"""In the models' folder: size and SHA-256 of each file as it first came. Copy it to the other
machines, and they refuse what is not the same."""


def check_lock(lock: Path, name: str, seen: dict[str, Any]) -> None:
    """The first time anything is right; later only the same."""
    known = _read(lock).get(name)
    if known and (known["bytes"], known["sha256"]) != (seen["bytes"], seen["sha256"]):
        raise ModelChangedError(
            f"{name} has {seen['bytes']} bytes and SHA-256 {seen['sha256'][:16]}…; {lock} says "
            f"{known['bytes']} bytes and {known['sha256'][:16]}…"
        )


def note(lock: Path, name: str, entry: dict[str, Any]) -> None:
    """Enter a model that is not known yet."""
    known = _read(lock)
    known.setdefault(name, entry)
    partial = lock.with_suffix(".part")
    partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    partial.replace(lock)


def _read(lock: Path) -> dict[str, Any]:
    if not lock.exists():
        return {}
    try:
        known: dict[str, Any] = json.loads(lock.read_text())
    except ValueError as error:
        raise ModelDownloadError(f"{lock} can't be read: {error}") from error
    return known
