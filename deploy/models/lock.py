"""The lock file in the models folder: size and hash of each model at its first download."""

import json
from pathlib import Path
from typing import Any

from shared.errors import ModelChangedError, ModelDownloadError

LOCK_FILE = "models.lock.json"
"""Name of the file, which holds size and SHA-256 of each downloaded file. Copy it to other
machines, and they reject any other file."""


def check_lock(lock: Path, name: str, found: dict[str, Any]) -> None:
    """Compare a file with its entry. Raises ModelChangedError if it is another one.

    A model without an entry passes.
    """
    known = _read(lock).get(name)
    if known and (known["bytes"], known["sha256"]) != (found["bytes"], found["sha256"]):
        raise ModelChangedError(
            f"{name} has {found['bytes']} bytes and SHA-256 {found['sha256'][:16]}…; {lock} says "
            f"{known['bytes']} bytes and {known['sha256'][:16]}…"
        )


def add_lock_entry(lock: Path, name: str, entry: dict[str, Any]) -> None:
    """Add an entry for a model that has none."""
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
