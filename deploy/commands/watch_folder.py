"""`matting watch-folder`: cuts out every photo that appears in a folder, each once, also after a
restart.

The folder of the results holds the record: which photos were sent, and the batch that is under way.
A batch is written there before it is sent. It is sent with a key that makes a second try the same
job.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from api.client import ApiError, Item, Journal, MattingClient
from api.client.calls import may_pass
from deploy.commands.arguments import print_left_out
from deploy.commands.cutout_plan import refuse_results_among_photos
from deploy.commands.progress import console, follow, print_not_downloaded
from deploy.commands.summary import tally
from deploy.commands.written_files import FileState
from deploy.local_photos import LocalPhotos, find_photos
from deploy.terminal_text import escape
from shared.errors import ResultsAmongPhotosError, StackError
from shared.plurals import counted

RECORD = ".matting-watch.json"
JOURNAL = ".matting-watch.jsonl"

SETTLE_S = 2.0
"""A file that was changed within this time may still be copied; the next look takes it."""

BATCH_PHOTOS = 500
"""Most photos of one job, so that the first results of many photos come early."""


class _KeptJournal(Journal):
    """The uploads of a batch, kept until the record names the job."""

    def forget(self) -> None:
        """Nothing: the job is not in the record yet."""

    def end(self) -> None:
        """Delete the journal's file."""
        super().forget()


class FolderWatch:
    """A watched folder with its record."""

    def __init__(self, folder: Path, out: Path) -> None:
        """Read the record; nothing is written. Raises ResultsAmongPhotosError, and StackError if
        the record is damaged: its photos would be sent again.
        """
        self.missed = 0
        """Photos of this run without a result in the folder, and files that were left out."""
        self._named: set[str] = set()
        self._folder, self._out = folder.resolve(), out.resolve()
        if self._out == self._folder:
            raise ResultsAmongPhotosError(f"The results would lie among the photos, in {folder}")
        self._record: dict[str, Any] = {"sent": {}, "batch": None, "not_ours": []}
        try:
            self._record |= json.loads((out / RECORD).read_text())
        except FileNotFoundError:
            pass
        except (ValueError, TypeError) as error:
            raise StackError(
                f"{out / RECORD} is damaged. Delete it to cut out all photos again"
            ) from error

    def look(self, client: MattingClient, options: Mapping[str, Any]) -> bool:
        """Cut out what is new; returns whether there was anything. Raises ApiError, OSError."""
        if self._record["batch"] is None:
            names = self._new_photos()
            if not names:
                return False
            self._record["batch"] = {"photos": names, "job": None}
            self._save()
        self._finish_batch(client, options)
        return True

    def _new_photos(self) -> dict[str, list[int]]:
        """Photos that are not in the record, or have changed since: name, and size and time."""
        settled_ns = time.time_ns() - int(SETTLE_S * 1e9)
        found: dict[str, list[int]] = {}
        photos = find_photos([self._folder], but_for=self._out)
        self._name_left_out(photos)
        for path, name in photos.files:
            state = FileState.of(path)
            if state is None or state.modified_ns > settled_ns:
                continue
            values = [state.bytes, state.modified_ns]
            if self._record["sent"].get(name) != values:
                found[name] = values
            if len(found) == BATCH_PHOTOS:
                break
        refuse_results_among_photos([self._out / name for name in found], photos, self._out)
        return found

    def _name_left_out(self, photos: LocalPhotos) -> None:
        """Name each file that is left out, once."""
        new = [one for one in photos.left_out if one.name not in self._named]
        self._named.update(one.name for one in new)
        self.missed += len(new)
        print_left_out(new)

    def _finish_batch(self, client: MattingClient, options: Mapping[str, Any]) -> None:
        batch = self._record["batch"]
        journal = _KeptJournal(self._out / JOURNAL)
        if batch["job"] is None:
            # One that is away, deleted or on a NAS, is not sent: it is new when it comes back.
            batch["photos"] = {
                name: state
                for name, state in batch["photos"].items()
                if (self._folder / name).exists()
            }
            files = [(self._folder / name, name) for name in batch["photos"]]
            if files:
                console.print(f"{counted(len(files), 'new photo')}")
                metadata = {"watched": str(self._folder)[-200:]}
                job = client.submit_files(
                    files, options=options, metadata=metadata, journal=journal
                )
                batch["job"] = job["id"]
                self._save()
        journal.end()
        if batch["job"] is not None:
            try:
                self._fetch(client, batch["job"])
            except ApiError as error:
                if error.status != httpx.codes.NOT_FOUND:
                    raise
                console.print(f"the job {batch['job']} is gone: its photos are sent again")
                batch["photos"] = {}
        self._record["sent"] |= batch["photos"]
        self._record["batch"] = None
        self._save()

    def _fetch(self, client: MattingClient, job_id: str) -> None:
        job = follow(client, job_id)
        not_ours = set(self._record["not_ours"])
        # Only the result of a photo that has changed replaces a file: that of before.
        ours = self._record["sent"].keys() - not_ours

        def fail(item: Item, error: Exception) -> None:
            not_ours.add(item["name"])
            print_not_downloaded(item, error)

        stored = client.download(
            job_id, self._out, on_failed=fail, overwrite=lambda item: item["name"] in ours
        )
        not_ours -= {item["name"] for item, _ in stored}
        self._record["not_ours"] = sorted(not_ours)
        console.print(escape(f"{job_id}: {tally(client, job).sentence()}"), soft_wrap=True)
        if missed := job["counts"]["total"] - len(stored):
            self.missed += missed
            console.print(
                f"{counted(missed, 'photo')} without a result in the folder. They are sent again "
                f"only when they change; `matting retry {job_id}` and `matting download {job_id}` "
                "try again now",
                soft_wrap=True,
            )

    def _save(self) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        partial = self._out / f"{RECORD}.{os.getpid()}.part"
        partial.write_text(json.dumps(self._record))
        partial.replace(self._out / RECORD)


def watch_until_stopped(
    watch: FolderWatch,
    client: MattingClient,
    options: Mapping[str, Any],
    *,
    every_s: float,
) -> None:
    """Look again and again, until Ctrl-C. What may pass, such as an upgrade of the service or a NAS
    that is away, is told once and ends nothing: the record knows what is under way.
    """
    told = ""
    while True:
        try:
            found = watch.look(client, options)
        except (ApiError, httpx.TransportError, OSError) as error:
            if not (isinstance(error, OSError) or may_pass(error)):
                raise
            if str(error) != told:
                console.print(f"[yellow]waiting:[/] {escape(str(error))}", soft_wrap=True)
            told, found = str(error), False
        else:
            told = ""
        if not found:
            time.sleep(every_s)
