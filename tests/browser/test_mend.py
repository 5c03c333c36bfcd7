"""Mending: strokes reach the finished file, survive a reload, and meet no other customer."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from api.client import MattingClient
from deploy.stack.stack import Stack
from tests.browser.conftest import PHONE
from tests.browser.test_jobs import check_barriers
from tests.waiting import eventually

WIDTH, HEIGHT = 400, 300
CENTRE = (200, 150)
"""Of the red disc in the photo, whose radius is 90 pixels."""
CORNER = (30, 30)
LEFT, RIGHT = (110, 150), (290, 150)
"""The centres of two discs in another photo."""


@pytest.fixture
def item(client: MattingClient, photos: Path) -> str:
    """A finished image."""
    job = client.submit_files([(photos / "shoe.jpg", "shoe.jpg")])
    client.wait(job["id"])
    (found,) = client.items(job["id"])
    assert found["status"] == "succeeded"
    return found["id"]


def state(stack: Stack, item: str) -> dict[str, Any]:
    """The image as the API tells it."""
    answer = httpx.get(
        f"{stack.address.api_url}/v1/items/{item}",
        headers={"Authorization": f"Bearer {stack.secrets.api_key}"},
    )
    told: dict[str, Any] = answer.json()
    return told


def result_alpha(stack: Stack, item: str) -> NDArray[np.uint8]:
    """The alpha of the finished file: [300, 400] uint8."""
    answer = httpx.get(
        f"{stack.address.api_url}/v1/items/{item}/result",
        headers={"Authorization": f"Bearer {stack.secrets.api_key}"},
        follow_redirects=True,
    )
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))[..., 3]


def open_mend(opened: Callable[..., Page], item: str, **more: object) -> Page:
    page = opened(f"/console/items/{item}/mend", **more)
    page.locator("#board[data-ready=yes]").wait_for()
    return page


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the photo is, while the whole photo is shown."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    left = box["x"] + (box["width"] - WIDTH * scale) / 2
    top = box["y"] + (box["height"] - HEIGHT * scale) / 2
    return left + x * scale, top + y * scale


def drag(page: Page, start: tuple[int, int], end: tuple[int, int]) -> None:
    page.mouse.move(*on_screen(page, *start))
    page.mouse.down()
    page.mouse.move(*on_screen(page, *end), steps=8)
    page.mouse.up()


def brush(page: Page, tool: str, *, softness: int = 0, edge_aware: bool = False) -> None:
    page.bring_to_front()  # a hidden tab gets its input late
    page.get_by_role("button", name=tool, exact=False).first.click()
    page.locator("#size").fill("70")
    page.get_by_label("Softness").fill(str(softness))
    page.get_by_label("Stop at edges").set_checked(edge_aware)


def save(page: Page) -> None:
    page.bring_to_front()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#state")).to_contain_text("Saved")


def test_strokes_are_in_the_finished_file(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    before = result_alpha(stack, item)
    assert before[CENTRE[::-1]] > 200
    assert before[CORNER[::-1]] < 50
    page = open_mend(opened, item)
    brush(page, "Erase")
    drag(page, CENTRE, (CENTRE[0] + 30, CENTRE[1]))
    brush(page, "Restore")
    drag(page, CORNER, CORNER)
    expect(page.locator("#board")).to_have_attribute("data-steps", "2")
    check_barriers(page)
    save(page)
    after = result_alpha(stack, item)
    assert after[CENTRE[::-1]] < 20
    assert after[CENTRE[1], CENTRE[0] + 30] < 20
    assert after[CORNER[::-1]] > 235
    far = np.s_[200:230, 190:210]  # within the disc, away from both strokes
    assert np.abs(after[far].astype(int) - before[far].astype(int)).max() <= 2
    expect(page.get_by_text("Version 2")).to_be_visible()
    drag(page, CENTRE, CENTRE)
    expect(page.locator("#board")).to_have_attribute("data-steps", "1")
    page.get_by_role("button", name="Use this one").click()
    page.get_by_role("button", name="Keep my strokes").click()
    expect(page.locator("#board")).to_have_attribute("data-steps", "1")
    page.get_by_role("button", name="Use this one").click()
    page.get_by_role("button", name="Give up the strokes").click()
    expect(page.locator("#versions .tag")).to_have_count(1)
    assert result_alpha(stack, item)[CENTRE[::-1]] > 200


def test_strokes_survive_a_reload_and_can_be_undone(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    page = open_mend(opened, item, viewport=PHONE)
    brush(page, "Erase")
    for y in (120, 150, 180):
        drag(page, (150, y), (250, y))
    expect(page.locator("#board")).to_have_attribute("data-steps", "3")
    page.reload()
    page.locator("#board[data-ready=yes]").wait_for()
    expect(page.locator("#state")).to_contain_text("last time are back: 3")
    page.locator("#canvas").focus()
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+Shift+z")
    expect(page.locator("#board")).to_have_attribute("data-steps", "2")
    save(page)
    after = result_alpha(stack, item)
    assert after[120, 200] < 20
    assert after[150, 200] < 20


def test_the_brush_stops_at_an_edge_if_it_is_told_to(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    page = open_mend(opened, item)
    brush(page, "Erase", edge_aware=True)
    beside = (CENTRE[0] + 98, CENTRE[1])  # the brush reaches 24 pixels, 16 of them into the disc
    drag(page, beside, beside)
    expect(page.locator("#state")).not_to_contain_text("Loading")
    brush(page, "Restore")
    drag(page, CORNER, CORNER)
    save(page)
    assert result_alpha(stack, item)[CENTRE[1], CENTRE[0] + 80] > 200


def test_an_image_that_changed_meanwhile_is_not_overwritten_unasked(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    first = open_mend(opened, item)
    second = opened(f"/console/items/{item}/mend", context=first.context)
    second.locator("#board[data-ready=yes]").wait_for()
    brush(first, "Erase")
    drag(first, CENTRE, CENTRE)
    brush(second, "Restore")
    drag(second, CORNER, CORNER)
    second.get_by_role("button", name="Save").click()
    expect(second.locator("#state")).to_contain_text("Saved")
    first.bring_to_front()
    first.get_by_role("button", name="Save").click()
    first.get_by_role("button", name="Take mine").wait_for()
    assert result_alpha(stack, item)[CENTRE[::-1]] > 200
    first.get_by_role("button", name="Take mine").click()
    expect(first.locator("#state")).to_contain_text("Saved")
    assert result_alpha(stack, item)[CENTRE[::-1]] < 20


def test_two_tabs_keep_the_strokes_of_each(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    first = open_mend(opened, item)
    second = open_mend(opened, item, context=first.context)
    brush(first, "Erase")
    for y in (120, 150):
        drag(first, (150, y), (250, y))
    expect(first.locator("#board")).to_have_attribute("data-steps", "2")
    brush(second, "Restore")
    drag(second, CORNER, CORNER)
    expect(second.locator("#board")).to_have_attribute("data-steps", "1")
    first.bring_to_front()
    drag(first, (150, 180), (250, 180))
    expect(first.locator("#board")).to_have_attribute("data-steps", "3")
    save(second)
    first.bring_to_front()
    first.reload()
    first.get_by_role("button", name="Take mine").click()
    expect(first.locator("#board")).to_have_attribute("data-steps", "3")
    save(first)
    after = result_alpha(stack, item)
    assert [int(after[y, 200]) for y in (120, 150, 180)] == pytest.approx([0, 0, 0], abs=20)
    assert after[CORNER[::-1]] < 50, "the other tab's stroke"


def test_a_browser_without_room_says_so_and_saves(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    page = open_mend(opened, item)
    page.evaluate("void (IDBObjectStore.prototype.put = () => { throw new DOMException(); })")
    brush(page, "Erase")
    drag(page, CENTRE, CENTRE)
    expect(page.get_by_role("alert")).to_contain_text("no room to keep your strokes")
    drag(page, (CENTRE[0] + 50, CENTRE[1]), (CENTRE[0] + 50, CENTRE[1]))
    expect(page.locator("#board")).to_have_attribute("data-steps", "2")
    save(page)
    after = result_alpha(stack, item)
    assert after[CENTRE[::-1]] < 20
    assert after[CENTRE[1], CENTRE[0] + 50] < 20


def test_a_session_that_ends_costs_no_stroke(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    page = open_mend(opened, item)
    brush(page, "Erase")
    drag(page, CENTRE, CENTRE)
    page.context.clear_cookies()
    page.get_by_role("button", name="Save").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Your session has ended")
    with page.context.expect_page() as other:
        alert.get_by_role("link", name="Sign in").click()
    other.value.get_by_label("API key").fill(stack.secrets.api_key)
    other.value.keyboard.press("Enter")
    expect(other.value.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    save(page)
    assert result_alpha(stack, item)[CENTRE[::-1]] < 20


def test_selected_images_are_done_again_with_other_options(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    page = opened(f"/console/jobs/{state(stack, item)['job_id']}")
    page.get_by_label("Select shoe.jpg").check()
    page.get_by_role("button", name="Redo with").click()
    page.get_by_label("Other options").fill('{"format": "webp"}')
    page.get_by_role("button", name="Start").click()
    eventually(lambda: state(stack, item)["version"] == 2, "the second version")
    expect(page.locator(".mark", has_text="being made again")).to_have_count(0)
    expect(page.get_by_label("Select shoe.jpg")).to_be_focused()
    assert state(stack, item)["result_format"] == "webp"


def two_discs() -> bytes:
    """A photo [300, 400] of a red disc on the left and a blue one on the right."""
    photo = np.full((HEIGHT, WIDTH, 3), 230, np.uint8)
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    photo[(x - LEFT[0]) ** 2 + (y - LEFT[1]) ** 2 < 60**2] = (190, 40, 40)
    photo[(x - RIGHT[0]) ** 2 + (y - RIGHT[1]) ** 2 < 60**2] = (40, 60, 190)
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_a_box_and_points_say_what_is_meant(
    opened: Callable[..., Page], client: MattingClient, stack: Stack, tmp_path: Path
) -> None:
    (tmp_path / "two.jpg").write_bytes(two_discs())
    job = client.wait(client.submit_files([(tmp_path / "two.jpg", "two.jpg")])["id"])
    item = next(iter(client.items(job["id"])))["id"]
    page = open_mend(opened, item)
    page.locator("#canvas").focus()
    page.keyboard.press("b")
    drag(page, (LEFT[0] - 75, LEFT[1] - 75), (LEFT[0] + 75, LEFT[1] + 75))
    expect(page.locator("#meant")).to_contain_text("The box")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("Version 2")).to_be_visible(timeout=60_000)
    alpha = result_alpha(stack, item)
    assert alpha[LEFT[::-1]] > 200
    assert alpha[RIGHT[::-1]] < 50
    eventually(lambda: finished_colours(page) == (True, False), "the finished file with the left")
    page.locator("#canvas").focus()
    page.keyboard.press("p")
    page.mouse.click(*on_screen(page, *RIGHT))
    page.keyboard.down("Shift")
    page.mouse.click(*on_screen(page, *LEFT))
    page.keyboard.up("Shift")
    expect(page.locator("#meant")).to_contain_text("subject: 2")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("Version 3")).to_be_visible(timeout=60_000)
    alpha = result_alpha(stack, item)
    assert alpha[RIGHT[::-1]] > 200
    assert alpha[LEFT[::-1]] < 50
    eventually(lambda: finished_colours(page) == (False, True), "the finished file with the right")


def finished_colours(page: Page) -> tuple[bool, bool]:
    """Whether the page's picture of the finished file has a colour in its left and right half."""
    shown = np.asarray(
        Image.open(io.BytesIO(page.locator("#finished").screenshot())).convert("HSV")
    )
    middle = shown.shape[1] // 2
    left, right = shown[:, :middle, 1], shown[:, middle:, 1]
    return bool((left > 100).mean() > 0.05), bool((right > 100).mean() > 0.05)


