"""Checks the names of a job's results before anything is stored: each can be made, and no two are
written to the same place.
"""

from api.schemas.requests import JobFields
from shared.destination import (
    check_names,
    collision,
    destinations,
    digest_of,
    needs_row,
    refuse_own_photo,
)
from shared.job_store import NewItem
from shared.options import Options
from shared.result_names import NamedPhoto


class CheckedNames:
    """The names of the results of one job, and their places in its destination."""

    def __init__(self, request: JobFields) -> None:
        self._template = request.destination
        self._options = request.options
        self._needs_row = needs_row(request.options.model_dump(mode="json"))
        self._taken: dict[str, NamedPhoto] = {}
        self._rows: set[tuple[str, str]] = set()

    def add(self, item: NewItem, number: int) -> None:
        """Check an image; `number` counts from 1. A row that came before adds nothing.

        Raises BadResultNameError, DestinationCollisionError.
        """
        own = item.options
        if self._template is None and not (self._needs_row if own is None else needs_row(own)):
            return
        row = (item.source, item.mark)
        if row in self._rows:
            return
        self._rows.add(row)
        options = self._options if own is None else Options.model_validate(own)
        photo = item.named(number)
        check_names(options, photo)
        if self._template is None:
            return
        for place in destinations(self._template, photo, options, clip=item.is_clip):
            refuse_own_photo(place, item.source)
            digest = digest_of(place)
            if (other := self._taken.get(digest)) is not None:
                raise collision(place, other, photo)
            self._taken[digest] = photo
