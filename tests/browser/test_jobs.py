"""The list of jobs and the page of one job."""

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Dialog, Page, Route, expect

from api.client import MattingClient
from tests.waiting import eventually

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def _jobs() -> dict[str, str]:
    return {}


@pytest.fixture
def job(_jobs: dict[str, str], client: MattingClient, photos: Path) -> str:
    """A finished job whose customer chose nasty names; made once."""
    if "id" not in _jobs:
        made = client.submit_files(
            [(path, path.name) for path in sorted(photos.iterdir())],
            metadata={"season": EVIL, EVIL: "x"},
        )
        _jobs["id"] = client.wait(made["id"])["id"]
    return _jobs["id"]


def test_a_job_shows_its_images_and_why_some_failed(opened: Callable[..., Page], job: str) -> None:
    page = opened("/console/jobs")
    page.get_by_role("link", name=job.replace("-", "")[-8:]).click()
    expect(page.get_by_text("not-an-image")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="shoe.jpg").locator("img")).to_be_visible()
    small = page.locator(".tile img").first
    assert "/thumbnail" in (small.get_attribute("src") or ""), "not the whole result"
    page.get_by_label("Show").select_option(label="failed")
    tiles = page.locator("#grid .tile")
    expect(tiles).to_have_count(1)
    expect(tiles).to_contain_text("page.jpg")
    page.reload()
    expect(tiles).to_have_count(1)


def test_what_a_customer_named_is_text(opened: Callable[..., Page], job: str) -> None:
    page = opened("/console/jobs")
    expect(page.get_by_text(EVIL).first).to_be_visible()
    page.goto(f"/console/jobs/{job}")
    expect(page.locator(".tile .name", has_text="<img src=x onerror=alert(1)>.jpg")).to_be_visible()
    page.get_by_text("Options", exact=True).click()
    expect(page.locator("#about dt", has_text=EVIL)).to_be_visible()
    assert page.locator('img[src="x"]').count() == 0


def test_many_images_are_judged_and_downloaded_at_once(
    opened: Callable[..., Page], job: str, client: MattingClient, tmp_path: Path
) -> None:
    import zipfile

    page = opened(f"/console/jobs/{job}")
    page.get_by_label("Select shoe.jpg").check()
    page.get_by_role("button", name="Select all shown").click()
    expect(page.get_by_text("2 selected")).to_be_visible()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download as zip").click()
    waiting.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        assert "shoe.png" in archive.namelist()
    held: list[Route] = []
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.route("**/v1/items/*/review", lambda route: held.append(route))
    page.get_by_role("button", name="Accept").click()
    expect(page.locator("#chosen-count")).to_have_text("0 of 2 …")
    eventually(lambda: len(held) == 2, "both to be on their way")
    page.evaluate("void location.reload()")
    eventually(lambda: asked == ["beforeunload"], "a question before they are lost")
    page.unroute("**/v1/items/*/review")  # this lets go what was held, too
    expect(page.locator(".mark.accept")).to_have_count(2)
    assert client.job(job)["review"]["accepted"] == 2


def test_a_job_is_retried_and_deleted_after_a_question(
    opened: Callable[..., Page], client: MattingClient, photos: Path
) -> None:
    made = client.submit_files([(photos / "shoe.jpg", "a.jpg")])
    client.wait(made["id"])
    page = opened(f"/console/jobs/{made['id']}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the job").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert made["id"] not in [one["id"] for one in client.jobs()]


def test_a_page_that_stays_open_says_what_happens_meanwhile(
    opened: Callable[..., Page], client: MattingClient, photos: Path
) -> None:
    made = client.submit_files([(photos / "shoe.jpg", "a.jpg")])
    client.wait(made["id"])
    page = opened(f"/console/jobs/{made['id']}")
    expect(page.locator("#head .state")).to_have_text("finished")
    page.wait_for_load_state("networkidle")  # any answer takes the notice away
    refresh = "htmx.trigger('#head', 'refresh')"
    delete = page.get_by_role("button", name="Delete")

    def until(seen: Callable[[], bool], what: str) -> None:
        def look() -> bool:  # a part that was just loaded does not listen yet
            page.evaluate(refresh)
            return seen()

        eventually(look, what, every_s=0.3)

    def refreshed() -> None:
        delete.evaluate("button => { button.before = true; }")
        until(lambda: not delete.evaluate("button => button.before"), "a new button")

    def told(text: str) -> None:
        until(lambda: page.get_by_role("alert").filter(has_text=text).count() == 1, text)

    delete.focus()
    refreshed()
    expect(delete).to_be_focused()
    page.route("**/head", lambda route: route.abort())
    told("does not answer")
    page.unroute("**/head")
    refreshed()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.route("**/head", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    told("502")
    page.unroute("**/head")
    client.delete(made["id"])
    page.evaluate(refresh)
    expect(page.get_by_text(f"There is no job {made['id']}")).to_be_visible()


def test_a_job_is_found_by_id_and_by_metadata(opened: Callable[..., Page], job: str) -> None:
    page = opened("/console/jobs")
    page.get_by_label("Search").fill("season")
    page.keyboard.press("Enter")
    expect(page.locator("#found").get_by_text("Found among")).to_be_visible()
    page.goto("/console/jobs?q=season")  # what a browser does whose script is not loaded yet
    expect(page.locator("#found").get_by_text("Found among")).to_be_visible()
    page.get_by_label("Search").fill(f"season={EVIL}")
    page.keyboard.press("Enter")
    expect(page.locator("#found a").first).to_have_attribute("href", f"/console/jobs/{job}")
    page.get_by_label("Search").fill(job)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/console/jobs/{job}")


def test_the_keyboard_alone_is_enough(
    opened: Callable[..., Page], job: str, client: MattingClient
) -> None:
    page = opened("/console/jobs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    link = f'a.job-name[href="/console/jobs/{job}"]'
    expect(page.locator(link)).to_be_visible()
    tab_to(page, link)
    page.keyboard.press("Enter")
    expect(page.locator(".tile a.shot").first).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    tab_to(page, ".tile .pick input")
    page.keyboard.press("Space")
    expect(page.get_by_text("1 selected")).to_be_visible()
    tab_to(page, "[data-many=reject]", backwards=True)
    page.keyboard.press("Enter")
    expect(page.locator(".mark.reject").first).to_be_visible()
    expect(page.locator(".tile .pick input").first).to_be_focused()


def tab_to(page: Page, selector: str, *, backwards: bool = False) -> None:
    """Go on with the Tab key until the element has the focus."""
    for _ in range(40):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by the Tab key")


def test_another_customer_s_job_is_not_there(
    opened: Callable[..., Page], job: str, new_key: Callable[..., str]
) -> None:
    page = opened(f"/console/jobs/{job}", new_key())
    expect(page.get_by_text(f"There is no job {job}")).to_be_visible()
    expect(page.get_by_text("Check the id and the API key")).to_be_visible()


def test_progress_comes_by_itself(
    opened: Callable[..., Page], client: MattingClient, photos: Path
) -> None:
    made = client.submit_files(
        [(photos / "shoe.jpg", f"{number}.jpg") for number in range(12)], priority=0
    )
    page = opened(f"/console/jobs/{made['id']}")
    expect(page.locator("#head .state")).to_have_text("finished")
    expect(page.locator(".tile a.shot").first).to_be_visible()


def check_barriers(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], [node["html"] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
