"""What is kept of a clip's segments in the storage: mattes, and encoded parts of the results."""

import shutil
from collections.abc import Callable
from pathlib import Path

from shared.errors import SourceNotFoundError, TransientError
from shared.settings import Settings
from worker.pipeline.clip_files import FileStore
from worker.video.folders import BoundedFile
from worker.video.parts import INDEX, Part, file_names


class StoredSegment:
    """A segment of a clip in the storage. Its objects lie in the folder of the job of segments, and
    are removed with it.
    """

    def __init__(
        self,
        store: FileStore,
        settings: Settings,
        mattes_key: str,
        folder: Path,
        left_bytes: Callable[[], int],
    ) -> None:
        """`folder`: for the files that are fetched; `left_bytes`: the room that they may take."""
        self._store, self._settings = store, settings
        self._key, self._folder, self._left_bytes = mattes_key, folder, left_bytes
        self.is_gone = False
        """Whether the mattes were asked for and are not there any more."""

    def mattes(self) -> Path:
        """The file of mattes. Raises TransientError and what the store raises."""
        file = self._folder / self._key.rpartition("/")[2]
        if not file.exists():
            try:
                self._fetch(self._key, file)
            except SourceNotFoundError as error:
                file.unlink(missing_ok=True)
                self.is_gone = True
                raise TransientError(f"Mattes are gone: {self._key}") from error
        return file

    def keep_mattes(self, file: Path) -> None:
        """Store a file of mattes."""
        self._upload(file, self._key)

    def fetch_part(self, mark: str, folder: Path) -> bool:
        """Write the files of a part into a folder. False: there is no part with this mark."""
        folder.mkdir(parents=True)
        try:
            self._fetch(self._part_key(mark, INDEX), folder / INDEX)
            for name in file_names(folder):
                self._fetch(self._part_key(mark, name), folder / name)
        except SourceNotFoundError:
            shutil.rmtree(folder)
            return False
        return True

    def keep_part(self, mark: str, part: Part) -> None:
        """Store a part; its index comes last: a part without it does not count."""
        for path in [*part.paths, part.write_index()]:
            self._upload(path, self._part_key(mark, path.name))

    def _part_key(self, mark: str, name: str) -> str:
        return f"{self._key.removesuffix('.zip')}-{mark}/{name}"

    def _fetch(self, key: str, file: Path) -> None:
        with BoundedFile(file, self._left_bytes()) as into:
            bucket, most_bytes = self._settings.s3_bucket, self._settings.clip_disk_bytes
            self._store.fetch(bucket, key, most_bytes, into)

    def _upload(self, file: Path, key: str) -> None:
        with file.open("rb") as stream:
            self._store.upload(key, stream, "application/octet-stream")
