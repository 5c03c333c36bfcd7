"""Very many images and jobs: only what is looked at is loaded and shown. `python -m
tests.scale.console` measures the same with 100,000 of each.
"""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.database import Database
from tests.scale.console import MARKED_EVERY, fill_images, fill_jobs, measure_grid, measure_jobs

IMAGES, JOBS = 3_000, 2_000
MOST_ELEMENTS = 1_500


def test_the_grid_shows_the_middle_and_the_end_of_a_long_job(
    opened: Callable[..., Page], client: MattingClient, photos: Path, stack: Stack
) -> None:
    job = client.wait(client.submit_files([(photos / "shoe.jpg", "000001.jpg")])["id"])
    database = Database(stack.settings.database_url, process="tests")
    fill_images(database, job["id"], IMAGES)
    page = opened("/console/jobs")
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url) if "/items?" in sent.url else None)
    found = measure_grid(page, job["id"], IMAGES)
    assert found["elements at most"] < MOST_ELEMENTS
    assert len([url for url in asked if "after=2800" in url]) == 2, "once with each filter"
    assert len(asked) < 30, "not the whole list"
    assert page.locator(".tile").count() < IMAGES // 2
    names = page.locator(".tile .name").all_inner_texts()
    assert names, "the filter by reason"
    assert all(int(name.split(".")[0]) % MARKED_EVERY == 0 for name in names)
    client.delete(job["id"])
    database.close()


def test_the_list_stays_short_with_very_many_jobs(
    opened: Callable[..., Page], photos: Path, stack: Stack, new_key: Callable[..., str]
) -> None:
    secret = new_key()
    with MattingClient(stack.address.api_url, secret) as client:
        job = client.wait(client.submit_files([(photos / "shoe.jpg", "a.jpg")])["id"])
    database = Database(stack.settings.database_url, process="tests")
    fill_jobs(database, job["id"], JOBS)
    database.close()
    found = measure_jobs(opened("/console/jobs", secret))
    assert found["elements"] < MOST_ELEMENTS
