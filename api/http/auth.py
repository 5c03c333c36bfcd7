"""Authentication and authorisation: the API key, its scopes and its request rate."""

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

# They describe the two headers in OpenAPI. `authenticate` reads them before any body.
_bearer = HTTPBearer(auto_error=False, description="`Authorization: Bearer mtk_…`")
_header = APIKeyHeader(name="X-Api-Key", auto_error=False)

DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""These methods change nothing, so the scope `read` is enough; all others need `submit`."""


@dataclass(frozen=True)
class Caller:
    """The valid API key of a request; jobs belong to it."""

    api_key_id: uuid.UUID
    name: str
    scopes: frozenset[Scope]
    sources: tuple[str, ...] | None = None
    """The `s3://bucket/prefix/` that the key may use as sources; None: all that the settings allow.
    """
    images_per_month: int | None = None

    def require(self, scope: Scope) -> None:
        """Raise ScopeError unless the key has the scope; `admin` includes all others."""
        if not self.scopes & {scope, Scope.ADMIN}:
            raise ScopeError(f"The API key {self.name!r} has no scope {scope.value!r}")


async def authenticate(request: Request, resources: Resources) -> Caller:
    """Find the caller by the headers of the request, and keep it for `CallerDep`. It reads no body,
    and without a key it queries nothing.

    Raises UnauthorizedError, RateLimitError, ScopeError.
    """
    secret = _secret(request)
    if not secret:
        raise UnauthorizedError
    key, allowance = await run_in_threadpool(_look_up, resources, secret)
    # The middleware of api.http.headers adds it to every response.
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
    """The key in one of the two headers; `Authorization` has precedence."""
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
    """The authenticated caller. It exists only on routes whose class authenticates."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise UnauthorizedError
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]
