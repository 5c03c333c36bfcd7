"""Authentication and authorisation: the API key or a session of it, its scopes and its request
rate.
"""

import uuid
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from api.job_links import PARAMETER
from api.resources import Resources
from api.sessions import COOKIE, Session
from shared import job_store
from shared.errors import (
    ForeignPageError,
    RateLimitError,
    ScopeError,
    SessionEndedError,
    UnauthorizedError,
)
from shared.jobs import Scope
from shared.models import ApiKey
from shared.rate_limit import Allowance

# They describe the two headers in OpenAPI. `authenticate` reads them before any body.
_bearer = HTTPBearer(auto_error=False, description="`Authorization: Bearer mtk_…`")
_header = APIKeyHeader(name="X-Api-Key", auto_error=False)

DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ)

CSRF_HEADER = "X-CSRF-Token"

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
    destinations: tuple[str, ...] | None = None
    """The `s3://bucket/folder/` that the key may write results to; None: all that the settings
    allow, or none if `sources` is set.
    """
    images_per_month: int | None = None

    @property
    def writable_folders(self) -> tuple[str, ...] | None:
        """The folders that results may be written to; None: all that the settings allow."""
        return job_store.writable_folders(self.sources, self.destinations)

    def require(self, scope: Scope) -> None:
        """Raise ScopeError unless the key has the scope; `admin` includes all others."""
        if not self.scopes & {scope, Scope.ADMIN}:
            raise ScopeError(f"The API key {self.name!r} has no scope {scope.value!r}")


async def authenticate(request: Request, resources: Resources) -> Caller:
    """Find the caller by the headers of the request, and keep it for `CallerDep`. It reads no body,
    and without a key it queries nothing. A browser may send the cookie of a session in place of a
    key, if the request provably comes from the console's own page.

    A link that was made for it reads a job's files without either (api.job_links).

    Raises UnauthorizedError, ForeignPageError, RateLimitError, ScopeError.
    """
    if secret := _secret(request):
        return await _admit(request, resources, secret)
    if PARAMETER in request.query_params and request.method in SAFE_METHODS:
        reader = resources.job_links.reader(request)
        if reader is None:
            raise UnauthorizedError("The link has expired, or is not complete")
        return await _admit(request, resources, reader)
    session = session_of(request, resources)
    require_own_page(request)
    if request.method not in SAFE_METHODS:
        token = request.headers.get(CSRF_HEADER, "")
        if not resources.sessions.owns_token(session, token):
            raise ForeignPageError(f"The header {CSRF_HEADER} is missing or not this session's")
    return await _admit(request, resources, session.api_key_id)


async def authenticate_page(request: Request, resources: Resources) -> Caller:
    """The caller of a page of the console, by the session alone: a browser that opens a page can't
    prove where it comes from, and the page changes nothing.

    Raises UnauthorizedError, RateLimitError, ScopeError.
    """
    return await _admit(request, resources, session_of(request, resources).api_key_id)


def session_of(request: Request, resources: Resources) -> Session:
    """The session of the request's cookie. Raises UnauthorizedError."""
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        raise UnauthorizedError
    session = resources.sessions.read(cookie)
    if session is None:
        raise SessionEndedError
    return session


def require_own_page(request: Request) -> None:
    """Raise ForeignPageError unless a page of this host sent the request.

    Browsers say so in Sec-Fetch-Site, over TLS and on the own machine; elsewhere in Origin, or in
    Referer where they send no Origin. No page can set these headers (Fetch Standard, 4.6).
    """
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        own = fetched == "same-origin"
    else:
        told = request.headers.get("origin") or request.headers.get("referer") or ""
        own = urlsplit(told).netloc == request.headers.get("host")
    if not own:
        raise ForeignPageError


async def _admit(request: Request, resources: Resources, by: str | uuid.UUID) -> Caller:
    """The caller with this secret, or with the key of this id, within its rate and scopes."""
    reads = request.method in SAFE_METHODS
    key, allowance = await run_in_threadpool(_look_up, resources, by, reads=reads)
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
        tuple(key.destinations) if key.destinations is not None else None,
        key.images_per_month,
    )
    caller.require(Scope.READ if reads else Scope.SUBMIT)
    request.state.caller = caller
    return caller


def _secret(request: Request) -> str | None:
    """The key in one of the two headers; `Authorization` has precedence."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials
    return request.headers.get("x-api-key")


def _look_up(resources: Resources, by: str | uuid.UUID, *, reads: bool) -> tuple[ApiKey, Allowance]:
    """The valid key, and what it may still send. A request that only `reads` may be let in by a key
    that was valid a moment ago; all others ask the database.
    """
    key = resources.known_keys.get(by) if reads else None
    if key is None:
        key = _valid_key(resources, by)
        resources.known_keys.add(by, key)
    rate = key.requests_per_min or resources.settings.requests_per_min
    return key, resources.limiter.take(str(key.id), rate)


def _valid_key(resources: Resources, by: str | uuid.UUID) -> ApiKey:
    """Ask the database. Raises UnauthorizedError, SessionEndedError."""
    with resources.database.query() as session:
        if isinstance(by, str):
            key = job_store.find_api_key(session, by)
        else:
            key = job_store.get_api_key(session, by)
    if key is None:
        if isinstance(by, str):
            raise UnauthorizedError("The API key is unknown or revoked")
        raise SessionEndedError("The API key of this session was revoked")
    return key


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
