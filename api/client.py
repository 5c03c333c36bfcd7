"""The Python client: submit, wait, download. The command line stands on it.

with MattingClient("http://127.0.0.1:8000", key) as client:
    job = client.wait(client.submit_files(["a.jpg", "b.jpg"])["id"])
    client.download(job["id"], "out")
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Self

import httpx
from httpx_retries import Retry, RetryTransport

TRANSFERS = 8
"""Files sent or fetched at a time."""

UPLOADS_PER_REQUEST = 500

RETRY = Retry(total=5, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504))
"""For methods that may be sent twice (GET, PUT): a store that is busy, a service that restarts.
Waits 0.2, 0.4, 0.8, 1.6 s with jitter, or what `Retry-After` asks for."""

ENDED = ("finished", "cancelled")

Json = dict[str, Any]


class ApiError(Exception):
    """The service refused a request."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.status = status
        self.code = code


class MattingClient:
    """A connection to the service. Thread-safe; close it, or use it as a context manager."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        """`url`: the service's address; `api_key`: what `matting keys create` printed."""
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=timeout_s,
            transport=_transport(),
        )
        # Presigned URLs carry their own signature: the key must not go there.
        self._storage = httpx.Client(timeout=timeout_s, transport=_transport())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._storage.close()

    def submit(self, source: Json, *, options: Json | None = None, priority: int = 5) -> Json:
        """Submit a job of `{"keys": […]}`, `{"prefix": …}` or `{"uploads": […]}`; returns the job.

        Raises ApiError.
        """
        body = {"source": source, "options": options or {}, "priority": priority}
        return self._json("POST", "/v1/jobs", json=body)

    def submit_files(
        self,
        files: Sequence[tuple[Path, str]] | Sequence[Path] | Sequence[str],
        *,
        options: Json | None = None,
        priority: int = 5,
        on_sent: Callable[[int], None] = lambda _count: None,
    ) -> Json:
        """Send local files (paths, or pairs of path and name) and submit them as one job.

        `on_sent` hears of each file that has gone. Raises ApiError, OSError.
        """
        pairs = [
            (Path(entry[0]), entry[1]) if isinstance(entry, tuple) else (Path(entry), str(entry))
            for entry in files
        ]
        refs: list[Json] = []
        with ThreadPoolExecutor(TRANSFERS) as pool:
            for start in range(0, len(pairs), UPLOADS_PER_REQUEST):
                chunk = pairs[start : start + UPLOADS_PER_REQUEST]
                slots = self._json("POST", "/v1/uploads", json={"count": len(chunk)})["uploads"]
                sending = [
                    pool.submit(self._send, path, slot["url"])
                    for (path, _), slot in zip(chunk, slots, strict=True)
                ]
                for future in sending:
                    future.result()
                    on_sent(1)
                refs += [
                    {"upload": slot["upload"], "name": name}
                    for (_, name), slot in zip(chunk, slots, strict=True)
                ]
        return self.submit({"uploads": refs}, options=options, priority=priority)

    def job(self, job_id: str) -> Json:
        """The job as it stands. Raises ApiError."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def jobs(self) -> Iterator[Json]:
        """Your jobs, newest first."""
        yield from self._pages("/v1/jobs", "jobs", {})

    def items(
        self, job_id: str, *, status: str | None = None, review: str | None = None
    ) -> Iterator[Json]:
        """The images of a job, in the order of their source; `review` is `flagged`, `pending`,
        `accepted` or `rejected`.
        """
        asked = {"status": status, "review": review}
        query = {"limit": "1000", **{name: value for name, value in asked.items() if value}}
        yield from self._pages(f"/v1/jobs/{job_id}/items", "items", query)

    def cancel(self, job_id: str) -> Json:
        """Stop a job."""
        return self._json("POST", f"/v1/jobs/{job_id}/cancel")

    def retry(self, job_id: str) -> Json:
        """Try the failed images of a job again."""
        return self._json("POST", f"/v1/jobs/{job_id}/retry")

    def readiness(self) -> Json:
        """What /readyz says, ready or not."""
        # Not ready is an answer here, not a reason to ask again.
        answer: Json = httpx.get(self._http.base_url.join("/readyz")).json()
        return answer

    def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Json], None] = lambda _job: None,
        every_s: float = 0.5,
    ) -> Json:
        """Wait until the job has ended; returns it. Raises ApiError."""
        while True:
            job = self.job(job_id)
            on_progress(job)
            if job["status"] in ENDED and not job["counts"]["running"]:
                return job
            time.sleep(every_s)

    def download(
        self,
        job_id: str,
        folder: Path | str,
        *,
        on_done: Callable[[Json, Path], None] = lambda _item, _path: None,
    ) -> list[tuple[Json, Path]]:
        """Fetch all results of a job into a folder, under the names of their sources.

        A file that is there in full is not fetched again, so a broken download goes on where it
        was; none is ever seen half-written. Raises ApiError, OSError.
        """
        items = list(self.items(job_id))
        targets = [
            (item, [Path(folder) / name for name in names])
            for item, names in zip(items, output_names(items), strict=True)
            if item["status"] == "succeeded"
        ]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            fetching = [pool.submit(self._fetch, item, paths) for item, paths in targets]
            for future, (item, paths) in zip(fetching, targets, strict=True):
                future.result()
                on_done(item, paths[0])
        return [(item, paths[0]) for item, paths in targets]

    def content(self, path: str) -> bytes:
        """The file that an address of an item leads to: `result`, an output's `url`, the source.

        Raises ApiError.
        """
        redirect = self._http.get(path)
        if redirect.status_code != 307:
            raise _api_error(redirect)
        answer = self._storage.get(redirect.headers["location"])
        if answer.is_error:
            raise ApiError(answer.status_code, "download-failed", f"{path}: {answer.text[:200]}")
        return answer.content

    def _send(self, path: Path, url: str) -> None:
        answer = self._storage.put(url, content=path.read_bytes())
        if answer.is_error:
            raise ApiError(answer.status_code, "upload-failed", f"{path}: {answer.text[:200]}")

    def _fetch(self, item: Json, paths: Sequence[Path]) -> None:
        """All files of an item, the main one first."""
        main = {"url": item["result"], "bytes": item["output_bytes"]}
        for output, path in zip([main, *item["outputs"][1:]], paths, strict=True):
            self._fetch_file(output["url"], output["bytes"], path)

    def _fetch_file(self, url: str, size: int, path: Path) -> None:
        if path.exists() and path.stat().st_size == size:
            return
        content = self.content(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        partial.write_bytes(content)
        partial.replace(path)

    def _pages(self, path: str, field: str, query: dict[str, str]) -> Iterator[Json]:
        cursor: str | None = None
        while True:
            page = self._json("GET", path, params=query | ({"cursor": cursor} if cursor else {}))
            yield from page[field]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _json(self, method: str, path: str, **arguments: Any) -> Json:
        answer = self._http.request(method, path, **arguments)
        if answer.is_error:
            raise _api_error(answer)
        body: Json = answer.json()
        return body


def result_names(items: Sequence[Json]) -> list[str]:
    """A file name for each item's result, none twice: `a/b.jpg` → `a/b.png`, but where two items
    would meet (`x.jpg` and `x.png`), each keeps its whole name (`x.jpg.png`, `x.png.png`).
    """
    short = [str(PurePosixPath(item["name"]).with_suffix("")) for item in items]
    count = Counter(name.casefold() for name in short)
    names: list[str] = []
    used: set[str] = set()
    for item, stem in zip(items, short, strict=True):
        suffix = "." + item["result_format"]
        name = stem if count[stem.casefold()] == 1 else item["name"]
        candidate, number = name + suffix, 1
        while candidate.casefold() in used:
            number += 1
            candidate = f"{name}-{number}{suffix}"
        used.add(candidate.casefold())
        names.append(candidate)
    return names


def output_names(items: Sequence[Json]) -> list[list[str]]:
    """File names for all files of each item, none twice: the main one's as `result_names` has it,
    those with a template as that says, with a number behind where two would meet.
    """
    mains = result_names(items)
    used: set[str] = set()
    names: list[list[str]] = []
    for item, main in zip(items, mains, strict=True):
        default = f"{PurePosixPath(item['name']).with_suffix('')}.{item['result_format']}"
        given = [output["name"] for output in item["outputs"]]
        wanted = [main if not given or given[0] == default else given[0], *given[1:]]
        mine: list[str] = []
        for name in wanted:
            path, number = PurePosixPath(name), 1
            candidate = name
            while candidate.casefold() in used:
                number += 1
                candidate = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
            used.add(candidate.casefold())
            mine.append(candidate)
        names.append(mine)
    return names


def _transport() -> RetryTransport:
    # A connection that could not be made is tried again whatever the method: nothing was sent.
    return RetryTransport(transport=httpx.HTTPTransport(retries=3), retry=RETRY)


def _api_error(answer: httpx.Response) -> ApiError:
    try:
        problem = answer.json()
        return ApiError(
            answer.status_code, problem["code"], f"{problem['detail']} {problem['remedy']}"
        )
    except (ValueError, KeyError, TypeError):
        return ApiError(answer.status_code, "unexpected-answer", answer.text[:200])
