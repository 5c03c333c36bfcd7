"""API keys that were valid a moment ago: a caller who polls costs no query of its key each time."""

import hashlib
import time
import uuid

from shared.models import ApiKey

KNOWN_S = 1.0
"""For so long after a key was revoked another API process may still answer its reading requests."""

MOST_KEYS = 1_000


class KnownKeys:
    """Valid keys by the hash of their secret, or by their id. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[bytes | uuid.UUID, tuple[float, ApiKey]] = {}

    def get(self, by: str | uuid.UUID) -> ApiKey | None:
        """The key with this secret or id, if it was valid less than KNOWN_S ago."""
        until, key = self._known.get(_name(by), (0.0, None))
        return key if time.monotonic() < until else None

    def add(self, by: str | uuid.UUID, key: ApiKey) -> None:
        """Remember a key that the database has just found valid."""
        if len(self._known) >= MOST_KEYS:
            self._known.clear()
        self._known[_name(by)] = (time.monotonic() + KNOWN_S, key)

    def forget(self) -> None:
        """Ask the database again for all keys: one of them was revoked."""
        self._known.clear()


def _name(by: str | uuid.UUID) -> bytes | uuid.UUID:
    """No secret is kept in memory."""
    return hashlib.sha256(by.encode()).digest() if isinstance(by, str) else by
