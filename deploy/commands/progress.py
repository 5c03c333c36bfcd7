"""Terminal output of running jobs: progress bars, rates, failures, and a summary."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import httpx
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from api.client import ApiError, Item, Job, MattingClient
from api.client.calls import may_pass
from deploy.terminal_text import escape, printable
from shared.errors import LeftOutError
from shared.jobs import ENDED, STAGES
from shared.plurals import counted

console = Console(stderr=True)
"""Messages for people go to standard error. Standard output is for results and --json."""


WIDE = 250
"""Columns of a table that is not fitted to the window: rich would cut or break its cells."""

STILL_S = 30.0
"""After this long without an image that ends, the bar says so. Large photos take a few seconds."""

SHOWN_FAILURES = 100
"""Number of failures that are printed. All of them are in the report."""


class _RateColumn(ProgressColumn):
    """The current rate per second."""

    def render(self, task: Task) -> Text:
        """The rate, or an empty text before the first step."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "")


@contextmanager
def bar(label: str, total: int, *, rate_in_note: bool = False) -> Iterator[Progress]:
    """A progress bar with a single task. Its field `note` is free text.

    `rate_in_note` means that the note contains rate and remaining time, so no column shows them.
    """
    timing = (_RateColumn(), TimeRemainingColumn(compact=True, elapsed_when_finished=True))
    # The bar shrinks first in a narrow window: the figures matter more.
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        *((TimeElapsedColumn(),) if rate_in_note else timing),
        TextColumn("{task.fields[note]}"),
        console=console,
        expand=True,
    )
    progress.add_task(label, total=total, note="")
    with progress:
        yield progress


@contextmanager
def byte_bar(label: str, total_bytes: int) -> Iterator[Progress]:
    """A progress bar for the transfer of one large file."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        expand=True,
    )
    progress.add_task(label, total=total_bytes)
    with progress:
        yield progress


def follow(client: MattingClient, job_id: str) -> Job:
    """Show the progress of a job until it has ended; returns the job."""
    failures = _FailurePrinter(client, job_id)
    last, moved_at = -1, time.monotonic()
    with bar("matting", 0, rate_in_note=True) as progress:

        def show(job: Job) -> None:
            nonlocal last, moved_at
            counts = job["counts"]
            settled = counts["succeeded"] + counts["failed"] + counts["cancelled"]
            if settled != last:
                last, moved_at = settled, time.monotonic()
            progress.update(
                progress.task_ids[0],
                completed=settled,
                total=counts["total"],
                note=_note(job, still_s=time.monotonic() - moved_at),
            )
            failures.show(counts["failed"])

        job = client.wait(job_id, on_progress=show)
    print_source_facts(job)
    return job


def going_on(job_id: str) -> str:
    """What is said of a job that nobody follows any more."""
    return (
        f"the job goes on without this command: `matting watch {job_id}` follows it,"
        f" `matting cancel {job_id}` stops it"
    )


@contextmanager
def on_interruption(told: str) -> Iterator[None]:
    """After Ctrl-C, or when the service is lost: say what is not lost."""
    try:
        yield
    except (KeyboardInterrupt, ApiError, httpx.TransportError) as error:
        if told and (isinstance(error, KeyboardInterrupt) or may_pass(error)):
            console.print(told, soft_wrap=True)
        raise


def _note(job: Job, *, still_s: float = 0.0) -> str:
    """What stands beside the bar: the rate, the time left, failures, or what the job waits for.
    `still_s`: since when no image has ended.
    """
    if job["status"] == "paused":
        return "paused"
    counts = job["counts"]
    settled = counts["succeeded"] + counts["failed"] + counts["cancelled"]
    parts: list[str] = []
    stands = still_s > STILL_S and job["status"] not in ENDED
    if stands:  # the rate is that of before: a full disk, or a part that is away, holds the job
        parts.append(f"none for {_duration(still_s)}; `matting doctor` checks every part")
    elif rate := job["images_per_s"]:
        parts.append(f"{rate:.1f} images/s")
    elif job["status"] not in ENDED and (settled < counts["total"] or not settled):
        parts.append("waiting for a worker")
    if not stands and (left := job["estimated_s_left"]):
        parts.append(f"{_duration(left)} left")
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed")
    return ", ".join(parts)


def print_source_facts(job: Job) -> None:
    """Print what kept the source from being read to its end, and what was left out of it."""
    if job["error"]:
        text = escape(f"{job['error']['detail']} [{job['error']['code']}]")
        console.print(f"[red]{job['status']}[/] {text}", soft_wrap=True)
    if left_out := job["source"].get("rows_without_photo"):
        console.print(
            f"{counted(left_out, 'row')} of the feed without a photo left out", soft_wrap=True
        )


class _FailurePrinter:
    """Prints the failed images of a job as soon as they fail. Files that a folder's submission left
    out were printed before.
    """

    def __init__(self, client: MattingClient, job_id: str) -> None:
        self._client, self._job_id = client, job_id
        self._seen: set[str] = set()
        self._counted = 0

    def show(self, count: int) -> None:
        """Print new failures. `count` is the number of failed images now."""
        if count == self._counted or len(self._seen) >= SHOWN_FAILURES:
            return
        self._counted = count
        # Items come in the order of the source. Reading only the first page keeps each call cheap.
        for item in islice(self._client.items(self._job_id, status="failed"), 1_000):
            if item["error"] and item["error"]["code"] == LeftOutError.code:
                continue
            if item["id"] not in self._seen and len(self._seen) < SHOWN_FAILURES:
                self._seen.add(item["id"])
                print_failure(item)
        if len(self._seen) >= SHOWN_FAILURES:
            console.print(
                f"[red]failed[/] more images failed; `matting report {self._job_id} report.csv`"
                " lists them all",
                soft_wrap=True,
            )


def print_failure(item: Item) -> None:
    """Print one line for an image without a result."""
    error = item["error"] or {"code": item["status"], "detail": ""}
    text = escape(f"{item['name']}: {error['detail']} [{error['code']}]")
    console.print(f"[red]failed[/] {text}", soft_wrap=True)


def output() -> Console:
    """Standard output, as wide as its text needs: a pipe has no width, and a narrow window must not
    break ids.
    """
    return Console(width=None if sys.stdout.isatty() else WIDE, soft_wrap=True)


def print_not_downloaded(item: Item, error: Exception) -> None:
    """Print one line for a result that is not in the folder."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    console.print(
        f"[red]not downloaded[/] {escape(item['name'])}: {escape(str(reason))}", soft_wrap=True
    )


def print_summary(job: Job, *, title: str) -> None:
    """Print a job's counts, its rate, and the time per image in each stage."""
    counts = job["counts"]
    console.print(title, style="italic", soft_wrap=True)  # a narrow window must not break the id
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("succeeded", str(counts["succeeded"]))
    table.add_row("failed", str(counts["failed"]))
    if counts["cancelled"]:
        table.add_row("cancelled", str(counts["cancelled"]))
    if job["images_per_s"]:
        table.add_row("images/s", f"{job['images_per_s']:.2f}")
    table.add_row("megapixels", f"{job['megapixels']:.1f}")
    for stage in STAGES:
        table.add_row(f"{stage}, ms per image", f"{job['timings_ms'][stage]:.1f}")
    console.print(table)
    print_source_facts(job)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table on standard output. No cell is broken into two lines or cut short,
    whatever its neighbours hold: people copy ids from it.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    rows = [[printable(cell) for cell in row] for row in rows]
    for row in rows:
        table.add_row(*map(escape, row))
    longest = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    Console(width=sum(longest) + len(longest)).print(table)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
