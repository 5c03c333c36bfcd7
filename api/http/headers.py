"""Headers: ambiguous requests are refused; every response gets security headers and the rest of the
key's rate.
"""

import time
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problems import render
from shared.errors import AmbiguousRequestError
from shared.rate_limit import Allowance

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Strict-Transport-Security": "max-age=31536000",  # browsers respect it over TLS only
}

ANSWERS_POLICY = "default-src 'none'; frame-ancestors 'none'"
DOCS_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)
"""The documentation page starts with an inline script."""

SINGLE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"transfer-encoding",
        b"x-api-key",
    }
)
"""Headers that may occur only once: with two of them a proxy may have used the other one (RFC 9110,
5.3).
"""

DOCS = ("/docs", "/static-offline-docs")


class Headers:
    """ASGI middleware. Headers set by an endpoint stay."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to the start of the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = DOCS_POLICY if scope["path"].startswith(DOCS) else ANSWERS_POLICY

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", policy)
                allowance = scope.get("state", {}).get("allowance")
                if allowance is not None:
                    headers.update(rate_headers(allowance))
            await send(message)

        if contradiction := _contradiction([name for name, _ in scope["headers"]]):
            refusal = render(AmbiguousRequestError(contradiction), scope["path"])
            await refusal(scope, receive, complete)
            return
        await self._app(scope, receive, complete)


def _contradiction(names: Sequence[bytes]) -> str | None:
    """The name of an ambiguous header, if any. ASGI gives names in lower case."""
    for name in SINGLE.intersection(names):
        if names.count(name) > 1:
            return f"The header {name.decode()} came more than once"
    if b"content-length" in names and b"transfer-encoding" in names:
        return "Content-Length and Transfer-Encoding tell two lengths of one body"
    return None


def rate_headers(allowance: Allowance) -> dict[str, str]:
    """The usual `X-RateLimit-*` headers and those of the IETF draft."""
    headers = {
        "X-RateLimit-Limit": str(allowance.limit),
        "X-RateLimit-Remaining": str(allowance.remaining),
        "X-RateLimit-Reset": str(int(time.time()) + allowance.reset_s),
        "RateLimit-Policy": f'"key";q={allowance.limit};w=60',
        "RateLimit": f'"key";r={allowance.remaining};t={allowance.reset_s}',
    }
    if not allowance.allowed:
        headers["Retry-After"] = str(max(1, allowance.retry_after_s))
    return headers
