"""What every answer carries: headers that bind browsers, and what is left of the key's rate."""

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.rate_limit import Allowance

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Strict-Transport-Security": "max-age=31536000",  # browsers heed it over TLS only
}

ANSWERS_POLICY = "default-src 'none'; frame-ancestors 'none'"
DOCS_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)
"""The documentation's page starts itself by an inline script."""

DOCS = ("/docs", "/static-offline-docs")


class Headers:
    """ASGI middleware; what an endpoint set itself stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add to the answer's start."""
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

        await self._app(scope, receive, complete)


def rate_headers(allowance: Allowance) -> dict[str, str]:
    """The names that most clients know, and those of the IETF's draft."""
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
