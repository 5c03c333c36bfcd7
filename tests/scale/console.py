"""python -m tests.scale.console [--images N] [--jobs N] [--megapixels N]

Fills the database of a running system with finished images and jobs, opens the console in Chromium,
and prints how long its pages take; then paints on one very large photo. Times are in ms.
"""

import argparse
import io
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, sync_playwright

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.database import Database
from shared.jobs import ItemStatus, Verdict
from shared.models import Item, Job, new_id
from tests.browser.conftest import FLAGS, WIDE, chromium, session_cookie

ROWS_AT_ONCE = 5_000

FAILED_EVERY, MARKED_EVERY, ACCEPTED_EVERY = 50, 5, 10
"""One in so many images failed, is marked for review, was accepted."""

FRAMES_JS = """() => { window.seen = []; let last = performance.now();
  const tick = (at) => { window.seen.push(at - last); last = at; requestAnimationFrame(tick); };
  requestAnimationFrame(tick); }"""


def fill_images(database: Database, job_id: str, count: int) -> None:
    """Make a finished job of one image one of `count` images, which all show that image's files.
    Their names are their positions.
    """
    with database.transaction() as session:
        job = session.scalars(sa.select(Job).where(Job.id == uuid.UUID(job_id))).one()
        first = session.scalars(sa.select(Item).where(Item.job_id == job.id)).one()
        pattern = {one.name: getattr(first, one.name) for one in Item.__table__.columns}
        rows = [_row(pattern, position) for position in range(2, count + 1)]
        for start in range(0, len(rows), ROWS_AT_ONCE):
            session.execute(sa.insert(Item), rows[start : start + ROWS_AT_ONCE])
        statuses = [row["status"] for row in rows]
        job.total = count
        job.failed = statuses.count(ItemStatus.FAILED)
        job.succeeded = count - job.failed
        job.needs_review = int(first.needs_review) + sum(row["needs_review"] for row in rows)
        job.accepted = sum(row["verdict"] is not None for row in rows)


def _row(pattern: dict[str, Any], position: int) -> dict[str, Any]:
    failed = position % FAILED_EVERY == 0
    marked = not failed and position % MARKED_EVERY == 0
    row = pattern | {
        "id": new_id(),
        "position": position,
        "name": f"{position:06}.jpg",
        "source": f"s3://photos/{position:06}.jpg",
        "needs_review": marked,
        "review_reasons": ["soft"] if marked else [],
        "verdict": Verdict.ACCEPT if not failed and position % ACCEPTED_EVERY == 1 else None,
    }
    if failed:
        row |= {
            "status": ItemStatus.FAILED,
            "result_key": None,
            "error_code": "not-an-image",
            "error_detail": "The file is not an image.",
        }
    return row


def fill_jobs(database: Database, job_id: str, count: int) -> None:
    """Add `count` finished jobs of the same key, without images, older than all that come later."""
    with database.transaction() as session:
        job = session.scalars(sa.select(Job).where(Job.id == uuid.UUID(job_id))).one()
        pattern = {one.key: getattr(job, one.key) for one in sa.inspect(Job).column_attrs}
        rows = [
            pattern | {"id": new_id(), "labels": {"season": f"season {number}"}}
            for number in range(count)
        ]
        for start in range(0, count, ROWS_AT_ONCE):
            session.execute(sa.insert(Job), rows[start : start + ROWS_AT_ONCE])


def until_tile(page: Page, name: str) -> float:
    """Wait for an image in the grid; the milliseconds that it took."""
    began = time.perf_counter()
    page.locator(".tile .name", has_text=name).first.wait_for()
    return (time.perf_counter() - began) * 1e3


def nodes(page: Page) -> int:
    """The number of elements of the page."""
    return int(page.evaluate("document.querySelectorAll('*').length"))


