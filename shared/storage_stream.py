"""The bytes of an open object, in pieces."""

from collections.abc import Iterator
from typing import Any, Self

from shared.storage_faults import FAULTS, translated

STREAM_BYTES = 256 * 1024


class ObjectStream(Iterator[bytes]):
    """Occupies a connection until it has ended or is closed. `close` is for whoever may leave it
    before its end, also before its first piece. A generator would close nothing if it had not
    begun.
    """

    def __init__(self, body: Any, bucket: str, key: str) -> None:
        """`body`: boto3's."""
        self._body = body
        self._pieces = body.iter_chunks(STREAM_BYTES)
        self._place = bucket, key

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """The next piece. Raises ImageError, StorageError."""
        try:
            piece: bytes = next(self._pieces)
        except StopIteration:
            self.close()
            raise
        except FAULTS as error:
            self.close()
            raise translated(error, *self._place) from error
        return piece

    def close(self) -> None:
        """Close the connection, if the stream has not ended; twice does no harm."""
        self._body.close()
