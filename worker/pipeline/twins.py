"""Images of one batch that have the same photo and the same options: one is computed, the others
are copied from it. Feeds name one photo for every size of a shirt.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from worker.pipeline.in_flight import InFlightImage


@dataclass(frozen=True, slots=True)
class Twin:
    """An image whose result another one, the leader, gets first."""

    in_flight: InFlightImage
    data: bytes
    leader: InFlightImage


class Twins:
    """Tells twins from the images to compute. For one thread."""

    def __init__(self) -> None:
        self._found: list[Twin] = []
        self._leaders: dict[tuple[str, str], InFlightImage] = {}
        self._files: dict[tuple[str, str], bytes] = {}
        """Of the first twin of each leader; the others share it, for the files are the same."""

    def without(
        self, fetched: Iterable[tuple[InFlightImage, bytes]]
    ) -> Iterator[tuple[InFlightImage, bytes]]:
        """The images to compute; the others are twins, to be taken afterwards."""
        for in_flight, data in fetched:
            fingerprint = in_flight.outcome.fingerprint
            if fingerprint is None:  # it is always computed
                yield in_flight, data
                continue
            same = in_flight.item.tenant, fingerprint
            leader = self._leaders.setdefault(same, in_flight)
            if leader is in_flight:
                yield in_flight, data
            else:
                self._found.append(Twin(in_flight, self._files.setdefault(same, data), leader))

    def taken(self) -> list[Twin]:
        """The twins found since. Their leaders stay known, their files do not."""
        found, self._found = self._found, []
        self._files.clear()
        return found
