"""Renders templates of the console, with its policy of what a page may load."""

import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from api.console.texts import LANGUAGE, text, texts
from api.http.auth import Caller, session_of
from api.resources import Resources
from shared.jobs import Scope

FOLDER = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def _templates() -> Environment:
    # Everything that a template prints is escaped, whoever chose it.
    known = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    known.filters |= {"moment": _moment, "count": _count, "percent": _percent, "span": _span}
    known.globals |= {"t": text, "texts_json": _texts_json, "language": LANGUAGE}
    return known


def page(
    request: Request, resources: Resources, template: str, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page, or a part of one, for the caller of the request."""
    caller: Caller | None = getattr(request.state, "caller", None)
    token = ""
    if caller is not None:
        token = resources.sessions.csrf_token(session_of(request, resources))
    may = caller.scopes if caller is not None else frozenset()
    html = (
        _templates()
        .get_template(template)
        .render(
            caller=caller,
            csrf_token=token,
            may_submit=bool(may & {Scope.SUBMIT, Scope.ADMIN}),
            is_admin=Scope.ADMIN in may,
            path=request.url.path,
            **values,
        )
    )
    headers = {
        "Content-Security-Policy": policy(resources),
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",  # proves where a request comes from without TLS
    }
    return HTMLResponse(html, status, headers)


def policy(resources: Resources) -> str:
    """The Content-Security-Policy of a page: its own files, and photos and clips at the storage."""
    storage = origin(resources.storage.public_url)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' blob: data: {storage}",
            f"media-src 'self' {storage}",
            f"connect-src 'self' {storage}",
            "manifest-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    )


def origin(url: str) -> str:
    """Scheme and host of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _texts_json() -> Markup:
    """All texts for the scripts, as a data block. `<` could end it."""
    return Markup(json.dumps(texts()).replace("<", "\\u003c"))  # noqa: S704  # our own texts


def _moment(value: datetime | None) -> Markup:
    if value is None:
        return Markup("–")
    said = value.strftime("%Y-%m-%d %H:%M UTC")
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), said)


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(share: float) -> str:
    """The share in whole per cent. It is 100 only when every image has ended."""
    return f"{min(int(share * 100), 99) if share < 1 else 100} %"


def _span(seconds: float | None) -> str:
    """A length of time in words."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return text("time.seconds", n=round(seconds))
    if seconds < 5_400:
        return text("time.minutes", n=round(seconds / 60))
    return text("time.hours", n=round(seconds / 3_600, 1))
