"""The client for ordinary code: each method returns when it is done; transfers run in threads."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Literal, Unpack, cast

import httpx

from api.client import calls
from api.client.answers import Answer, Item, Job
from api.client.calls import TRANSFERS, ApiError, JobSettings, bound_key
from api.client.connection import Connection
from api.client.downloading import Download, downloads
from api.client.listening import listen
from api.client.streaming import LAST_OF_TRIES, UploadStream, streamed
from api.client.uploading import UPLOADS_PER_REQUEST, Journal, LocalFile, LocalFiles, local_files
from api.client.webhooks import Webhooks


class MattingClient(Connection):
    """A connection to the service. Thread-safe; close it, or use it as a context manager."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        """`url`: the service's address; `api_key`: what `matting keys create` printed."""
        super().__init__(url, api_key, timeout_s=timeout_s)
        self.webhooks = Webhooks(self)

    def submit(
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
        return cast(Job, self.ask(call))

    def submit_attached(
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
        [slot] = self.ask(calls.reserve_uploads(1))["uploads"]
        for last in LAST_OF_TRIES:
            sent = UploadStream(on_sent)
            try:
                answer = self._storage.put(
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
        return self.submit({kind: slot["upload"]}, **settings)

    def estimate(self, source: Mapping[str, Any], **settings: Unpack[JobSettings]) -> Answer:
        """What a job of this source would take; nothing is submitted. Raises ApiError."""
        return self.ask(calls.submit(source, settings, dry_run=True))

    def submit_files(
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
        with ThreadPoolExecutor(TRANSFERS) as pool:
            try:
                for start in range(0, len(wanted), UPLOADS_PER_REQUEST):
                    chunk = wanted[start : start + UPLOADS_PER_REQUEST]
                    rest = [file for file in chunk if journal.handle(file) is None]
                    on_sent(len(chunk) - len(rest))
                    self._send_many(pool, rest, journal, on_sent)
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what waits would only be sent for nothing
                raise
        refs = [{"upload": journal.handle(file), "name": file.name} for file in wanted]
        job = self.submit(
            {"uploads": refs},
            idempotency_key=bound_key(journal.name, refs, settings),
            **settings,
        )
        journal.forget()
        return job

    def job(self, job_id: str) -> Job:
        """The job as it stands. Raises ApiError."""
        return cast(Job, self.ask(calls.find_job(job_id)))

    def jobs(self) -> Iterator[Job]:
        """Your jobs, newest first."""
        yield from self.pages(calls.jobs_page, "jobs")

    def items(
        self, job_id: str, *, status: str | None = None, review: str | None = None
    ) -> Iterator[Item]:
        """The images of a job, in the order of their source; `review` is `flagged`, `pending`,
        `accepted` or `rejected`.
        """
        yield from self.pages(
            lambda cursor: calls.items_page(job_id, cursor, status, review), "items"
        )

    def cancel(self, job_id: str) -> Job:
        """Stop a job. Raises ApiError."""
        return cast(Job, self.ask(calls.change_job(job_id, "cancel")))

    def pause(self, job_id: str) -> Job:
        """Hold a job. Raises ApiError."""
        return cast(Job, self.ask(calls.change_job(job_id, "pause")))

    def resume(self, job_id: str) -> Job:
        """Go on with a paused job. Raises ApiError."""
        return cast(Job, self.ask(calls.change_job(job_id, "resume")))

    def retry(self, job_id: str) -> Job:
        """Try the failed images of a job again. Raises ApiError."""
        return cast(Job, self.ask(calls.change_job(job_id, "retry")))

    def delete(self, job_id: str) -> None:
        """Delete a job with its results. Raises ApiError."""
        self.ask(calls.delete_job(job_id))

    def readiness(self) -> Answer:
        """What /readyz says, ready or not."""
        # Not ready is an answer here, not a reason to ask again.
        answer: Answer = httpx.get(self._http.base_url.join("/readyz")).json()
        return answer

    def report(self, job_id: str, path: Path | str) -> None:
        """Write the report of a job to a file: CSV, or JSON lines by the name `*.jsonl`.

        Raises ApiError, OSError.
        """
        kind = "jsonl" if str(path).endswith(".jsonl") else "csv"
        with self._http.stream(**calls.report(job_id, kind).arguments()) as answer:
            if answer.is_error:
                answer.read()
                raise calls.failure(answer)
            with Path(path).open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)

    def events(self, job_id: str) -> Iterator[Job]:
        """The job whenever it changed, and last as it ended. Raises ApiError, TransportError."""
        return listen(self._http, job_id)

    def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Job], None] = lambda _job: None,
        every_s: float = 0.5,
    ) -> Job:
        """Wait until the job has ended; returns it. Raises ApiError."""
        while True:
            job = self.job(job_id)
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
    ) -> list[tuple[Item, Path]]:
        """Fetch all results of a job into a folder, under the names of their sources; returns what
        is there now.

        A file that is there in full is not fetched again, so a broken download goes on where it
        was; none is ever seen half-written. `on_failed` hears of an image that could not be
        fetched, and the others go on; without it, the first such error is raised.
        Raises ApiError, TransportError, OSError.
        """
        wanted = downloads(list(self.items(job_id)), Path(folder))
        fetched: set[str] = set()
        with ThreadPoolExecutor(TRANSFERS) as pool:
            fetching = {pool.submit(self._fetch, one): one for one in wanted}
            try:
                for future in as_completed(fetching):
                    one = fetching[future]
                    try:
                        future.result()
                    except (ApiError, httpx.TransportError) as error:
                        if on_failed is None:
                            raise
                        on_failed(one.item, error)
                        continue
                    fetched.add(one.item["id"])
                    on_done(one.item, one.main)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [(one.item, one.main) for one in wanted if one.item["id"] in fetched]

    def _send_many(
        self,
        pool: ThreadPoolExecutor,
        files: Sequence[LocalFile],
        journal: Journal,
        on_sent: Callable[[int], None],
    ) -> None:
        if not files:
            return
        slots = self.ask(calls.reserve_uploads(len(files)))["uploads"]
        sending = {
            pool.submit(self._send, file, slot["url"]): (file, slot["upload"])
            for file, slot in zip(files, slots, strict=True)
        }
        for future in as_completed(sending):
            future.result()
            journal.note(*sending[future])
            on_sent(1)

    def _send(self, file: LocalFile, url: str) -> None:
        answer = self._storage.put(url, content=file.path.read_bytes())
        if answer.is_error:
            raise calls.transfer_failure(answer, "upload-failed", file.path)

    def _fetch(self, download: Download) -> None:
        for url, path in download.missing():
            content = self.content(url)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
            partial.write_bytes(content)
            partial.replace(path)
