"""Sign in with an API key or a one-time link; sign out."""

import uuid

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse

from api.console.page_route import SIGN_IN, PageRoute, own_page, without_session
from api.console.rendering import page
from api.console.texts import text
from api.http.auth import require_own_page, session_of
from api.http.limits import SMALL_BODY_BYTES, MeasuredBody
from api.http.multipart import FormLimits
from api.http.own_address import over_tls
from api.http.urlencoded import read_urlencoded
from api.resources import Resources, ResourcesDep
from api.sessions import COOKIE
from shared import job_store
from shared.errors import (
    MattingError,
    RateLimitError,
    ScopeError,
    UnauthorizedError,
)
from shared.jobs import Scope
from shared.sign_in_links import TOKEN_PREFIX

router = APIRouter(route_class=PageRoute, prefix="/console", include_in_schema=False)

FAILURES_PER_MIN = 20
"""Of one address."""

FORM_LIMITS = FormLimits(files=0, fields=10)


@router.get("/sign-in")
@without_session
def sign_in_page(
    request: Request, resources: ResourcesDep, next: str = "", ended: bool = False
) -> Response:
    """The form. Who is signed in already goes on at once."""
    try:
        session_of(request, resources)
    except UnauthorizedError:
        return page(request, resources, "sign_in.html", next=next, ended=ended, error=None)
    if ended:
        return page(request, resources, "sign_in.html", next=next, ended=True, error=None)
    return RedirectResponse(own_page(next), 303)


@router.post("/sign-in")
@without_session
async def sign_in(request: Request, resources: ResourcesDep) -> Response:
    """Exchange a key, or the token of a one-time link, for a session."""
    require_own_page(request)
    form = await _form(request, resources)
    after = own_page(form.get("next", ""))
    try:
        key_id = await run_in_threadpool(_key_of, request, resources, form.get("key", "").strip())
    except MattingError as error:
        return page(
            request,
            resources,
            "sign_in.html",
            status=error.http_status,
            next=after,
            ended=False,
            error=error,
            remedy=_remedy(error, form.get("key", "")),
        )
    response = RedirectResponse(after, 303)
    response.set_cookie(
        COOKIE,
        resources.sessions.open(key_id),
        max_age=resources.sessions.lifetime_s,
        httponly=True,
        samesite="strict",
        secure=over_tls(request),
    )
    return response


@router.get("/token")
def csrf_token(request: Request, resources: ResourcesDep) -> Response:
    """The CSRF token of the session, for a page that was opened before it. Pages of other origins
    can't read it.
    """
    token = resources.sessions.csrf_token(session_of(request, resources))
    return JSONResponse({"csrf_token": token}, headers={"Cache-Control": "no-store"})


@router.post("/sign-out")
@without_session
def sign_out(request: Request) -> Response:
    """Forget the session in this browser."""
    require_own_page(request)
    response = RedirectResponse(SIGN_IN, 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=over_tls(request))
    return response


def _key_of(request: Request, resources: Resources, given: str) -> uuid.UUID:
    """The id of the valid key. Raises UnauthorizedError, RateLimitError, ScopeError, QueueError.

    Only attempts that fail are counted: behind a proxy all callers have one address, and nobody
    must lock out the others.
    """
    with resources.database.transaction() as session:
        if given.startswith(TOKEN_PREFIX):
            key_id = resources.links.take(given)
            key = job_store.get_api_key(session, key_id) if key_id is not None else None
        else:
            key = job_store.find_api_key(session, given)
    if key is None:
        address = request.client.host if request.client else "unknown"
        if not resources.limiter.take(f"sign-in:{address}", FAILURES_PER_MIN).allowed:
            raise RateLimitError(f"More than {FAILURES_PER_MIN} failed attempts within a minute")
        if given.startswith(TOKEN_PREFIX):
            raise UnauthorizedError("This link was used already, or is too old")
        raise UnauthorizedError("The API key is unknown or revoked")
    scopes = set(map(Scope, key.scopes)) if key.scopes is not None else {Scope.READ}
    if not scopes & {Scope.READ, Scope.ADMIN}:
        raise ScopeError(f"The API key {key.name!r} has no scope 'read', which the pages need")
    return key.id


def _remedy(error: MattingError, given: str) -> str:
    """What to do at this page; the error's own remedy speaks to programs."""
    if not isinstance(error, UnauthorizedError):
        return error.remedy
    return text("sign_in.used_do" if given.startswith(TOKEN_PREFIX) else "sign_in.wrong_do")


async def _form(request: Request, resources: Resources) -> dict[str, str]:
    """The fields of a short form. Raises RequestTooLargeError, SlowRequestError."""
    body = MeasuredBody(
        request.receive,
        limit_bytes=SMALL_BODY_BYTES,
        timeout_s=resources.settings.body_timeout_s,
        memory=None,
    )
    body.announce(request.headers.get("content-length"))
    raw = await Request(request.scope, body.receive).body()
    return read_urlencoded(bytearray(raw), FORM_LIMITS).fields
