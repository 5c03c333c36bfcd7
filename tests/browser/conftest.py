"""One stack and one Chromium for all tests of the console. Each page is watched for errors of its
scripts and for violations of its policy.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared import job_store
from shared.database import Database
from shared.jobs import Scope

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

PATIENCE_MS = 120_000
"""How long a page has to become what a test expects. Playwright's 5 s are too few if the machine is
busy.
"""
expect.set_options(timeout=PATIENCE_MS)

REFUSED = (
    "Failed to load resource",
    "htmx:afterRequest",
    "htmx:sendError",
    "htmx:responseError",
    "Response Status Error Code",
)
"""What browser and htmx say of a request that failed."""

REQUIRED = "BROWSER_TESTS"
"""The environment variable by which `.ci/run` says `required`."""


def chromium() -> str | None:
    """The path of a Chromium; None: there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser. Without a Chromium the tests are left out, and one line says so.

    It ends with the tests of this folder: Playwright's synchronous API keeps an event loop running
    in the main thread, beside which no other test can run asyncio.
    """
    program = chromium()
    if program is None:
        why = "no Chromium here: apt-get install chromium"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The running system."""
    env = {
        "MATTING_REUSE_RESULTS": "false",
        "MATTING_SESSION_SECRET": "s" * 40,
        # A second model, and a second network of the first, take seconds to warm up.
        "MATTING_SECOND_MODEL": "none",
        "MATTING_PREDICT_STREAMS": "1",
    }
    with Stack(tmp_path_factory.mktemp("stack"), env=env) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[MattingClient]:
    """A client with the stack's own key."""
    with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
        yield client


@pytest.fixture(scope="package")
def new_key(stack: Stack) -> Iterator[Callable[..., str]]:
    """Makes API keys; the secret of each."""
    database = Database(stack.settings.database_url, process="tests")

    def make(*scopes: Scope) -> str:
        with database.transaction() as session:
            _key, secret = job_store.create_api_key(session, "shop", scopes=scopes or None)
        return secret

    yield make
    database.close()


@pytest.fixture
def opened(
    browser: Browser, stack: Stack, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Page]]:
    """Opens pages of the console, signed in with a key (the stack's own by default)."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def said(message: ConsoleMessage) -> None:
        # A refused request is reported here too; what the page makes of it is tested.
        if message.type == "error" and not message.text.startswith(REFUSED):
            wrong.append(message.text)

    def open_page(
        path: str,
        key: str | None = None,
        *,
        viewport: dict[str, int] = WIDE,
        dark: bool = False,
        context: BrowserContext | None = None,
    ) -> Page:
        if context is None:
            context = browser.new_context(
                base_url=stack.address.api_url,
                viewport=viewport,  # type: ignore[arg-type]  # a TypedDict of its own
                color_scheme="dark" if dark else "light",
                has_touch=viewport == PHONE,
            )
            contexts.append(context)
            context.add_cookies(
                [
                    {
                        "name": "matting_session",
                        "value": session_cookie(stack, key or stack.secrets.api_key),
                        "url": stack.address.api_url,
                        "httpOnly": True,
                        "sameSite": "Strict",
                    }
                ]
            )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", said)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def session_cookie(stack: Stack, key: str) -> str:
    """The cookie that signing in with this key gives; signing in often is refused."""
    if key in _cookies:
        return _cookies[key]
    answer = httpx.post(
        f"{stack.address.api_url}/console/sign-in",
        data={"key": key},
        headers={"Origin": stack.address.api_url},
    )
    assert answer.status_code == 303, answer.text
    return _cookies.setdefault(key, answer.cookies["matting_session"])


_cookies: dict[str, str] = {}


@pytest.fixture
def photos(tmp_path: Path, jpeg: bytes) -> Path:
    """Two photos, and a file that is none, under names that would be markup."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "shoe.jpg").write_bytes(jpeg)
    (folder / "<img src=x onerror=alert(1)>.jpg").write_bytes(jpeg)
    (folder / "page.jpg").write_bytes(b"<html>not found</html>")
    return folder


@pytest.fixture
def browser_page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A page of a browser that is not signed in."""
    context = browser.new_context(base_url=stack.address.api_url, viewport=WIDE)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()
