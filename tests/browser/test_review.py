"""Review: by keys, quickly, and nothing lost."""

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Locator, Page, Route, expect

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.database import Database
from shared.models import Item
from tests.browser.conftest import PHONE
from tests.browser.test_jobs import check_barriers
from tests.clips import moving_square, write
from tests.waiting import eventually

PHOTOS = 8


@pytest.fixture(scope="module")
def _made() -> dict[str, str]:
    return {}


@pytest.fixture
def job(_made: dict[str, str], client: MattingClient, photos: Path) -> str:
    """A finished job of a few photos; made once."""
    if "id" not in _made:
        made = client.submit_files(
            [(photos / "shoe.jpg", f"{number}.jpg") for number in range(PHOTOS)]
        )
        _made["id"] = client.wait(made["id"])["id"]
    return _made["id"]


def reviewed(client: MattingClient, job: str) -> list[str | None]:
    return [item["verdict"] for item in client.items(job)]


def test_a_reviewer_goes_through_by_keys(
    opened: Callable[..., Page], client: MattingClient, job: str
) -> None:
    page = opened(f"/console/jobs/{job}/review?which=status%3Dsucceeded")
    expect(page.locator("#at")).to_have_text(f"1 of {PHOTOS}")
    expect(page.locator("#stage img").first).to_be_visible()
    for number in range(2, 6):
        before = page.locator("#stage").get_attribute("data-shown")
        page.keyboard.press("a")
        expect(page.locator("#at")).to_have_text(f"{number} of {PHOTOS}")
        expect(page.locator("#stage")).not_to_have_attribute("data-shown", before or "")
    # The page's own clock, from the key to the next photo.
    expect(page.locator("#stage")).to_have_attribute("data-reacted-ms", re.compile(r"\d"))
    page.keyboard.press("r")
    page.keyboard.press("3")
    expect(page.locator("#at")).to_have_text(f"6 of {PHOTOS}")
    page.keyboard.press("r")
    page.keyboard.press("r")
    expect(page.locator("#at")).to_have_text(f"7 of {PHOTOS}")
    page.keyboard.press("u")
    expect(page.locator("#at")).to_have_text(f"6 of {PHOTOS}")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#marks")).to_contain_text("rejected: part missing")
    expected = ["accept"] * 4 + ["reject"] + [None] * 3
    eventually(lambda: reviewed(client, job) == expected, "the verdicts to be stored")


def test_a_result_that_loads_slowly_is_seen_small_at_first(
    opened: Callable[..., Page], job: str
) -> None:
    page = opened("/console/jobs")
    held: list[Route] = []
    page.route("**/result?*", lambda route: held.append(route))
    page.goto(f"/console/jobs/{job}/review?which=status%3Dsucceeded", wait_until="commit")
    small = page.locator('#stage img[src*="/thumbnail"]')
    eventually(lambda: small.evaluate("one => one.naturalWidth") > 0, "the small picture")
    check_barriers(page)
    page.unroute("**/result?*")  # this lets go what was held, too
    expect(small).to_have_count(0)
    expect(page.locator("#stage img").first).to_be_visible()


def test_a_reload_and_the_way_back_show_the_same_photo(
    opened: Callable[..., Page], client: MattingClient, job: str
) -> None:
    third = [item["id"] for item in client.items(job)][2]
    page = opened(f"/console/jobs/{job}/review?which=status%3Dsucceeded")
    name = page.locator("#name")
    expect(name).to_have_text("0.jpg")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(name).to_have_text("2.jpg")
    page.wait_for_url(f"**/review?at={third}*")
    page.reload()
    expect(name).to_have_text("2.jpg")
    page.keyboard.press("ArrowRight")
    expect(name).to_have_text("3.jpg")
    page.keyboard.press("m")
    page.locator("#board[data-ready=yes]").wait_for()
    page.go_back()
    expect(name).to_have_text("3.jpg")
    assert page.locator("#which").input_value() == "status=succeeded"


def test_keys_change_the_look(opened: Callable[..., Page], job: str) -> None:
    page = opened(f"/console/jobs/{job}/review?which=status%3Dsucceeded")
    stage = page.locator("#stage")
    expect(page.locator("#stage img").first).to_be_visible()
    page.keyboard.press("3")
    colour = "stage => getComputedStyle(stage).backgroundColor"
    eventually(lambda: stage.evaluate(colour) == "rgb(0, 0, 0)", "a black background")
    page.keyboard.press("1")
    page.keyboard.down("c")
    expect(page.locator("#stage .photo")).to_be_visible()
    page.keyboard.up("c")
    expect(page.locator("#stage .photo")).to_be_hidden()
    page.get_by_role("button", name="Photo", exact=False).first.focus()
    page.keyboard.down("Space")
    expect(page.locator("#stage .photo")).to_be_visible()
    page.keyboard.up("Space")
    expect(page.locator("#stage .photo")).to_be_hidden()
    page.keyboard.press("z")
    wide = "stage => stage.querySelector('.sight').clientWidth >= 400"
    eventually(lambda: stage.evaluate(wide), "the photo's own size")
    page.keyboard.press("z")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    expect(page.locator("#slider")).to_be_visible()
    check_barriers(page)


