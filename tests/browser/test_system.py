"""The page of the system: for operators, and for a customer's webhooks."""

from collections.abc import Callable
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.jobs import Scope
from tests.browser.conftest import PHONE, session_cookie
from tests.browser.test_jobs import check_barriers

EVIL = "https://shop.example/<script>alert(1)</script>"


def test_an_operator_sees_workers_keys_and_usage(
    opened: Callable[..., Page], new_key: Callable[..., str]
) -> None:
    page = opened("/console/system", new_key(Scope.ADMIN))
    expect(page.get_by_role("heading", name="API keys")).to_be_visible()
    expect(page.get_by_text("warm", exact=True)).to_be_visible()
    expect(page.get_by_text("embedded stack").first).to_be_visible()
    expect(page.get_by_role("link", name="Flower")).to_be_visible()
    check_barriers(page)


def test_an_operator_makes_a_key_that_is_shown_once_and_revokes_it(
    opened: Callable[..., Page], new_key: Callable[..., str], stack: Stack
) -> None:
    page = opened("/console/system", new_key(Scope.ADMIN), viewport=PHONE)
    page.wait_for_load_state("networkidle")  # lists that come later move what is below them
    page.get_by_text("Make a new key").click()
    page.get_by_label("Name").fill(EVIL)
    page.get_by_label("It may").select_option("read")
    page.get_by_role("button", name="Make the key").click()
    secret = page.locator("#new-secret code").inner_text()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy").click()  # as without TLS: it is marked, to be copied
    assert page.evaluate("getSelection().toString()") == secret
    row = page.locator("#keys tr", has_text=EVIL)
    expect(row).to_contain_text("read")
    check_barriers(page)
    assert session_cookie(stack, secret)
    page.reload()
    expect(row).to_be_visible()
    assert secret not in page.content()
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(row).to_contain_text("revoked")
    used = httpx.get(
        f"{stack.address.api_url}/v1/jobs", headers={"Authorization": f"Bearer {secret}"}
    )
    assert used.status_code == 401


def test_an_operator_sees_the_last_errors_of_all_customers(
    opened: Callable[..., Page], new_key: Callable[..., str], stack: Stack, photos: Path
) -> None:
    with MattingClient(stack.address.api_url, new_key()) as shop:
        job = shop.submit_files([(photos / "page.jpg", "<b>page</b>.jpg")])
        shop.wait(job["id"])
    page = opened("/console/system", new_key(Scope.ADMIN), dark=True)
    failed = page.locator(".failures", has_text="not-an-image")
    expect(failed.get_by_text("<b>page</b>.jpg").first).to_be_visible()
    expect(failed).to_contain_text(job["id"].replace("-", "")[-8:])
    check_barriers(page)


def test_a_customer_tests_a_webhook_and_sees_no_other_customer(
    opened: Callable[..., Page], new_key: Callable[..., str]
) -> None:
    page = opened("/console/system", new_key(), viewport=PHONE)
    expect(page.get_by_text("No webhooks yet")).to_be_visible()
    expect(page.get_by_role("heading", name="API keys")).to_have_count(0)
    page.get_by_label("Address").fill(EVIL)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("whsec_")).to_be_visible()
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator("#deliveries").get_by_text("webhook.test")).to_be_visible()
    page.get_by_role("button", name="Send again").first.click()
    expect(page.get_by_text("on its way again")).to_be_visible()
    check_barriers(page)
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove the webhook").click()
    expect(page.get_by_text("No webhooks yet")).to_be_visible()
