"""The client for asyncio: the methods of `MattingClient`, to be awaited; transfers run as tasks."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack, cast

import httpx

from api.client import calls
from api.client.answers import Answer, Item, Job
from api.client.calls import TRANSFERS, ApiError, JobSettings, bound_key
from api.client.connection import AsyncConnection, Page
from api.client.downloading import Download, downloads
from api.client.listening import listen
from api.client.streaming import LAST_OF_TRIES, UploadStream, streamed
from api.client.uploading import UPLOADS_PER_REQUEST, Journal, LocalFile, LocalFiles, local_files
from api.client.webhooks import AsyncWebhooks

T = TypeVar("T")


class AsyncMattingClient(AsyncConnection):
    """A connection to the service, for one event loop; an asynchronous context manager."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        """`url`: the service's address; `api_key`: what `matting keys create` printed."""
        super().__init__(url, api_key, timeout_s=timeout_s)
        self.webhooks = AsyncWebhooks(self)

    async def submit(
        self,
        source: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **settings: Unpack[JobSettings],
    ) -> Job:
        """Submit a job of a source that the service can read, such as `{"prefix": "s3://…"}`.

        Raises ApiError.
        """
        call = calls.submit(source, settings, idempotency_key=idempotency_key)
        return cast(Job, await self.ask(call))

    async def submit_attached(
        self,
        kind: Literal["manifest", "zip"],
        path: Path | str,
        *,
        on_sent: Callable[[int], None] = lambda _bytes: None,
        **settings: Unpack[JobSettings],
    ) -> Job:
        """Submit a job of a local manifest (CSV or JSONL), or of a zip file of photos.

        It goes straight to the storage, however large; `on_sent` hears of the bytes that have
        gone. Raises ApiError, OSError.
        """
        [slot] = (await self.ask(calls.reserve_uploads(1)))["uploads"]
        for last in LAST_OF_TRIES:
            sent = UploadStream(on_sent)
            try:
                answer = await self._storage.put(
                    slot["url"], content=sent.chunks(Path(path)), **streamed(Path(path))
                )
                if answer.is_success:
                    break
                problem: Exception = calls.transfer_failure(answer, "upload-failed", path)
            except httpx.TransportError as error:
                problem = error
            if last:
                raise problem
            sent.take_back()
        return await self.submit({kind: slot["upload"]}, **settings)

    async def estimate(self, source: Mapping[str, Any], **settings: Unpack[JobSettings]) -> Answer:
        """What a job of this source would take; nothing is submitted. Raises ApiError."""
        return await self.ask(calls.submit(source, settings, dry_run=True))

    async def submit_files(
        self,
        files: LocalFiles,
        *,
        journal: Journal | None = None,
        on_sent: Callable[[int], None] = lambda _count: None,
        **settings: Unpack[JobSettings],
    ) -> Job:
        """Send local files and submit them as one job.

        `journal` lets a submission that broke off go on; `on_sent` hears of each file that has
        gone. Raises ApiError, OSError.
        """
        journal = journal or Journal(None)
        wanted = local_files(files)
        for start in range(0, len(wanted), UPLOADS_PER_REQUEST):
            chunk = wanted[start : start + UPLOADS_PER_REQUEST]
            rest = [file for file in chunk if journal.handle(file) is None]
            on_sent(len(chunk) - len(rest))
            await self._send_many(rest, journal, on_sent)
        refs = [{"upload": journal.handle(file), "name": file.name} for file in wanted]
        job = await self.submit(
            {"uploads": refs},
            idempotency_key=bound_key(journal.name, refs, settings),
            **settings,
        )
        journal.forget()
        return job

    async def job(self, job_id: str) -> Job:
        """The job as it stands. Raises ApiError."""
        return cast(Job, await self.ask(calls.find_job(job_id)))

    async def jobs(self) -> AsyncIterator[Job]:
        """Your jobs, newest first."""
        async for job in self.pages(self.jobs_page(), "jobs"):
            yield job

    async def items(
        self, job_id: str, *, status: str | None = None, review: str | None = None
    ) -> AsyncIterator[Item]:
        """The images of a job, in the order of their source; `review` is `flagged`, `pending`,
        `accepted` or `rejected`.
        """
        async for item in self.pages(self.items_page(job_id, status, review), "items"):
            yield item

    @staticmethod
    def jobs_page() -> Page:
        """The request for each page of `jobs`."""
        return calls.jobs_page

    @staticmethod
    def items_page(job_id: str, status: str | None, review: str | None) -> Page:
        """The request for each page of `items`."""
        return lambda cursor: calls.items_page(job_id, cursor, status, review)

    async def cancel(self, job_id: str) -> Job:
        """Stop a job. Raises ApiError."""
        return cast(Job, await self.ask(calls.change_job(job_id, "cancel")))

    async def pause(self, job_id: str) -> Job:
        """Hold a job. Raises ApiError."""
        return cast(Job, await self.ask(calls.change_job(job_id, "pause")))

    async def resume(self, job_id: str) -> Job:
        """Go on with a paused job. Raises ApiError."""
        return cast(Job, await self.ask(calls.change_job(job_id, "resume")))

    async def retry(self, job_id: str) -> Job:
        """Try the failed images of a job again. Raises ApiError."""
        return cast(Job, await self.ask(calls.change_job(job_id, "retry")))

    async def delete(self, job_id: str) -> None:
        """Delete a job with its results. Raises ApiError."""
        await self.ask(calls.delete_job(job_id))

    async def readiness(self) -> Answer:
        """What /readyz says, ready or not."""
        async with httpx.AsyncClient() as once:  # with no retries: not ready is an answer here
            answer: Answer = (await once.get(self._http.base_url.join("/readyz"))).json()
        return answer

    async def report(self, job_id: str, path: Path | str) -> None:
        """Write the report of a job to a file: CSV, or JSON lines by the name `*.jsonl`.

        Raises ApiError, OSError.
        """
        kind = "jsonl" if str(path).endswith(".jsonl") else "csv"
        async with self._http.stream(**calls.report(job_id, kind).arguments()) as answer:
            if answer.is_error:
                await answer.aread()
                raise calls.failure(answer)
            with await asyncio.to_thread(Path(path).open, "wb") as file:
                async for chunk in answer.aiter_bytes():
                    await asyncio.to_thread(file.write, chunk)

    def events(self, job_id: str) -> AsyncIterator[Job]:
        """The job whenever it changed, and last as it ended. Raises ApiError, TransportError."""
        return listen(self._http, job_id)

    async def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Job], None] = lambda _job: None,
        every_s: float = 0.5,
    ) -> Job:
        """Wait until the job has ended; returns it. Raises ApiError."""
        while True:
            job = await self.job(job_id)
            on_progress(job)
            if calls.has_ended(job):
                return job
            await asyncio.sleep(every_s)

    async def download(
        self,
        job_id: str,
        folder: Path | str,
        *,
        on_done: Callable[[Item, Path], None] = lambda _item, _path: None,
        on_failed: Callable[[Item, Exception], None] | None = None,
    ) -> list[tuple[Item, Path]]:
        """Fetch all results of a job into a folder, under the names of their sources; returns what
        is there now.

        A file that is there in full is not fetched again, so a broken download goes on where it
        was; none is ever seen half-written. `on_failed` hears of an image that could not be
        fetched, and the others go on; without it, the first such error is raised.
        Raises ApiError, TransportError, OSError.
        """
        wanted = downloads([item async for item in self.items(job_id)], Path(folder))
        fetched: set[str] = set()

        async def fetch(download: Download) -> None:
            try:
                await self._fetch(download)
            except (ApiError, httpx.TransportError) as error:
                if on_failed is None:
                    raise
                on_failed(download.item, error)
                return
            fetched.add(download.item["id"])
            on_done(download.item, download.main)

        await _side_by_side(fetch(one) for one in wanted)
        return [(one.item, one.main) for one in wanted if one.item["id"] in fetched]

    async def _send_many(
        self, files: Sequence[LocalFile], journal: Journal, on_sent: Callable[[int], None]
    ) -> None:
        if not files:
            return
        slots = (await self.ask(calls.reserve_uploads(len(files))))["uploads"]

        async def send(file: LocalFile, slot: Answer) -> None:
            data = await asyncio.to_thread(file.path.read_bytes)
            answer = await self._storage.put(slot["url"], content=data)
            if answer.is_error:
                raise calls.transfer_failure(answer, "upload-failed", file.path)
            journal.note(file, slot["upload"])
            on_sent(1)

        await _side_by_side(send(file, slot) for file, slot in zip(files, slots, strict=True))

    async def _fetch(self, download: Download) -> None:
        for url, path in download.missing():
            await asyncio.to_thread(_write, path, await self.content(url))


async def _side_by_side(work: Iterable[Awaitable[T]]) -> None:
    """Await all, so many at a time; the first error ends it."""
    gate = asyncio.Semaphore(TRANSFERS)

    async def one(awaitable: Awaitable[T]) -> None:
        async with gate:
            await awaitable

    try:
        async with asyncio.TaskGroup() as group:
            for awaitable in work:
                group.create_task(one(awaitable))
    except ExceptionGroup as several:  # what `MattingClient` raises, this raises
        raise several.exceptions[0] from None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(content)
    partial.replace(path)