class Fingers:
    """Fingers on the screen, as the browser gets them from a touch screen."""

    def __init__(self, page: Page) -> None:
        self._cdp = page.context.new_cdp_session(page)

    def __call__(self, kind: str, *places: tuple[float, float]) -> None:
        """`touchStart`, `touchMove` or `touchEnd`, with all fingers that are down then."""
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self._cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_two_fingers_zoom_and_leave_no_stroke(opened: Callable[..., Page], item: str) -> None:
    page = open_mend(opened, item, viewport=PHONE)
    touch, before = Fingers(page), scale(page)
    x, y = on_screen(page, *CENTRE)
    touch("touchStart", (x - 30, y))
    touch("touchMove", (x - 40, y))  # one finger paints ...
    touch("touchStart", (x - 40, y), (x + 30, y))  # ... until a second comes
    for far in (50, 70, 90):
        touch("touchMove", (x - far, y), (x + far, y))
    touch("touchEnd")
    assert scale(page) > 1.8 * before
    expect(page.locator("#board")).to_have_attribute("data-steps", "0")


def test_one_finger_paints(opened: Callable[..., Page], item: str, stack: Stack) -> None:
    page = open_mend(opened, item, viewport=PHONE)
    brush(page, "Erase")
    touch = Fingers(page)
    x, y = on_screen(page, *CENTRE)
    touch("touchStart", (x, y))
    for far in (5, 10):
        touch("touchMove", (x + far, y))
    touch("touchEnd")
    expect(page.locator("#board")).to_have_attribute("data-steps", "1")
    save(page)
    assert result_alpha(stack, item)[CENTRE[::-1]] < 20


