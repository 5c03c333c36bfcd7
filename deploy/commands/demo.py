"""`matting demo`: starts the whole system, cuts out photos, writes a contact sheet, stops it."""

import itertools
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from api.client import Item, MattingClient
from api.client.downloading import plan_downloads
from deploy.commands.console_link import console_link
from deploy.commands.progress import (
    bar,
    console,
    follow,
    print_not_downloaded,
    print_summary,
)
from deploy.commands.result_files import ResultFolder
from deploy.commands.written_files import WrittenFiles
from deploy.local_photos import LocalPhotos
from deploy.sheets.contact_sheet import write_contact_sheet
from deploy.stack.stack import Stack
from deploy.terminal_text import escape

SHEET = "contact-sheet.png"

SHEET_PHOTOS = 120
"""Most photos on the contact sheet."""


def run_demo(photos: LocalPhotos, out: Path) -> int:
    """Run the demo; returns exit status 0 when all photos succeeded, 1 when some failed.

    Raises StackError when the system can't start, and OSError when the folder can't be written.
    """
    with ResultFolder(out, (), overwrite=False) as store:
        store.prepare()
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
                out, files = own_folder(out, list(client.items(job["id"])))
                with bar("fetching", job["counts"]["succeeded"]) as progress:
                    task = progress.task_ids[0]

                    def note(_item: Item, path: Path) -> None:
                        files.note(path, path.relative_to(out).as_posix(), [path])
                        progress.advance(task)

                    results = client.download(
                        job["id"], out, on_done=note, on_failed=print_not_downloaded, overwrite=True
                    )
        originals = {name: path for path, name in photos.files}
        pairs = [
            (originals[item["name"]], path, item["name"])
            for item, path in results[:SHEET_PHOTOS]
            if item["name"] in originals
        ]
        if pairs:
            write_contact_sheet(pairs, out / SHEET)
            files.note(out / SHEET, SHEET, [out / SHEET])
        files.save()
    print_summary(job, title="\nmatting demo")
    console.print(f"results are in {out}/; contact sheet: {out / SHEET}", soft_wrap=True)
    return 0 if len(results) == job["counts"]["total"] else 1


def own_folder(out: Path, items: Sequence[Item]) -> tuple[Path, WrittenFiles]:
    """The folder for the results, and the record of what demos wrote there: `out`, or a new one
    below it if a file that no demo wrote is in the place of a result.
    """

    def is_free(folder: Path, files: WrittenFiles) -> bool:
        results = [path for one in plan_downloads(items, folder) for path in one.paths]
        places = [*results, folder / SHEET]
        return not any(os.path.lexists(path) and not files.wrote(path) for path in places)

    below = (out / f"demo-{number}" for number in itertools.count(1))
    known = (
        (folder, WrittenFiles(folder, None, "demo")) for folder in itertools.chain([out], below)
    )
    folder, files = next((folder, files) for folder, files in known if is_free(folder, files))
    if folder != out:
        console.print(
            f"{escape(str(out))} holds files that no demo wrote; they stay, and the results go to"
            f" {escape(str(folder))}",
            soft_wrap=True,
        )
    return folder, files
