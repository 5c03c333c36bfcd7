"""Signing in to the console, and what a session may and may not do."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from api.console.sign_in import FAILURES_PER_MIN
from deploy.stack.stack import Stack
from shared import job_store
from shared.database import Database
from shared.jobs import Scope
from tests.browser.conftest import session_cookie

OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A browser's session without a browser."""
    cookies = {"matting_session": session_cookie(stack, stack.secrets.api_key)}
    with httpx.Client(base_url=stack.address.api_url, cookies=cookies) as client:
        yield client


def csrf_of(http: httpx.Client) -> str:
    page = http.get("/console/jobs").text
    return page.split('name="csrf-token" content="')[1].split('"')[0]


def test_a_key_signs_in_and_out(browser_page: Page, stack: Stack) -> None:
    page = browser_page
    page.goto("/")
    expect(page.locator("h1")).to_contain_text("matting")
    page.get_by_label("API key").fill("mtk_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("The API key is unknown or revoked")
    expect(page.get_by_role("alert")).to_contain_text("copied the whole key")
    page.get_by_label("API key").fill(stack.secrets.api_key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert "matting_session" not in page.evaluate("document.cookie"), "scripts must not read it"
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.goto("/console/jobs?q=season")
    page.get_by_label("API key").fill(stack.secrets.api_key)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url.endswith("/console/jobs?q=season"))


def test_a_link_signs_in_once(browser_page: Page, stack: Stack) -> None:
    made, another = (
        httpx.post(
            f"{stack.address.api_url}/v1/sign-in-links",
            headers={"Authorization": f"Bearer {stack.secrets.api_key}"},
        ).json()
        for _ in range(2)
    )
    browser_page.goto(made["path"])
    expect(browser_page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    browser_page.context.clear_cookies()
    browser_page.goto("about:blank")
    browser_page.goto(made["path"])
    expect(browser_page.get_by_role("alert")).to_contain_text("This link was used already")
    browser_page.goto(another["path"])  # in the tab of the form, only what is behind `#` changes
    expect(browser_page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1"},
        {"Referer": "http://evil.example/"},
    ],
)
def test_a_session_works_for_the_console_s_own_page_only(
    http: httpx.Client, headers: dict[str, str]
) -> None:
    token = {"X-CSRF-Token": csrf_of(http)}
    answer = http.get("/v1/jobs", headers=headers | token)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign-page")


def test_without_tls_the_referer_of_the_own_page_is_proof(http: httpx.Client, stack: Stack) -> None:
    own = {"Referer": f"{stack.address.api_url}/console/jobs"}
    assert http.get("/v1/jobs", headers=own).status_code == 200


def test_a_session_changes_nothing_without_its_own_token(http: httpx.Client, stack: Stack) -> None:
    assert http.get("/v1/jobs", headers=OWN).status_code == 200
    with httpx.Client(base_url=stack.address.api_url) as other:
        other.post("/console/sign-in", data={"key": stack.secrets.api_key}, headers=OWN)
        others = csrf_of(other)
    for token in ({}, {"X-CSRF-Token": "x.y"}, {"X-CSRF-Token": others}):
        refused = http.post("/v1/uploads", json={"count": 1}, headers=OWN | token)
        assert (refused.status_code, refused.json()["code"]) == (403, "foreign-page")
    own = {"X-CSRF-Token": csrf_of(http), "Origin": stack.address.api_url}
    assert http.post("/v1/uploads", json={"count": 1}, headers=own).status_code == 200


def test_a_forged_cookie_is_no_session(stack: Stack) -> None:
    good = session_cookie(stack, stack.secrets.api_key)
    for cookie in (good[:-3] + "AAA", "x", good.split(".")[0], ""):
        answer = httpx.get(
            f"{stack.address.api_url}/v1/jobs", cookies={"matting_session": cookie}, headers=OWN
        )
        assert answer.status_code == 401


def test_signing_in_is_limited_to_the_own_page_and_in_number(stack: Stack) -> None:
    place = f"{stack.address.api_url}/console/sign-in"
    form = {"key": stack.secrets.api_key}
    foreign = httpx.post(place, data=form, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert "set-cookie" not in foreign.headers
    for after in ("//evil.example", "https://evil.example", "/console/\\evil.example"):
        answer = httpx.post(place, data=form | {"next": after}, headers=OWN)
        assert answer.headers["location"] == "/console/jobs"

    started, answers = time.monotonic(), [401]
    while answers[-1] == 401 and len(answers) < 500:
        answers.append(httpx.post(place, data={"key": "mtk_x"}, headers=OWN).status_code)
    refilled = FAILURES_PER_MIN * (time.monotonic() - started) / 60  # more on a slow machine
    assert answers[-1] == 429
    assert answers.count(401) - 1 <= FAILURES_PER_MIN + refilled + 1
    assert httpx.post(place, data=form, headers=OWN).status_code == 303, "nobody is locked out"


def test_a_session_ends_with_its_key(
    opened: Callable[..., Page], new_key: Callable[..., str], stack: Stack
) -> None:
    secret = new_key()
    page = opened("/console/jobs", secret)
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    database = Database(stack.settings.database_url, process="tests")
    with database.transaction() as session:
        key = job_store.find_api_key(session, secret)
        assert key is not None
        job_store.revoke_api_key(session, key.id)
    database.close()
    page.reload()
    expect(page.get_by_text("Your session has ended")).to_be_visible()


def test_a_key_that_only_reads_sees_no_buttons_and_changes_nothing(
    opened: Callable[..., Page], new_key: Callable[..., str]
) -> None:
    page = opened("/console/jobs", new_key(Scope.READ))
    expect(page.get_by_text("read only", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="New job")).to_have_count(0)
    status = page.evaluate(
        """async () => (await fetch("/v1/uploads", {method: "POST", body: '{"count": 1}', headers:
        {"X-CSRF-Token": document.querySelector('meta[name="csrf-token"]').content,
         "Content-Type": "application/json"}})).status"""
    )
    assert status == 403


def test_the_root_sends_browsers_to_the_console_and_tells_programs_where_all_is(
    stack: Stack,
) -> None:
    url = stack.address.api_url
    shown = httpx.get(url, headers={"Accept": "text/html,*/*"})
    assert shown.headers["location"] == "/console/jobs"
    assert httpx.get(url).json()["docs"] == "/docs"