def scale(page: Page) -> int:
    """The zoom in per cent."""
    return int(page.locator("#scale").inner_text().split()[0])


def test_a_pen_that_presses_harder_paints_wider(
    opened: Callable[..., Page], item: str, stack: Stack
) -> None:
    page = open_mend(opened, item)
    brush(page, "Erase")
    pen(page, (200, 110), force=0.05)
    expect(page.locator("#board")).to_have_attribute("data-steps", "1")
    pen(page, (200, 190), force=1.0)
    expect(page.locator("#board")).to_have_attribute("data-steps", "2")
    save(page)
    alpha = result_alpha(stack, item)
    light, strong = ((alpha[row, 150:250] < 50).sum() for row in (110, 190))
    assert light < 0.6 * strong
    assert light > 5


def pen(page: Page, place: tuple[int, int], *, force: float) -> None:
    """Press a pen on a pixel of the photo."""
    x, y = on_screen(page, *place)
    cdp = page.context.new_cdp_session(page)
    pressed = {"x": x, "y": y, "button": "left", "clickCount": 1, "pointerType": "pen"}
    for kind, more in (("mouseMoved", {"button": "none"}), ("mousePressed", {"force": force}),
                       ("mouseReleased", {})):  # fmt: skip
        cdp.send("Input.dispatchMouseEvent", pressed | {"type": kind} | more)
    cdp.detach()


def test_another_customer_mends_nothing_of_it(
    opened: Callable[..., Page], item: str, new_key: Callable[..., str]
) -> None:
    page = opened(f"/console/items/{item}/mend", new_key())
    expect(page.get_by_text(f"There is no item {item}")).to_be_visible()
