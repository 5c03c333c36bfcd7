"""`matting demo`: starts the whole system, cuts out photos, writes a contact sheet, stops it."""

import tempfile
import time
from pathlib import Path

from api.client import MattingClient
from deploy.commands.console_link import console_link
from deploy.commands.progress import (
    bar,
    console,
    follow,
    print_not_downloaded,
    print_summary,
)
from deploy.local_photos import LocalPhotos
from deploy.sheets.contact_sheet import write_contact_sheet
from deploy.stack.stack import Stack
from deploy.terminal_text import escape

SHEET = "contact-sheet.png"

SHEET_PHOTOS = 120
"""Most photos on the contact sheet."""


def run_demo(photos: LocalPhotos, out: Path) -> int:
    """Run the demo; returns exit status 0 when all photos succeeded, 1 when some failed.

    Raises StackError when the system can't start.
    """
    began = time.monotonic()
    # A temporary folder: removed in any case, and short enough for the path of a UNIX socket.
    with tempfile.TemporaryDirectory(prefix="matting-") as folder:
        with Stack(Path(folder), report=lambda line: console.print(f"  {escape(line)}")) as stack:
            ready_s = time.monotonic() - began
            console.print(
                f"ready after {ready_s:.1f} s: {stack.address.api_url}/docs", soft_wrap=True
            )
            link = console_link(stack.address.api_url, stack.secrets.api_key)
            console.print(f"watch it in the browser: {escape(link)}", soft_wrap=True)
            with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
                with bar("sending", len(photos.files)) as progress:
                    task = progress.task_ids[0]
                    job = client.submit_files(
                        photos.files, on_sent=lambda count: progress.advance(task, count)
                    )
                job = follow(client, job["id"])
                with bar("fetching", job["counts"]["succeeded"]) as progress:
                    task = progress.task_ids[0]
                    results = client.download(
                        job["id"],
                        out,
                        on_done=lambda *_: progress.advance(task),
                        on_failed=print_not_downloaded,
                    )
        originals = {name: path for path, name in photos.files}
        pairs = [
            (originals[item["name"]], path, item["name"])
            for item, path in results[:SHEET_PHOTOS]
            if item["name"] in originals
        ]
        if pairs:
            write_contact_sheet(pairs, out / SHEET)
    print_summary(job, title="\nmatting demo")
    console.print(f"results are in {out}/; contact sheet: {out / SHEET}", soft_wrap=True)
    return 0 if len(results) == job["counts"]["total"] else 1
