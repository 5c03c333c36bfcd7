"""The address under which a caller reaches this service."""

from fastapi import Request


def over_tls(request: Request) -> bool:
    """Whether the caller speaks TLS, with us or with a proxy before us."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", "").lower())


def own_address(request: Request) -> str:
    """`https://host:port`, as the caller wrote the host; without a slash at the end."""
    return f"{'https' if over_tls(request) else 'http'}://{request.url.netloc}"
