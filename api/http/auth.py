"""Who is calling, and whether it may: an API key, its scopes, its rate."""

import uuid
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from api.resources import Resources
from shared import job_store
from shared.errors import RateLimitError, ScopeError, UnauthorizedError
from shared.jobs import Scope
from shared.models import ApiKey
from shared.rate_limit import Allowance

# They describe the two headers in OpenAPI; `authenticate` reads them, before any body.
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


async def authenticate(request: Request, resources: Resources) -> Caller:
    """Find the caller behind a request's headers and keep it for `CallerDep`. Reads no body, and
    asks nobody where there is no key.

    Raises UnauthorizedError, RateLimitError, ScopeError.
    """
    secret = _secret(request)
    if not secret:
        raise UnauthorizedError
    key, allowance = await run_in_threadpool(_look_up, resources, secret)
    # The middleware of api.http.headers tells it in every answer.
    request.state.allowance = allowance
    if not allowance.allowed:
        raise RateLimitError(
            f"The API key {key.name!r} may send {allowance.limit:,} requests a minute"
        )
    caller = Caller(
        key.id,
        key.name,
        frozenset(map(Scope, key.scopes)) if key.scopes is not None else frozenset(DEFAULT_SCOPES),
        tuple(key.sources) if key.sources is not None else None,
        key.images_per_month,
    )
    caller.require(Scope.READ if request.method in SAFE_METHODS else Scope.SUBMIT)
    request.state.caller = caller
    return caller


def _secret(request: Request) -> str | None:
    """What stands in one of the two headers; `Authorization` goes first."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials
    return request.headers.get("x-api-key")


def _look_up(resources: Resources, secret: str) -> tuple[ApiKey, Allowance]:
    with resources.database.transaction() as session:
        key = job_store.find_api_key(session, secret)
    if key is None:
        raise UnauthorizedError("The API key is unknown or revoked")
    rate = key.requests_per_min or resources.settings.requests_per_min
    return key, resources.limiter.take(str(key.id), rate)


def _caller(
    request: Request,
    _given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    _also_given: Annotated[str | None, Depends(_header)],
) -> Caller:
    """Who was authenticated; on a route whose class does not do so, nobody ever is."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise UnauthorizedError
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]
