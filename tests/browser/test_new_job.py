"""A new job: files go to the storage, also over a reload; a trial; the job itself."""

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import FilePayload, Page, Route, expect

from api.client import MattingClient
from tests.browser.conftest import PHONE
from tests.browser.test_jobs import check_barriers
from tests.clips import moving_square, write
from tests.waiting import eventually


def test_photos_become_a_job_after_a_trial(
    opened: Callable[..., Page], photos: Path, client: MattingClient
) -> None:
    before = trials(client)
    page = opened("/console/new")
    (photos / "notes.txt").write_text("no photo")
    write(photos / "film.mp4", moving_square(3))
    (photos / "empty.jpg").write_bytes(b"")
    page.locator("#folder").set_input_files(photos)
    expect(page.get_by_text("Files sent: 4")).to_be_visible()
    page.get_by_text("2 left out").click()
    expect(page.get_by_text("notes.txt – neither a photo nor a clip")).to_be_visible()
    expect(page.get_by_text("empty.jpg – empty file")).to_be_visible()
    page.locator("#format").select_option("zip")
    page.get_by_role("button", name="Try it").click()
    result = page.locator("#trial-result")
    expect(result).to_have_attribute("src", re.compile("/thumbnail"))
    eventually(lambda: result.evaluate("one => one.naturalWidth") > 0, "what a browser can show")
    page.locator("#format").select_option("")
    page.get_by_label("Format of clips").select_option("mp4")
    page.get_by_role("radio", name="amazon").check()
    page.get_by_role("button", name="Another photo").click()
    page.get_by_role("button", name="Another photo").wait_for(state="visible")
    expect(page.locator("#trial-text")).to_contain_text(" s")
    page.get_by_label("Name of the job").fill("Spring")
    check_barriers(page)
    page.get_by_text("Publish to S3").click()
    page.get_by_label("Also write each result to this key").fill("s3://matting/spring/{path}.{ext}")
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url("**/console/jobs/*-*")
    job = client.wait(page.url.rsplit("/", 1)[1])
    assert job["metadata"] == {"name": "Spring"}
    assert job["destination"] == "s3://matting/spring/{path}.{ext}"
    assert trials(client) == before, "the trial's job went with its purpose"
    assert job["options"]["preset"] == "amazon"
    assert job["counts"]["total"] == 4
    items = {item["name"]: item for item in client.items(job["id"])}
    names = set(items)
    assert items["photos/film.mp4"]["result_format"] == "mp4"
    assert "photos/<img src=x onerror=alert(1)>.jpg" in names
    page.goto("/console/new")
    expect(page.locator("#sending")).to_be_hidden()


def trials(client: MattingClient) -> list[str]:
    return [one["id"] for one in client.jobs() if "trial" in one["metadata"]]


def test_sending_goes_on_after_a_reload_and_sends_nothing_twice(
    opened: Callable[..., Page], jpeg: bytes, tmp_path: Path, client: MattingClient
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.jpg").write_bytes(jpeg)
    page = opened("/console/new", viewport=PHONE)
    puts: list[str] = []
    held: list[Route] = []

    def slow_from_the_sixth(route: Route) -> None:
        if route.request.method == "PUT":
            if len(puts) >= 5:
                held.append(route)  # neither sent nor refused: as on a line that is gone
                return
            puts.append(route.request.url)
        route.continue_()

    page.route("**/uploads/**", slow_from_the_sixth)
    page.locator("#files").set_input_files(sorted(folder.iterdir()))
    expect(page.get_by_text("5 of 12 files sent")).to_be_visible()
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_text("Starts by itself")).to_be_visible()
    again: list[str] = []
    page.on("request", lambda sent: again.append(sent.url) if sent.method == "PUT" else None)
    page.reload()
    page.unroute("**/uploads/**")  # this lets go what was held, too
    page.wait_for_url("**/console/jobs/*-*")
    assert len(again) == 7
    assert client.wait(page.url.rsplit("/", 1)[1])["counts"]["succeeded"] == 12


def test_addresses_that_are_too_old_are_asked_for_again(
    opened: Callable[..., Page], jpeg: bytes
) -> None:
    page = opened("/console/new")
    old: set[str] = set()
    refused: list[str] = []

    def note_the_first_ones(route: Route) -> None:
        answer = route.fetch()
        if not refused:
            old.update(one["url"] for one in answer.json()["uploads"])
        route.fulfill(response=answer)

    def refuse_the_first_ones(route: Route) -> None:
        if route.request.method == "PUT" and route.request.url in old:
            refused.append(route.request.url)
            allowed = {"Access-Control-Allow-Origin": "*"}
            route.fulfill(
                status=403, headers=allowed, body="<Error><Code>AccessDenied</Code></Error>"
            )
        else:
            route.continue_()

    page.route("**/v1/uploads", note_the_first_ones)
    page.route("**/uploads/**", refuse_the_first_ones)
    names = [f"{number}.jpg" for number in range(30)]
    page.locator("#files").set_input_files(
        [FilePayload(name=name, mimeType="image/jpeg", buffer=jpeg) for name in names]
    )
    expect(page.get_by_text("Files sent: 30")).to_be_visible()
    other = FilePayload(name="0.jpg", mimeType="image/jpeg", buffer=jpeg + b"\0")
    page.locator("#files").set_input_files([other])
    page.get_by_text("1 left out").click()
    expect(page.get_by_text("0.jpg – a file of this name that was added before")).to_be_visible()


def test_two_tabs_do_not_send_the_same_files(opened: Callable[..., Page]) -> None:
    first = opened("/console/new")
    expect(first.locator("#start-text")).to_contain_text("Drop photos first")
    second = opened("/console/new", context=first.context)
    expect(second.get_by_role("alert")).to_contain_text("open in another tab")
    first.close()
    second.reload()
    expect(second.get_by_role("alert")).to_be_hidden()


def test_a_source_that_is_not_allowed_says_what_to_do(
    opened: Callable[..., Page], jpeg: bytes
) -> None:
    page = opened("/console/new")
    page.get_by_text("Or name where the photos are").click()
    page.get_by_label("A folder, zip file or list in S3").fill("s3://elsewhere/photos/")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("alert")).to_contain_text("elsewhere")
    expect(page.get_by_role("button", name="Start the job")).to_be_enabled()
    photo = FilePayload(name="a.jpg", mimeType="image/jpeg", buffer=jpeg)
    page.locator("#files").set_input_files([photo])
    expect(page.locator("#start-text")).to_contain_text("A job has one source")
    expect(page.get_by_role("button", name="Start the job")).to_be_disabled()
