"""The synchronous client: each method returns when the work is done.

It runs an `AsyncMattingClient` on an event loop in its own thread, so both clients share one
implementation. The callbacks of transfers (`on_sent`, `on_done`, `on_failed`) run on that thread:
keep them short, and don't use the client in them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, Unpack

import httpx

from api.client import calls
from api.client.async_client import AsyncMattingClient
from api.client.calls import (
    ApiCall,
    ApiError,
    ArchiveReview,
    ItemFilter,
    JobSettings,
    RetrySettings,
)
from api.client.connection import Page
from api.client.event_loop import EventLoopThread
from api.client.responses import (
    Answer,
    Item,
    Job,
    RetriedJob,
)
from api.client.sync_parts import Results, Watches, Webhooks
from api.client.uploading import Journal, LocalFiles


class MattingClient:
    """A client of the service. Thread-safe. Close it, or use it as a context manager."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        """`url`: the service's address; `api_key`: what `matting keys create` printed."""
        self._client = AsyncMattingClient(url, api_key, timeout_s=timeout_s)
        self._loop = EventLoopThread()
        self.watches = Watches(self._client.watches, self._loop)
        self.webhooks = Webhooks(self._client.webhooks, self._loop)
        self.results = Results(self._client.results, self._loop)
        self.identity = self._client.identity
        """Distinguishes services and keys, and reveals neither."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._loop.run(self._client.close)
        self._loop.close()

    def ask(self, call: ApiCall) -> Answer:
        """Send a request that has no method of its own. Raises ApiError."""
        return self._loop.run(self._client.ask, call)

    def pages(self, page: Page, field: str) -> Iterator[Any]:
        """Every entry of a list that comes in pages. Raises ApiError."""
        for entries in self._loop.iterate(self._client.page_lists(page, field)):
            yield from entries

    def content(self, path: str) -> bytes:
        """The file behind an item's address: its result, an output's `url`, its source.

        Raises ApiError.
        """
        return self._loop.run(self._client.content, path)

    def submit(
        self,
        source: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **settings: Unpack[JobSettings],
    ) -> Job:
        """Submit a job with a source that the service can read, such as `{"prefix": "s3://…"}`.

        Raises ApiError.
        """
        return self._loop.run(
            self._client.submit, source, idempotency_key=idempotency_key, **settings
        )

    def submit_attached(
        self,
        kind: Literal["manifest", "zip"],
        path: Path | str,
        *,
        on_sent: Callable[[int], None] = lambda _bytes: None,
        **settings: Unpack[JobSettings],
    ) -> Job:
        """Submit a job with a local manifest (CSV or JSONL) or a zip file of photos.

        The file goes straight to the storage; `on_sent` receives the number of bytes sent since
        the last call (negative when a try failed). Raises ApiError, OSError.
        """
        return self._loop.run(self._client.submit_attached, kind, path, on_sent=on_sent, **settings)

    def estimate(self, source: Mapping[str, Any], **settings: Unpack[JobSettings]) -> Answer:
        """Estimate what a job of this source would need. Submits nothing. Raises ApiError."""
        return self._loop.run(self._client.estimate, source, **settings)

    def submit_files(
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
        return self._loop.run(
            self._client.submit_files,
            files,
            left_out=left_out,
            journal=journal,
            on_sent=on_sent,
            **settings,
        )

    def job(self, job_id: str, *, include: Literal["urls"] | None = None) -> Job:
        """The present state of a job; with `include="urls"` also addresses of its report and zip
        file that need no key. Raises ApiError.
        """
        return self._loop.run(self._client.job, job_id, include=include)

    def jobs(self, *, metadata: Mapping[str, str] | None = None) -> Iterator[Job]:
        """Your jobs, newest first; with `metadata` only those that have all these values."""
        return self.pages(self._client.jobs_page(metadata), "jobs")

    def items(self, job_id: str, **wanted: Unpack[ItemFilter]) -> Iterator[Item]:
        """The images of a job, in the order of their source; `review` is `flagged`, `pending`,
        `accepted` or `rejected`; `include="urls"` adds presigned URLs of the results.
        """
        return self.pages(self._client.items_page(job_id, wanted), "items")

    def find_items(self, custom_id: str) -> Iterator[Item]:
        """The images of all your jobs that have this id of yours, newest first."""
        return self.pages(self._client.find_items_page(custom_id), "items")

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: images that have not started are skipped. Raises ApiError."""
        return self._loop.run(self._client.cancel, job_id)

    def pause(self, job_id: str) -> Job:
        """Pause a job. Raises ApiError."""
        return self._loop.run(self._client.pause, job_id)

    def resume(self, job_id: str) -> Job:
        """Resume a paused job. Raises ApiError."""
        return self._loop.run(self._client.resume, job_id)

    def retry(self, job_id: str, **retry: Unpack[RetrySettings]) -> RetriedJob:
        """Process the failed images of a job again, and with `include="rejected"` the rejected ones
        too, with these `options`, `model` or `second_model`; `retried` and `redone` say how many.
        Raises ApiError.
        """
        return self._loop.run(self._client.retry, job_id, **retry)

    def delete(self, job_id: str) -> None:
        """Delete a job with its results. Raises ApiError."""
        self._loop.run(self._client.delete, job_id)

    def readiness(self) -> Answer:
        """The answer of /readyz, whether ready or not."""
        return self._loop.run(self._client.readiness)

    def report(self, job_id: str, path: Path | str) -> None:
        """Write the report of a job to a file: JSON lines if it is named `*.jsonl`, else CSV.

        Raises ApiError, OSError.
        """
        self._loop.run(self._client.report, job_id, path)

    def review(self, item_id: str, verdict: str | None, *, note: str | None = None) -> Item:
        """Store a verdict, `accept` or `reject`; None takes it back. Raises ApiError."""
        return self._loop.run(self._client.review, item_id, verdict, note=note)

    def archive(
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
        self._loop.run(self._client.archive, job_id, path, review=review, on_bytes=on_bytes)

    def events(self, job_id: str) -> Iterator[Job]:
        """The job each time it changes, and last when it has ended.

        Raises ApiError, TransportError.
        """
        return self._loop.iterate(self._client.events(job_id))

    def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Job], None] = lambda _job: None,
        every_s: float = 0.5,
    ) -> Job:
        """Wait until the job has ended; returns it. A service that is started anew meanwhile is
        asked again. Raises ApiError, TransportError.

        `on_progress` runs on the caller's thread, so it may use this client.
        """
        answered_at: float | None = None
        while True:
            try:
                job = self.job(job_id)
            except (ApiError, httpx.TransportError) as error:
                lost = answered_at is None or time.monotonic() - answered_at > calls.OUTAGE_S
                if lost or not calls.may_pass(error):
                    raise
            else:
                answered_at = time.monotonic()
                on_progress(job)
                if calls.has_ended(job):
                    return job
            time.sleep(every_s)

    def download(
        self,
        job_id: str,
        folder: Path | str,
        *,
        on_done: Callable[[Item, Path], None] = lambda _item, _path: None,
        on_failed: Callable[[Item, Exception], None] | None = None,
        overwrite: bool | Callable[[Item], bool] = False,
    ) -> list[tuple[Item, Path]]:
        """Download all results of a job into a folder, under the names of their sources; returns
        the results that are there now.

        A complete file is not downloaded again, so an interrupted download continues; no file is
        ever visible half-written. Another file that is there stays, unless `overwrite` is set (or
        true for the image): its image failed with FileExistsError. `on_failed` receives an image
        that could not be downloaded, and the others continue; without it the first such error is
        raised.
        Raises ApiError, TransportError, OSError.
        """
        return self._loop.run(
            self._client.download,
            job_id,
            folder,
            on_done=on_done,
            on_failed=on_failed,
            overwrite=overwrite,
        )
