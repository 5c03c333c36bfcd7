"""What a person sees while work goes on: bars, rates, failures as they happen, a summary."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from rich.console import Console
from rich.markup import escape
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

from api.client import Item, Job, MattingClient
from shared.jobs import STAGES

console = Console(stderr=True)
"""Everything for the eye goes to standard error; standard output is for results and --json."""


SHOWN_FAILURES = 100
"""Failures named as they happen; further ones are counted, and all are in the report."""


class _Rate(ProgressColumn):
    """How many a second, of late."""

    def render(self, task: Task) -> Text:
        """Nothing before the first."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "")


@contextmanager
def bar(label: str, total: int, *, own_rate: bool = False) -> Iterator[Progress]:
    """A bar of one task, with the id 0; its field `note` is free text. With `own_rate` the note
    says how fast it goes and how long it takes.
    """
    timing = (_Rate(), TimeRemainingColumn(compact=True, elapsed_when_finished=True))
    # The bar takes what is left of the line: in a narrow window the figures matter more.
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        *((TimeElapsedColumn(),) if own_rate else timing),
        TextColumn("{task.fields[note]}"),
        console=console,
        expand=True,
    )
    progress.add_task(label, total=total, note="")
    with progress:
        yield progress


@contextmanager
def byte_bar(label: str, total_bytes: int) -> Iterator[Progress]:
    """The same for one large file."""
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
    """Show a job until it has ended; returns it."""
    failures = _Failures(client, job_id)
    with bar("matting", 0, own_rate=True) as progress:

        def show(job: Job) -> None:
            counts = job["counts"]
            settled = counts["succeeded"] + counts["failed"] + counts["cancelled"]
            rate, left = job["images_per_s"], job["estimated_s_left"]
            note = f"{rate:.1f} images/s" if rate else "waiting for a worker"
            if left:
                note += f", {_duration(left)} left"
            if counts["failed"]:
                note += f", {counts['failed']} failed"
            if job["status"] == "paused":
                note = "paused"
            progress.update(
                progress.task_ids[0], completed=settled, total=counts["total"], note=note
            )
            failures.show(counts["failed"])

        job = client.wait(job_id, on_progress=show)
    if job["error"]:
        text = escape(f"{job['error']['detail']} [{job['error']['code']}]")
        console.print(f"[red]{job['status']}[/] {text}")
    return job


class _Failures:
    """Names the images of a job that failed, as they do."""

    def __init__(self, client: MattingClient, job_id: str) -> None:
        self._client, self._job_id = client, job_id
        self._seen: set[str] = set()
        self._counted = 0

    def show(self, count: int) -> None:
        """Name those that are new; `count`: how many there are."""
        if count == self._counted or len(self._seen) >= SHOWN_FAILURES:
            return
        self._counted = count
        # In the order of the source, not of failing: so all but the first page would be read again
        # and again for the sake of a few.
        for item in islice(self._client.items(self._job_id, status="failed"), 1_000):
            if item["id"] not in self._seen and len(self._seen) < SHOWN_FAILURES:
                self._seen.add(item["id"])
                print_failure(item)
        if len(self._seen) >= SHOWN_FAILURES:
            console.print(f"[red]failed[/] and more: `matting report {self._job_id} report.csv`")


def print_failure(item: Item) -> None:
    """One line for an image that has no result."""
    error = item["error"] or {"code": item["status"], "detail": ""}
    text = escape(f"{item['name']}: {error['detail']} [{error['code']}]")
    console.print(f"[red]failed[/] {text}")


def print_summary(job: Job, *, title: str) -> None:
    """Counts, rate, and where the time of an image went."""
    counts = job["counts"]
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
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
        table.add_row(f"{stage}, ms an image", f"{job['timings_ms'][stage]:.1f}")
    console.print(table)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table on standard output."""
    table = Table(*headings, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    # A pipe has no width: rows must not be cut there.
    Console(width=None if sys.stdout.isatty() else 250).print(table)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