def measure_grid(page: Page, job_id: str, count: int) -> dict[str, float]:
    """The grid of a filled job: first images, the middle, the end, filters."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    page.goto(f"/console/jobs/{job_id}")
    until_tile(page, f"{2:06}.jpg")
    found["first images"] = (time.perf_counter() - began) * 1e3
    most = nodes(page)
    for name, share in (("the middle", 0.5), ("the end", 1.0), ("a third", 0.33)):
        page.evaluate("share => scrollTo(0, document.body.scrollHeight * share)", share)
        found[name] = until_tile(page, _expected(page, share, count))
        most = max(most, nodes(page))
    for name, value in (("failed", "status=failed"), ("done", "status=succeeded")):
        page.get_by_label("Show").select_option(value=value)
        found[f"filter {name}"] = until_tile(
            page, f"{FAILED_EVERY:06}.jpg" if name == "failed" else f"{2:06}.jpg"
        )
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    found["filter done, the end"] = until_tile(page, f"{count - 1:06}.jpg")
    most = max(most, nodes(page))
    page.get_by_label("Show").select_option(value="")
    page.get_by_label("Name or id").fill(f"{count - 1:06}")
    found["the name of the last but one"] = until_tile(page, f"{count - 1:06}.jpg")
    page.get_by_label("Reason").select_option(value="soft")
    page.get_by_label("Name or id").fill("")
    found["filter by reason"] = until_tile(page, f"{MARKED_EVERY:06}.jpg")
    found["elements at most"] = most
    return found


def _expected(page: Page, share: float, count: int) -> str:
    """An image that must be in view at this share of the list."""
    if share == 1.0:
        return f"{count:06}.jpg"
    place = page.evaluate(
        """() => { const grid = document.getElementById("grid"), box = grid.getBoundingClientRect();
          return (innerHeight / 2 - box.top) / box.height; }"""
    )
    columns = page.evaluate("Math.floor((document.getElementById('grid').clientWidth + 10) / 200)")
    return f"{int(place * count / columns) * columns + 1:06}.jpg"


def measure_jobs(page: Page) -> dict[str, float]:
    """The list of very many jobs."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    page.goto("/console/jobs")
    page.locator("table.jobs tbody tr").first.wait_for()
    found["first jobs"] = (time.perf_counter() - began) * 1e3
    began = time.perf_counter()
    page.get_by_role("link", name="Older jobs").click()
    page.get_by_role("link", name="Newest jobs").wait_for()
    found["older jobs"] = (time.perf_counter() - began) * 1e3
    began = time.perf_counter()
    page.get_by_label("Search").fill("nobody-chose-this")
    page.keyboard.press("Enter")
    page.locator("#found section").wait_for()
    found["a word that no job has"] = (time.perf_counter() - began) * 1e3
    found["elements"] = nodes(page)
    return found


def large_photo(megapixels: float) -> bytes:
    """A JPEG of 3:2 with a disc on a grey ground."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(height * 1.5)
    y, x = np.ogrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    noise = np.random.default_rng(0).integers(0, 12, (height, width), np.uint8)
    pixels = np.stack([np.where(inside, 190, 225) + noise, np.where(inside, 60, 225) + noise,
                       np.where(inside, 50, 225) + noise], -1).astype(np.uint8)  # fmt: skip
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def measure_painting(page: Page, item_id: str) -> dict[str, float]:
    """Strokes over a large photo: the page's own work for a frame, and the time between frames."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    page.goto(f"/console/items/{item_id}/mend")
    page.locator("#board[data-ready=yes]").wait_for(timeout=120_000)
    found["loaded"] = (time.perf_counter() - began) * 1e3
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.evaluate(FRAMES_JS)
    for edges in (False, True):
        page.get_by_label("Stop at edges").set_checked(edges)
        for size, zoom in ((20, "0"), (40, "0"), (100, "0"), (40, "1")):
            page.locator("#size").fill(str(size))
            page.locator("#canvas").focus()
            page.keyboard.press(zoom)
            page.wait_for_timeout(300)
            _stroke(page, box, warm_up=True)
            page.evaluate("() => { mattingFrames(); seen.length = 0; }")
            _stroke(page, box)
            work, between = page.evaluate("() => [mattingFrames(), seen.slice()]")
            name = f"size {size}{' edges' if edges else ''}{' 100 %' if zoom == '1' else ''}"
            found[f"{name}, work 50 %"] = float(np.percentile(work, 50))
            found[f"{name}, work 95 %"] = float(np.percentile(work, 95))
            found[f"{name}, between 95 %"] = float(np.percentile(between, 95))
    return found


def _stroke(page: Page, box: Any, *, warm_up: bool = False) -> None:
    """A zigzag as fast as the browser takes moves."""
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    page.mouse.move(x + width * 0.2, y + height * 0.2)
    page.mouse.down()
    for number in range(1 if warm_up else 5):
        to = (x + width * (0.25 if number % 2 else 0.75), y + height * (0.2 + 0.12 * number))
        page.mouse.move(*to, steps=20)
    page.mouse.up()
    page.wait_for_timeout(100)


def opened(browser: Browser, stack: Stack) -> Page:
    """A page that is signed in with the stack's own key."""
    context = browser.new_context(base_url=stack.address.api_url, viewport=WIDE)  # type: ignore[arg-type]
    cookie = session_cookie(stack, stack.secrets.api_key)
    context.add_cookies(
        [{"name": "matting_session", "value": cookie, "url": stack.address.api_url}]
    )
    context.set_default_timeout(60_000)
    return context.new_page()


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--megapixels", type=float, default=24.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        with (
            Stack(Path(scratch)) as stack,
            MattingClient(stack.address.api_url, stack.secrets.api_key) as client,
        ):
            photo = Path(scratch) / "large.jpg"
            photo.write_bytes(large_photo(asked.megapixels))
            job = client.wait(client.submit_files([photo])["id"])
            (item,) = client.items(job["id"])
            page = opened(browser, stack)
            report("painting", measure_painting(page, item["id"]))
            database = Database(stack.settings.database_url, process="scale")
            fill_jobs(database, job["id"], asked.jobs)
            fill_images(database, job["id"], asked.images)
            report("grid", measure_grid(page, job["id"], asked.images))
            report("jobs", measure_jobs(page))
            database.close()
        browser.close()


def report(what: str, found: dict[str, float]) -> None:
    """Print the figures."""
    for name, value in found.items():
        print(f"{what:<10}{name:<40}{value:>10.1f}", flush=True)


if __name__ == "__main__":
    main()
