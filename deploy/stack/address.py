"""Where the stack of a data folder is found, and by which keys."""

import json
from dataclasses import dataclass
from pathlib import Path

from shared.errors import NoStackError

SECRETS_FILE = "secrets.json"
ADDRESS_FILE = "running.json"


@dataclass(frozen=True)
class StackSecrets:
    """Made at the first start on a data folder; readable by its owner only."""

    s3_access_key: str
    s3_secret_key: str
    api_key: str


@dataclass(frozen=True)
class StackAddress:
    """Where a running stack is found."""

    api_url: str
    flower_url: str
    s3_url: str


def find_stack(data: Path) -> tuple[StackAddress, StackSecrets]:
    """The stack that runs on a data folder. Raises NoStackError when none does."""
    try:
        address = StackAddress(**json.loads((data / ADDRESS_FILE).read_text()))
        known = StackSecrets(**json.loads((data / SECRETS_FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise NoStackError(f"No stack runs on {data}") from error
    return address, known


def read_storage_keys(data: Path) -> tuple[str, str] | None:
    """Access and secret key that an earlier start on the folder made."""
    path = data / SECRETS_FILE
    if not path.exists():
        return None
    known = StackSecrets(**json.loads(path.read_text()))
    return known.s3_access_key, known.s3_secret_key
