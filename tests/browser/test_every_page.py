"""What holds for each page: no barriers, no markup from names, all reached by the keyboard."""

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Dialog, Page, expect

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.browser.conftest import PHONE
from tests.browser.test_jobs import check_barriers

EVIL = "<img src=x onerror=alert(1)>"
OTHER_EVIL = "\"'><svg onload=alert(1)>"
LONG = "w" * 150
"""A word that no screen is wide enough for."""


@pytest.fixture(scope="module")
def _places() -> dict[str, str]:
    return {}


@pytest.fixture
def places(
    _places: dict[str, str], client: MattingClient, stack: Stack, jpeg: bytes, tmp_path: Path
) -> dict[str, str]:
    """The paths of all pages. Everything that a customer may name has a nasty name; made once."""
    if not _places:
        Storage(stack.settings).put("samples/disc.jpg", jpeg, "image/jpeg")
        listed = tmp_path / "list.csv"
        listed.write_text(
            f'key,id,"{EVIL}",options\n'
            f'samples/disc.jpg,"{EVIL}","<script>alert(1)</script>",\n'
            f'samples/{LONG}.jpg,"{EVIL}2",x,\n'
        )
        named = {"name": EVIL + LONG, EVIL: OTHER_EVIL}
        job = client.submit_attached("manifest", listed, metadata=named)
        client.wait(job["id"])
        item = next(iter(client.items(job["id"], status="succeeded")))
        _places.update(
            jobs="/console/jobs",
            new="/console/new",
            job=f"/console/jobs/{job['id']}",
            review=f"/console/jobs/{job['id']}/review?at={item['id']}",
            mend=f"/console/items/{item['id']}/mend",
            system="/console/system",
            error="/console/jobs/00000000-0000-0000-0000-000000000000",
            signed_out="/console/sign-in?ended=1",
        )
    return _places


def shown(page: Page, name: str, path: str) -> None:
    """Open a page and wait until all that it loads is there."""
    page.goto(path)
    expect(page.locator("h1").first).to_be_attached()
    ready = {
        "job": ".tile .name",
        "review": "#stage img",
        "mend": "#board[data-ready=yes]",
        "system": "#keys table",
        "jobs": "table.jobs tbody tr",
    }.get(name)
    if ready:
        page.locator(ready).first.wait_for(state="attached")


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_no_page_has_a_serious_barrier(
    opened: Callable[..., Page], places: dict[str, str], look: str
) -> None:
    more = {"dark": look == "dark"} | ({"viewport": PHONE} if look == "phone" else {})
    page = opened("/console/jobs", **more)
    for name, path in places.items():
        shown(page, name, path)
        if look == "dark":  # the same elements in other colours
            found = Axe().run(page, options={"runOnly": ["color-contrast"]}).response
            assert [node["html"] for one in found["violations"] for node in one["nodes"]] == [], (
                name
            )
        else:
            check_barriers(page)
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wide, f"{name} scrolls sideways"


def test_names_are_text_on_every_page(
    opened: Callable[..., Page], places: dict[str, str], client: MattingClient
) -> None:
    asked: list[str] = []
    page = opened("/console/jobs")

    def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    for name, path in places.items():
        shown(page, name, path)
        assert page.locator('img[src="x"], svg[onload], script:text("alert(1)")').count() == 0, name
    page.goto(places["job"])
    expect(page.locator(".tile .name", has_text=EVIL).first).to_be_visible()
    title = page.locator(".tile .name").first.get_attribute("title")
    assert f"{EVIL}: <script>alert(1)</script>" in (title or "")
    page.goto(places["review"])
    expect(page.locator("#name")).to_contain_text(EVIL)
    page.goto(places["mend"])
    expect(page.locator("h1")).to_contain_text(EVIL)
    page.goto("/console/jobs")
    page.get_by_label("Search").fill(EVIL)
    page.keyboard.press("Enter")
    page.wait_for_url("**/review?at=*")
    assert asked == []


REACHABLE = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex='0']")].filter((one) =>
  !one.disabled && one.checkVisibility({ visibilityProperty: true }) &&
  one.tabIndex >= 0 && !(one.type === "radio" && !one.checked)).length"""
"""How many elements the Tab key must reach; of a group of radio buttons it reaches one."""
REACHED = """() => {
  const one = document.activeElement;
  window.reached ??= new Set();
  if (one === document.body || reached.has(one)) return;
  reached.add(one);
  const width = Number.parseFloat(getComputedStyle(one).outlineWidth) || 0;
  if (!width) (window.unseen ??= []).push(one.outerHTML.slice(0, 90));
}"""


def test_the_tab_key_reaches_everything_and_shows_where_it_is(
    opened: Callable[..., Page], places: dict[str, str]
) -> None:
    page = opened("/console/jobs")
    for name, path in places.items():
        if name == "jobs":  # other tests' jobs: the list changes by itself
            continue
        shown(page, name, path)
        wanted = page.evaluate(REACHABLE)
        page.keyboard.press("Tab")
        for _ in range(wanted + 3):
            page.evaluate(REACHED)
            page.keyboard.press("Tab")
        assert page.evaluate("reached.size") >= wanted, name
        assert page.evaluate("window.unseen ?? []") == [], f"{name}: the focus is not seen"