def test_who_mends_a_rejected_photo_comes_back_to_the_rejected_ones(
    opened: Callable[..., Page], client: MattingClient, job: str
) -> None:
    first, second = [item["id"] for item in client.items(job)][-2:]
    client.review(first, "reject")
    page = opened(f"/console/jobs/{job}/review?which=review%3Drejected&at={first}")
    expect(page.locator("#name")).to_have_text(f"{PHOTOS - 2}.jpg")
    page.keyboard.press("m")
    page.locator("#board[data-ready=yes]").wait_for()
    page.get_by_role("link", name="Review").click()
    expect(page.locator("#name")).to_have_text(f"{PHOTOS - 2}.jpg")
    assert page.locator("#which").input_value() == "review=rejected"
    # A photo that was mended is no longer rejected, and waits for its new verdict all the same.
    page.goto(f"/console/jobs/{job}/review?which=review%3Drejected&at={second}")
    expect(page.locator("#name")).to_have_text(f"{PHOTOS - 1}.jpg")


def test_a_verdict_survives_a_service_that_is_away(
    opened: Callable[..., Page], client: MattingClient, job: str
) -> None:
    page = opened(f"/console/jobs/{job}/review?which=status%3Dsucceeded", viewport=PHONE)
    expect(page.locator("#at")).to_have_text(f"1 of {PHOTOS}")
    page.route("**/review", lambda route: route.abort())
    page.get_by_role("button", name="Reject").click()
    page.get_by_role("button", name="Cancel").click()  # a phone has no Escape key
    expect(page.locator("#because")).to_be_hidden()
    expect(page.locator("#at")).to_have_text(f"1 of {PHOTOS}")
    page.get_by_role("button", name="Reject").click()
    page.get_by_role("button", name="edges").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.locator("#at")).to_have_text(f"2 of {PHOTOS}")
    page.unroute("**/review")
    eventually(lambda: reviewed(client, job)[0] == "reject", "the verdict to arrive")
    check_barriers(page)


def test_another_customer_reviews_nothing_of_it(
    opened: Callable[..., Page], job: str, new_key: Callable[..., str]
) -> None:
    page = opened(f"/console/jobs/{job}/review", new_key())
    expect(page.get_by_text(f"There is no job {job}")).to_be_visible()


def test_a_clip_is_played_and_its_times_of_doubt_lead_to_them(
    opened: Callable[..., Page], client: MattingClient, stack: Stack, tmp_path: Path
) -> None:
    film = write(tmp_path / "film.mp4", moving_square(12, (96, 64)))
    made = client.wait(client.submit_files([film])["id"])
    database = Database(stack.settings.database_url, process="tests")
    with database.transaction() as session:
        item = session.scalars(sa.select(Item).where(Item.job_id == uuid.UUID(made["id"]))).one()
        doubt = {"start_s": 0.2, "end_s": 0.3, "reason": "soft"}
        item.clip = {**(item.clip or {}), "doubts": [doubt]}
    database.close()

    def check(page: Page, player: Locator) -> None:
        expect(player).to_be_visible()
        eventually(lambda: player.evaluate("film => film.videoWidth") == 96, "the clip to be read")
        page.get_by_role("button", name="0:00.2–0:00.3 half-transparent").click()
        expect(player).to_have_js_property("currentTime", 0.2)
        check_barriers(page)

    page = opened(f"/console/jobs/{made['id']}")
    page.get_by_role("button", name="Play film.mp4").click()
    check(page, page.locator("#player video"))
    page.get_by_role("button", name="Redo with").click()
    expect(page.get_by_role("heading", name="Do the selected images again")).to_be_visible()
    page.get_by_role("button", name="Leave them").click()
    page.goto(f"/console/jobs/{made['id']}/review?which=status%3Dsucceeded")
    check(page, page.locator("#stage video.film"))
    for name in ("Mend", "Slider", "Why"):
        expect(page.get_by_role("link" if name == "Mend" else "button", name=name)).to_be_hidden()
    before = page.locator("#stage video.photo")
    expect(before).to_have_attribute("src", re.compile(r"/photo$"))  # parts of it, of any size
    page.keyboard.down("c")
    eventually(
        lambda: before.evaluate("film => film.videoWidth") == 96,
        "the clip that was sent to be read",
    )
    page.keyboard.up("c")
    page.goto(f"/console/items/{item.id}/mend")
    expect(page.get_by_text("can’t be mended with a brush")).to_be_visible()
