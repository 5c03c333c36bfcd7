"""What a key may still do after it was revoked by another process."""

from types import SimpleNamespace
from typing import cast

import pytest

from api import known_keys
from api.http.auth import _look_up
from api.known_keys import KnownKeys
from api.resources import Resources
from shared import job_store
from shared.database import Database
from shared.errors import UnauthorizedError
from shared.rate_limit import Allowance

FREE = Allowance(allowed=True, limit=60, remaining=60, retry_after_s=0, reset_s=0)


def test_a_revoked_key_may_read_for_a_moment_and_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "KNOWN_S", 600.0)
    parts = SimpleNamespace(
        database=database,
        known_keys=KnownKeys(),
        settings=SimpleNamespace(requests_per_min=60),
        limiter=SimpleNamespace(take=lambda _name, _limit: FREE),
    )
    resources = cast(Resources, parts)
    with database.transaction() as session:
        key, secret = job_store.create_api_key(session, "tests")
    for by in (secret, key.id):
        assert _look_up(resources, by, reads=True)[0].id == key.id
    with database.transaction() as session:
        job_store.revoke_api_key(session, key.id)
    for by in (secret, key.id):
        assert _look_up(resources, by, reads=True)[0].id == key.id
        with pytest.raises(UnauthorizedError):
            _look_up(resources, by, reads=False)
    parts.known_keys.forget()
    with pytest.raises(UnauthorizedError):
        _look_up(resources, secret, reads=True)
