"""The client for asyncio, with the methods of `MattingClient`. Transfers run as parallel tasks."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack, cast

import httpx

from api.client import calls
from api.client.calls import (
    MAX_PARALLEL_TRANSFERS,
    ApiError,
    ArchiveReview,
    ItemFilter,
    JobSettings,
    RetrySettings,
    idempotency_key_for,
)
from api.client.connection import AsyncConnection, Page
from api.client.downloading import Download, NewFile, plan_downloads
from api.client.event_stream import follow_events
from api.client.responses import Answer, Item, Job, RetriedJob
from api.client.results import AsyncResults
from api.client.upload_stream import put_file
from api.client.uploading import (
    UPLOADS_PER_REQUEST,
    Journal,
    LocalFile,
    LocalFiles,
    normalise_files,
    readable_name,
)
from api.client.watches import AsyncWatches
from api.client.webhooks import AsyncWebhooks
from api.client.zip_file import write_zip


class AsyncMattingClient(AsyncConnection):
    """A client of the service for one event loop. Use it as an asynchronous context manager."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        """`url`: the service's address; `api_key`: what `matting keys create` printed."""
        super().__init__(url, api_key, timeout_s=timeout_s)
        self.watches = AsyncWatches(self)
        self.webhooks = AsyncWebhooks(self)
        self.results = AsyncResults(self)

    async def submit(
        self,
        source: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **settings: Unpack[JobSettings],
    ) -> Job:
        """Submit a job with a source that the service can read, such as `{"prefix": "s3://…"}`.

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
        """Submit a job with a local manifest (CSV or JSONL) or a zip file of photos.

        The file goes straight to the storage; `on_sent` receives the number of bytes sent since
        the last call (negative when an attempt failed). Raises ApiError, OSError.
        """
        [slot] = (await self.ask(calls.reserve_uploads(1)))["uploads"]
        await put_file(self._storage, slot["url"], Path(path), on_sent)
        return await self.submit({kind: slot["upload"]}, **settings)

    async def estimate(self, source: Mapping[str, Any], **settings: Unpack[JobSettings]) -> Answer:
        """Estimate what a job of this source would need. Submits nothing. Raises ApiError."""
        return await self.ask(calls.submit(source, settings, dry_run=True))

    async def submit_files(
        self,
        files: LocalFiles,
        *,
        left_out: Sequence[tuple[str, str]] = (),
        journal: Journal | None = None,
        on_sent: Callable[[int], None] = lambda _count: None,
        **settings: Unpack[JobSettings],
    ) -> Job:
        """Upload local files and submit them as one job.

        `left_out`: name and reason of each file beside the photos that is not sent; the job's
        report names them. `journal` lets an interrupted submission continue; `on_sent` receives the
        number of files sent since the last call. Raises ApiError, OSError.
        """
        journal = journal or Journal(None)
        planned = normalise_files(files)
        for start in range(0, len(planned), UPLOADS_PER_REQUEST):
            chunk = planned[start : start + UPLOADS_PER_REQUEST]
            rest = [file for file in chunk if journal.handle(file) is None]
            on_sent(len(chunk) - len(rest))
            await self._send_many(rest, journal, on_sent)
        refs = [{"upload": journal.handle(file), "name": file.name} for file in planned]
        refs += [{"name": readable_name(name), "left_out": reason} for name, reason in left_out]
        job = await self.submit(
            {"uploads": refs},
            idempotency_key=idempotency_key_for(journal.name, refs, settings),
            **settings,
        )
        journal.forget()
        return job

    async def job(self, job_id: str, *, include: Literal["urls"] | None = None) -> Job:
        """The present state of a job; with `include="urls"` also addresses of its report and zip
        file that need no key. Raises ApiError.
        """
        return cast(Job, await self.ask(calls.find_job(job_id, include)))

    async def jobs(self, *, metadata: Mapping[str, str] | None = None) -> AsyncIterator[Job]:
        """Your jobs, newest first; with `metadata` only those that have all these values."""
        async for job in self.pages(self.jobs_page(metadata), "jobs"):
            yield job

    async def items(self, job_id: str, **wanted: Unpack[ItemFilter]) -> AsyncIterator[Item]:
        """The images of a job, in the order of their source; `review` is `flagged`, `pending`,
        `accepted` or `rejected`; `include="urls"` adds presigned URLs of the results.
        """
        async for item in self.pages(self.items_page(job_id, wanted), "items"):
            yield item

    async def find_items(self, custom_id: str) -> AsyncIterator[Item]:
        """The images of all your jobs that have this id of yours, newest first."""
        async for item in self.pages(self.find_items_page(custom_id), "items"):
            yield item

    @staticmethod
    def find_items_page(custom_id: str) -> Page:
        """The request for each page of `find_items`."""
        return lambda cursor: calls.find_items_page(custom_id, cursor)

    @staticmethod
    def jobs_page(metadata: Mapping[str, str] | None) -> Page:
        """The request for each page of `jobs`."""
        return lambda cursor: calls.jobs_page(cursor, metadata or {})

    @staticmethod
    def items_page(job_id: str, wanted: ItemFilter) -> Page:
        """The request for each page of `items`."""
        return lambda cursor: calls.items_page(job_id, cursor, wanted)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job: images that have not started are skipped. Raises ApiError."""
        return cast(Job, await self.ask(calls.change_job(job_id, "cancel")))

    async def pause(self, job_id: str) -> Job:
        """Pause a job. Raises ApiError."""
        return cast(Job, await self.ask(calls.change_job(job_id, "pause")))

    async def resume(self, job_id: str) -> Job:
        """Resume a paused job. Raises ApiError."""
        return cast(Job, await self.ask(calls.change_job(job_id, "resume")))

    async def retry(self, job_id: str, **retry: Unpack[RetrySettings]) -> RetriedJob:
        """Process the failed images of a job again, and with `include="rejected"` the rejected ones
        too; `retried` and `redone` say how many. Raises ApiError.
        """
        return cast(RetriedJob, await self.ask(calls.retry_job(job_id, retry)))

    async def delete(self, job_id: str) -> None:
        """Delete a job with its results. Raises ApiError."""
        await self.ask(calls.delete_job(job_id))

    async def readiness(self) -> Answer:
        """The answer of /readyz, whether ready or not."""
        async with httpx.AsyncClient() as once:  # without retries: "not ready" is a valid answer
            answer: Answer = (await once.get(self._http.base_url.join("/readyz"))).json()
        return answer

    async def report(self, job_id: str, path: Path | str) -> None:
        """Write the report of a job to a file: JSON lines if it is named `*.jsonl`, else CSV. The
        file appears when it is complete.

        Raises ApiError, TransportError, OSError.
        """
        kind = "jsonl" if str(path).endswith(".jsonl") else "csv"
        async with self._http.stream(**calls.report(job_id, kind).arguments()) as answer:
            if answer.is_error:
                await answer.aread()
                raise calls.failure(answer)
            path = Path(path)
            if path.exists() and not path.is_file():  # /dev/stdout, a pipe
                with await asyncio.to_thread(path.open, "wb") as stream:
                    async for chunk in answer.aiter_bytes():
                        await asyncio.to_thread(stream.write, chunk)
                return
            with await asyncio.to_thread(NewFile, path.resolve()) as file:  # a link stays one
                async for chunk in answer.aiter_bytes():
                    await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(file.place, changed_at=time.time(), overwrite=True)

    async def review(self, item_id: str, verdict: str | None, *, note: str | None = None) -> Item:
        """Store a verdict, `accept` or `reject`; None takes it back. Raises ApiError."""
        return cast(Item, await self.ask(calls.review(item_id, verdict, note)))

    async def archive(
        self,
        job_id: str,
        path: Path | str,
        *,
        review: ArchiveReview | None = None,
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> None:
        """Write a zip file of all results, except rejected ones; see `GET …/archive.zip`.

        `on_bytes` receives the number of bytes written since the last call, negative when a try
        failed. The file appears when it is complete; an interrupted transfer goes on where it
        stopped, also in another call. Raises ApiError, TransportError, OSError.
        """

        @asynccontextmanager
        async def ask(headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
            call = calls.archive(job_id, review, headers)
            async with self._http.stream(**call.arguments()) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise calls.failure(answer)
                yield answer

        await write_zip(ask, Path(path), on_bytes)

    def events(self, job_id: str) -> AsyncIterator[Job]:
        """The job each time it changes, and last when it has ended.

        Raises ApiError, TransportError.
        """
        return follow_events(self._http, job_id)

    async def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Job], None] = lambda _job: None,
        every_s: float = 0.5,
    ) -> Job:
        """Wait until the job has ended; returns it. A service that is started anew meanwhile is
        asked again. Raises ApiError, TransportError.
        """
        answered_at: float | None = None
        while True:
            try:
                job = await self.job(job_id)
            except (ApiError, httpx.TransportError) as error:
                lost = answered_at is None or time.monotonic() - answered_at > calls.OUTAGE_S
                if lost or not calls.may_pass(error):
                    raise
            else:
                answered_at = time.monotonic()
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
        overwrite: bool | Callable[[Item], bool] = False,
    ) -> list[tuple[Item, Path]]:
        """Download all results of a job into a folder, under the names of their sources.

        Returns the results that are in the folder now. A complete file is not downloaded again, so
        an interrupted download continues; no file is ever visible half-written. Another file that
        is there stays, unless `overwrite` is set (or true for the image): its image failed with
        FileExistsError.
        `on_failed` receives an image that could not be downloaded, and the others continue; without
        it the first such error is raised. Raises ApiError, TransportError, OSError.
        """
        planned = plan_downloads([item async for item in self.items(job_id)], Path(folder))
        fetched: set[str] = set()

        async def fetch(download: Download) -> None:
            try:
                replace = overwrite(download.item) if callable(overwrite) else overwrite
                await self._fetch(download, overwrite=replace)
            except (ApiError, httpx.TransportError, OSError) as error:
                if on_failed is None:
                    raise
                on_failed(download.item, error)
                return
            fetched.add(download.item["id"])
            on_done(download.item, download.main)

        await _run_limited(partial(fetch, one) for one in planned)
        return [(one.item, one.main) for one in planned if one.item["id"] in fetched]

    async def _send_many(
        self, files: Sequence[LocalFile], journal: Journal, on_sent: Callable[[int], None]
    ) -> None:
        if not files:
            return
        slots = (await self.ask(calls.reserve_uploads(len(files))))["uploads"]

        async def send(file: LocalFile, slot: Answer) -> None:
            await put_file(self._storage, slot["url"], file.path)
            journal.note(file, slot["upload"])
            on_sent(1)

        await _run_limited(
            partial(send, file, slot) for file, slot in zip(files, slots, strict=True)
        )

    async def _fetch(self, download: Download, *, overwrite: bool) -> None:
        for url, path in download.missing(overwrite=overwrite):
            with await asyncio.to_thread(NewFile, path) as file:
                if download.is_viewer(path):
                    file.write(download.written(path, await self.content(url)))
                else:
                    async with aclosing(self.pieces(url)) as pieces:
                        async for piece in pieces:
                            await asyncio.to_thread(file.write, piece)
                changed_at = download.finished_at
                await asyncio.to_thread(file.place, changed_at=changed_at, overwrite=overwrite)


async def _run_limited(work: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do all, at most MAX_PARALLEL_TRANSFERS at a time; cancel the rest at the first error. What is
    cancelled in time is never called: a coroutine that nobody awaits would be warned of.
    """
    gate = asyncio.Semaphore(MAX_PARALLEL_TRANSFERS)

    async def one(do: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await do()

    try:
        async with asyncio.TaskGroup() as group:
            for do in work:
                group.create_task(one(do))
    except ExceptionGroup as several:  # callers expect the single error
        raise several.exceptions[0] from None
