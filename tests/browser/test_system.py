"""The page of the system: for operators, and for a customer's webhooks."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from shared.jobs import Scope
from tests.browser.conftest import PHONE
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


def test_a_customer_tests_a_webhook_and_sees_no_other_customer(
    opened: Callable[..., Page], new_key: Callable[..., str]
) -> None:
    page = opened("/console/system", new_key(), viewport=PHONE)
    expect(page.get_by_text("Nobody is told")).to_be_visible()
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
    expect(page.get_by_text("Nobody is told")).to_be_visible()
