"""The result files of a clip: stored, written to the job's destination, and told to the outcome."""

import zlib
from pathlib import Path

from shared.errors import OutputTooLargeError
from shared.jobs import Reason
from shared.kept_files import thumbnails_key
from shared.result_names import file_name
from shared.settings import Settings
from worker.pipeline.clip_files import FileStore
from worker.pipeline.in_flight import InFlightImage, Publisher
from worker.pipeline.work_items import RequestedOutput, StoredOutput
from worker.video.completing import ClipFile, ClipResult

MAX_PUBLISHED_BYTES = 5 * 1024**3
"""S3's limit of one request that writes (Amazon S3 user guide, "Uploading objects"). Only such a
request can be bound to the object that it replaces."""

CRC_BYTES = 1024**2


class ClipResults:
    """Stores the results of clips. Thread-safe."""

    def __init__(self, store: FileStore, publisher: Publisher | None, settings: Settings) -> None:
        """`publisher`: writes to the destinations of jobs; None: there are none."""
        self._store, self._publisher, self._settings = store, publisher, settings

    def store(self, in_flight: InFlightImage, result: ClipResult) -> None:
        """Store the files, the poster and the strip, and tell the outcome. Raises MattingError."""
        item, outcome = in_flight.item, in_flight.outcome
        stored: list[StoredOutput] = []
        for output, file in zip(item.outputs, result.files, strict=True):
            with file.path.open("rb") as stream:
                self._store.upload(output.key, stream, file.content_type)
            stored.append(_stored(in_flight, output, file))
        if self._settings.thumbnails:
            both = result.poster + result.strip
            self._store.put(thumbnails_key(item.outputs[0].key), both, "image/webp")
        for output, file in zip(item.outputs, result.files, strict=True):
            self._publish(in_flight, output, file)
        outcome.outputs = tuple(stored)
        outcome.output_bytes = stored[0].bytes
        outcome.model = self._settings.model
        known = {reason.value: reason for reason in Reason}
        found = [known[one.reason.value] for one in result.doubts]
        outcome.review = tuple(dict.fromkeys(found))

    def _publish(self, in_flight: InFlightImage, output: RequestedOutput, file: ClipFile) -> None:
        """Write a file to the job's destination."""
        if output.destination is None or self._publisher is None:
            return
        if file.bytes > MAX_PUBLISHED_BYTES:
            raise OutputTooLargeError(
                f"The result has {file.bytes:,} bytes; {MAX_PUBLISHED_BYTES:,} can be written to a"
                " destination"
            )
        with file.path.open("rb") as stream:
            self._publisher.publish(
                output.destination, stream, file.content_type, writer=in_flight.item.writer
            )


def _stored(in_flight: InFlightImage, output: RequestedOutput, file: ClipFile) -> StoredOutput:
    extension = output.rendition.extension(clip=True)
    name = output.rendition.name
    return StoredOutput(
        name=file_name(name, in_flight.item.photo, extension, file.width, file.height),
        key=output.key,
        destination=output.place,
        width=file.width,
        height=file.height,
        bytes=file.bytes,
        unmet=(),
        crc32=_crc32(file.path),
    )


def _crc32(file: Path) -> int:
    value = 0
    with file.open("rb") as stream:
        while piece := stream.read(CRC_BYTES):
            value = zlib.crc32(piece, value)
    return value
