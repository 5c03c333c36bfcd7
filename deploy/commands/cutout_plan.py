"""What a run of `matting cutout` is to write, and what became of each file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.commands.progress import console
from deploy.commands.result_files import ResultFolder, TargetExistsError
from deploy.commands.written_files import WrittenFiles
from deploy.local_photos import LocalPhotos
from deploy.terminal_text import escape
from shared.errors import ResultsAmongPhotosError
from shared.options import Options


@dataclass(frozen=True, slots=True)
class Planned:
    """A photo or clip and its result files, the main one first. Name templates may change them
    later.
    """

    source: Path
    name: str
    number: int
    """Its place in the run, from 1."""
    targets: list[Path]
    key: str
    """What the record of the folder calls it."""


@dataclass(slots=True)
class CutOut:
    """What became of the photos and clips. Each entry is a JSON object."""

    written: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    """Those whose results of an earlier run are complete."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    called: str | None = None
    """What messages call the only result; None: its path."""

    def still_missing(
        self,
        planned: Sequence[Planned],
        store: ResultFolder,
        files: WrittenFiles,
        options: Options,
        *,
        overwrite: bool,
    ) -> list[Planned]:
        """Those that are to be cut out now. The others are noted: as kept if an earlier run has
        made their results, as failed if a foreign file is in the place of one.
        """
        missing: list[Planned] = []
        for one in planned:
            results = [] if overwrite else files.has_results_of(one.source, one.key)
            if results:
                store.keep(results)
                made = [str(file) for file in results]
                self.kept.append({"photo": str(one.source), "files": made})
                continue
            try:
                if options.name is None:
                    store.check(one.targets[0])
            except OSError as error:
                self.note_unwritten(one, error)
                continue
            missing.append(one)
        return missing

    def put_in_order(self, planned: Sequence[Planned]) -> None:
        """Put what was noted into the order of the photos, which end in any order."""
        numbers = {str(one.source): one.number for one in planned}
        for some in (self.written, self.failed):
            some.sort(key=lambda one: numbers[one["photo"]])

    def note_unwritten(self, planned: Planned, error: OSError) -> None:
        """Note one whose result has no place."""
        if isinstance(error, TargetExistsError):
            self.note_failure(planned, "file-exists", str(error))
        else:
            self.note_failure(planned, "not-written", error.strerror or str(error))

    def note_failure(self, planned: Planned, code: str, text: str) -> None:
        """Note a photo or clip that got no result, and say why."""
        self.failed.append({"photo": str(planned.source), "code": code, "detail": text})
        line = escape(f"{planned.name}: {text} [{code}]")
        console.print(f"[red]failed[/] {line}", soft_wrap=True)


def record_keys(names: Sequence[str], results: Sequence[str]) -> list[str]:
    """What the record of the folder calls photos with these names and results: files of one name
    from several folders are told apart by their results.
    """
    count = Counter(names)
    return [
        name if count[name] == 1 else f"{name} as {result}"
        for name, result in zip(names, results, strict=True)
    ]


def refuse_results_among_photos(targets: Sequence[Path], photos: LocalPhotos, out: Path) -> None:
    """Raise ResultsAmongPhotosError if the next run would take the results for photos."""
    searched = {folder.resolve() for folder in photos.folders}
    apart = out.resolve()
    for folder in {path.parent for path in targets}:
        place = folder.resolve()
        for root in searched & {place, *place.parents}:
            if root == apart or root not in apart.parents:
                raise ResultsAmongPhotosError(
                    f"The results would lie among the photos, in {folder}"
                )
