"""`matting cutout`: runs the worker's pipeline on local files, without server and queue."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape

from api.client import NamedItem, result_names
from deploy.commands.progress import bar, console
from deploy.commands.written_files import WrittenFiles
from deploy.local_photos import LocalPhotos
from shared.errors import (
    ImageTimeoutError,
    MattingError,
    ResultExistsError,
    SourceNotFoundError,
    StorageError,
)
from shared.options import Options
from shared.settings import Settings
from worker.concurrency.watchdog import Watchdog
from worker.inference.predictor import load_predictor
from worker.inference.tuning import batch_sizes
from worker.pipeline.pipeline import Outcome, Pipeline, WorkItem
from worker.pipeline.work_items import requested_outputs


class FolderStore:
    """Stores objects as local files; a key is a path."""

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """Read a file. Raises SourceNotFoundError."""
        try:
            return Path(key).read_bytes()
        except OSError as error:
            raise SourceNotFoundError(f"{key} can't be read: {error.strerror}") from error

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write a file atomically. Raises StorageError."""
        path = Path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".part")
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"{key} can't be written: {error.strerror}") from error


@dataclass(slots=True)
class CutOut:
    """What became of the photos. Each entry is a JSON object."""

    written: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    """Photos whose results of an earlier run are complete."""
    failed: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A photo and where its main result goes."""

    photo: Path
    name: str
    target: Path


def cut_out_files(
    photos: LocalPhotos,
    out: Path,
    options: Options,
    settings: Settings,
    *,
    overwrite: bool = False,
    target: Path | None = None,
) -> CutOut:
    """Cut out photos into the folder `out`, and say of each what was written.

    Results of an earlier run that are complete are kept. A file that no earlier run wrote is
    replaced only with `overwrite`. `target`: the path of the only photo's result.
    Raises SetupError when the model can't start. If a photo hangs in native code, the process
    exits, because nothing else can stop that code.
    """
    if options.model is not None:
        settings = settings.model_copy(update={"model": options.model})
    settings = batch_sizes(settings)
    assert settings.batch_size is not None
    files = WrittenFiles(out, options, settings.model, remember=target is None)
    done = CutOut()
    planned = list(_missing(_plan(photos, out, options, target), files, options, overwrite, done))
    if not planned:
        return done
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"loading the model {escape(settings.model)} …")
    watchdog = Watchdog(settings.image_timeout_s)
    watchdog.start(_exit_on_hang)
    placing = _Placing(out, files, options, done, overwrite=overwrite)
    try:
        with (
            _temporary(out) as temporary,
            closing(load_predictor(settings, warm_shapes=False)) as predictor,
            closing(Pipeline(predictor, FolderStore(), settings, watchdog=watchdog)) as pipeline,
            ThreadPoolExecutor(settings.batches_in_flight) as drivers,
            bar("matting", len(planned)) as progress,
        ):
            items = [_item(number, options, one, temporary) for number, one in enumerate(planned)]
            size = settings.batch_size
            batches = [items[start : start + size] for start in range(0, len(items), size)]
            expected = iter(planned)
            for outcomes in drivers.map(pipeline.run_many, batches):
                for outcome in outcomes:
                    placing.place(next(expected), outcome)
                files.save()
                progress.advance(progress.task_ids[0], len(outcomes))
    finally:
        watchdog.stop()
    return done


def _plan(
    photos: LocalPhotos, out: Path, options: Options, target: Path | None
) -> Iterator[_Planned]:
    extension = options.format.extension
    names = result_names(
        [NamedItem(name=name, result_format=extension, outputs=[]) for _, name in photos.files]
    )
    for (path, name), result in zip(photos.files, names, strict=True):
        yield _Planned(path, name, target or out / result)


def _missing(
    planned: Iterator[_Planned],
    files: WrittenFiles,
    options: Options,
    overwrite: bool,
    done: CutOut,
) -> Iterator[_Planned]:
    """The photos without results. The others are noted in `done`."""
    for one in planned:
        if not overwrite and (results := files.has_results_of(one.photo, one.name)):
            done.kept.append({"photo": str(one.photo), "files": [str(file) for file in results]})
        elif not overwrite and options.name is None and not files.may_replace(one.target):
            _note_failure(done, one, _exists(one.target))
        else:
            yield one


def _exists(path: Path) -> ResultExistsError:
    return ResultExistsError(f"{path} exists, and this command did not write it")


def _item(number: int, options: Options, planned: _Planned, temporary: Path) -> WorkItem:
    keys = [
        str(temporary / f"{number}-{index}.{one.format.extension}")
        for index, one in enumerate(options.renditions)
    ]
    return WorkItem(
        item_id=planned.name,
        bucket="",
        key=str(planned.photo),
        options=options,
        outputs=requested_outputs(options, keys),
        name=planned.name,
    )


@contextmanager
def _temporary(out: Path) -> Iterator[Path]:
    """A folder for results on the way, on the same file system as `out`."""
    folder = Path(tempfile.mkdtemp(prefix=".matting-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Placing:
    """Moves finished results to their names, and says so."""

    def __init__(
        self, out: Path, files: WrittenFiles, options: Options, done: CutOut, *, overwrite: bool
    ) -> None:
        self._out, self._files, self._options = out, files, options
        self._done, self._overwrite = done, overwrite
        self._taken: set[Path] = set()

    def place(self, planned: _Planned, outcome: Outcome) -> None:
        """Move the results of one photo. If one can't be placed, the photo has failed."""
        if outcome.error is not None:
            _note_failure(self._done, planned, outcome.error)
            return
        targets: list[Path] = []
        try:
            for index, output in enumerate(outcome.outputs):
                named = index > 0 or self._options.name is not None
                path = self._out / output.name if named else planned.target
                self._move(Path(output.key), path)
                targets.append(path)
        except (ResultExistsError, StorageError) as error:
            _note_failure(self._done, planned, error)
            return
        self._files.note(planned.photo, planned.name, targets)
        self._say(planned, outcome, targets)

    def _move(self, source: Path, path: Path) -> None:
        """Raises ResultExistsError, StorageError."""
        own = self._overwrite or self._files.may_replace(path)
        if path in self._taken or not own:
            raise _exists(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            source.replace(path)
        except OSError as error:
            raise StorageError(f"{path} can't be written: {error.strerror}") from error
        self._taken.add(path)

    def _say(self, planned: _Planned, outcome: Outcome, targets: Sequence[Path]) -> None:
        reasons = [reason.value for reason in outcome.review]
        unmet = [rule for output in outcome.outputs for rule in output.unmet]
        self._done.written.append(
            {
                "photo": str(planned.photo),
                "files": [str(path) for path in targets],
                "needs_review": bool(reasons),
                "review_reasons": reasons,
                "unmet_rules": unmet,
            }
        )
        to_check = f" [yellow]to check:[/] {', '.join(reasons)}" if reasons else ""
        for index, path in enumerate(targets):
            note = to_check if index == 0 else ""
            console.print(f"wrote {escape(str(path))}{note}", soft_wrap=True)
        for output, path in zip(outcome.outputs, targets, strict=True):
            for rule in output.unmet:
                text = escape(f"{path.name}: {rule}")
                console.print(f"[yellow]rule[/]  {text}", soft_wrap=True)


def _note_failure(done: CutOut, planned: _Planned, error: MattingError) -> None:
    done.failed.append({"photo": str(planned.photo), "code": error.code, "detail": error.detail})
    text = escape(f"{planned.name}: {error.message} [{error.code}]")
    console.print(f"[red]failed[/] {text}", soft_wrap=True)


def _exit_on_hang(name: str | None, stage: str, limit_s: float) -> None:
    """Name the photo that hangs and exit. Files that are written already are complete."""
    error = ImageTimeoutError(f"The stage {stage} took more than {limit_s:g} s")
    text = f"{name or 'a whole batch'}: {error.message} [{error.code}]"
    console.print(f"[red]failed[/] {escape(text)}")
    console.print("Finished results are kept. Remove that photo and run the command again.")
    console.show_cursor()
    os._exit(1)
