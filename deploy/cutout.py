"""`matting cutout`: photos straight to cut-outs, by the worker's own pipeline, with no queue."""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from api.client import result_names
from deploy.photos import Photos
from deploy.progress import bar, console
from shared.errors import SourceNotFoundError, StorageError
from shared.options import Options
from shared.settings import Settings
from worker.pipeline import Outcome, Pipeline, WorkItem
from worker.predictor import load_predictor
from worker.tuning import batch_sizes


class Folder:
    """Files in place of the object storage: keys are paths."""

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The file's bytes. Raises SourceNotFoundError."""
        try:
            return Path(key).read_bytes()
        except OSError as error:
            raise SourceNotFoundError(f"{key} can't be read: {error.strerror}") from error

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write the file whole or not at all. Raises StorageError."""
        path = Path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".part")
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"{key} can't be written: {error.strerror}") from error


def cut_out_files(photos: Photos, out: Path, options: Options, settings: Settings) -> int:
    """Do all of them; returns how many failed. Raises SetupError when the model can't start."""
    settings = batch_sizes(settings)
    assert settings.batch_size is not None
    extension = options.format.extension
    names = result_names([{"name": name, "result_format": extension} for _, name in photos.files])
    items = [
        WorkItem(
            item_id=name,
            bucket="",
            key=str(path),
            result_key=str(out / result),
            options=options,
        )
        for (path, name), result in zip(photos.files, names, strict=True)
    ]
    pipeline = Pipeline(load_predictor(settings), Folder(), settings)
    failed = 0
    try:
        with bar("matting", len(items)) as progress:
            for start in range(0, len(items), settings.batch_size):
                outcomes = pipeline.run_many(items[start : start + settings.batch_size])
                failed += _report(outcomes)
                progress.advance(progress.task_ids[0], len(outcomes))
    finally:
        pipeline.close()
    return failed


def _report(outcomes: Sequence[Outcome]) -> int:
    bad = [outcome for outcome in outcomes if outcome.error]
    for outcome in bad:
        assert outcome.error is not None
        text = f"{outcome.item_id}: {outcome.error.message} [{outcome.error.code}]"
        console.print(f"[red]failed[/] {escape(text)}")
    return len(bad)
