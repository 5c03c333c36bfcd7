"""Who is calling, and whether it may: an API key, its scopes, its rate."""

import uuid
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from api.resources import ResourcesDep
from shared import job_store
from shared.errors import RateLimitError, ScopeError, UnauthorizedError
from shared.jobs import Scope

_bearer = HTTPBearer(auto_error=False, description="`Authorization: Bearer mtk_…`")
_header = APIKeyHeader(name="X-Api-Key", auto_error=False)

DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing, so `read` is enough; all other methods need `submit`."""


@dataclass(frozen=True)
class Caller:
    """A valid key; jobs belong to it."""

    api_key_id: uuid.UUID
    name: str
    scopes: frozenset[Scope]
    sources: tuple[str, ...] | None = None
    """`s3://bucket/prefix/` that it may name; None: all that the settings allow."""
    images_per_month: int | None = None

    def require(self, scope: Scope) -> None:
        """Raise ScopeError unless the key has the scope; `admin` holds every other one."""
        if not self.scopes & {scope, Scope.ADMIN}:
            raise ScopeError(f"The API key {self.name!r} has no scope {scope.value!r}")


def identify(
    request: Request,
    resources: ResourcesDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    header: Annotated[str | None, Depends(_header)],
) -> Caller:
    """The caller behind the request. Raises UnauthorizedError, RateLimitError, ScopeError."""
    secret = bearer.credentials if bearer else header
    if not secret:
        raise UnauthorizedError
    with resources.database.transaction() as session:
        key = job_store.find_api_key(session, secret)
    if key is None:
        raise UnauthorizedError("The API key is unknown or revoked")
    rate = key.requests_per_min or resources.settings.requests_per_min
    # The middleware of api.http.headers tells it in every answer.
    request.state.allowance = resources.limiter.take(str(key.id), rate)
    if not request.state.allowance.allowed:
        raise RateLimitError(f"The API key {key.name!r} may send {rate:,} requests a minute")
    caller = Caller(
        key.id,
        key.name,
        frozenset(map(Scope, key.scopes)) if key.scopes is not None else frozenset(DEFAULT_SCOPES),
        tuple(key.sources) if key.sources is not None else None,
        key.images_per_month,
    )
    caller.require(Scope.READ if request.method in SAFE_METHODS else Scope.SUBMIT)
    return caller


CallerDep = Annotated[Caller, Depends(identify)]
