"""Keys that were valid a moment ago."""

import uuid

import pytest

from api import known_keys
from api.known_keys import MOST_KEYS, KnownKeys
from shared.models import ApiKey


def test_a_key_is_known_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, key = KnownKeys(), ApiKey(id=uuid.uuid4())
    assert keys.get("secret") is None
    keys.add("secret", key)
    keys.add(key.id, key)
    assert keys.get("secret") is keys.get(key.id) is key
    assert keys.get("another") is None
    monkeypatch.setattr(known_keys, "KNOWN_S", 0.0)
    keys.add("secret", key)
    assert keys.get("secret") is None
    keys.forget()
    assert keys.get(key.id) is None


def test_no_secret_stays_in_memory() -> None:
    keys = KnownKeys()
    keys.add("mtk_secret", ApiKey(id=uuid.uuid4()))
    assert "mtk_secret" not in repr(vars(keys))


def test_many_keys_do_not_fill_the_memory() -> None:
    keys, key = KnownKeys(), ApiKey(id=uuid.uuid4())
    for number in range(3 * MOST_KEYS):
        keys.add(f"secret {number}", key)
    assert sum(keys.get(f"secret {number}") is not None for number in range(3 * MOST_KEYS)) <= (
        MOST_KEYS
    )
