"""What a person sees while work goes on: bars, rates, failures as they happen, a summary."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from api.client import Item, Job, MattingClient
from shared.jobs import STAGES

console = Console(stderr=True)
"""Everything for the eye goes to standard error; standard output is for results and --json."""


@contextmanager
def bar(label: str, total: int) -> Iterator[Progress]:
    """A bar of one task, with the id 0; its field `note` is free text."""
    progress = Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=36),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
    progress.add_task(label, total=total, note="")
    with progress:
        yield progress


def follow(client: MattingClient, job_id: str) -> Job:
    """Show a job until it has ended; returns it."""
    seen: set[str] = set()
    with bar("matting", 0) as progress:

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
            if counts["failed"] > len(seen):
                for item in client.items(job_id, status="failed"):
                    if item["id"] not in seen:
                        seen.add(item["id"])
                        print_failure(item)

        job = client.wait(job_id, on_progress=show)
    if job["error"]:
        text = escape(f"{job['error']['detail']} [{job['error']['code']}]")
        console.print(f"[red]{job['status']}[/] {text}")
    return job


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
