"""Both clients through a whole job on the running system."""

import asyncio
from pathlib import Path

import PIL.Image

from api.client import AsyncMattingClient, Item, Job, MattingClient
from deploy.stack.stack import Stack


def test_asyncio_submits_listens_fetches_and_reports(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    sent: list[int] = []
    done: list[Path] = []

    def note(_item: Item, path: Path) -> None:
        done.append(path)

    async def whole() -> tuple[list[Job], list[tuple[Item, Path]]]:
        async with AsyncMattingClient(stack.address.api_url, stack.secrets.api_key) as client:
            files = [(folder / "x.jpg", "a/x.jpg"), (folder / "page.jpg", "a/page.jpg")]
            job = await client.submit_files(
                files,
                on_sent=sent.append,
                options={"format": "webp"},
                metadata={"season": "spring"},
            )
            heard = [job async for job in client.events(job["id"])]
            assert (await client.wait(job["id"]))["metadata"] == {"season": "spring"}
            results = await client.download(job["id"], tmp_path / "out", on_done=note)
            await client.report(job["id"], tmp_path / "report.csv")
            failed = [item["name"] async for item in client.items(job["id"], status="failed")]
            assert failed == ["a/page.jpg"]
            assert job["id"] in [job["id"] async for job in client.jobs()]
            await client.delete(job["id"])
            return heard, results

    heard, [(item, path)] = asyncio.run(whole())
    assert sum(sent) == 2
    assert heard[-1]["status"] == "finished"
    assert heard[-1]["counts"]["succeeded"] == heard[-1]["counts"]["failed"] == 1
    assert (item["name"], path, done) == ("a/x.jpg", tmp_path / "out" / "a" / "x.webp", [path])
    with PIL.Image.open(path) as picture:
        assert picture.size == (400, 300)
    lines = (tmp_path / "report.csv").read_text().splitlines()
    assert len(lines) == 3


def test_events_of_a_finished_job_are_its_end_only(client: MattingClient, folder: Path) -> None:
    job = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    assert [one["counts"] for one in client.events(job["id"])] == [job["counts"]]
