"""Addresses and secrets of an embedded stack, stored as files in its data folder."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.errors import DataDamagedError, NoStackError

SECRETS_FILE = "secrets.json"
ADDRESS_FILE = "running.json"
LOCK_FILE = "lock"
"""A running stack holds a lock on it."""


@dataclass(frozen=True)
class StackSecrets:
    """Secrets of a stack, created at its first start. The file is readable by its owner only."""

    s3_access_key: str
    s3_secret_key: str
    api_key: str


@dataclass(frozen=True)
class StackAddress:
    """Addresses of a running stack."""

    api_url: str
    flower_url: str
    s3_url: str


def find_stack(data: Path) -> tuple[StackAddress, StackSecrets]:
    """Read the addresses and secrets of the stack that runs on a data folder.

    Raises NoStackError when none is running.
    """
    try:
        address = StackAddress(**json.loads((data / ADDRESS_FILE).read_text()))
        known = StackSecrets(**json.loads((data / SECRETS_FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise NoStackError(f"No stack is running on {data}") from error
    if not _is_held(data):
        raise NoStackError(f"No stack is running on {data}; the last one was killed")
    return address, known


def _is_held(data: Path) -> bool:
    """Whether a stack holds the folder, or it can't be told. A killed one leaves its address."""
    try:
        with (data / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def read_secrets(data: Path) -> StackSecrets | None:
    """The secrets of an earlier start; None before the first one. Raises DataDamagedError."""
    path = data / SECRETS_FILE
    try:
        return StackSecrets(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DataDamagedError(f"{path} is damaged") from error


def write_secrets(data: Path, known: StackSecrets) -> None:
    """Store the secrets for the next start: all or none, also on a full disk. Raises OSError."""
    partial = data / f"{SECRETS_FILE}.part"
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(known), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(data / SECRETS_FILE)
