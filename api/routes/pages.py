"""Pages of lists as JSON, in limited memory: rows are read a few at a time, and a page that grows
large ends early. A thousand rows can hold a hundred megabytes of what callers gave themselves.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from fastapi import Response
from pydantic import BaseModel

from api.schemas.responses import to_cursor

ROWS_AT_ONCE = 64
"""Rows that are read at a time. A row with a thousand columns needs 0.1 MB."""

MAX_PAGE_BYTES = 4 * 1024**2
"""A page ends with the row that makes it longer. Most have 1 KB a row."""

Row = TypeVar("Row")
Place = TypeVar("Place")


def some_at_a_time(
    read: Callable[[Place, int], Sequence[Row]],
    place_of: Callable[[Row], Place],
    after: Place,
    limit: int,
) -> Iterator[Row]:
    """The first `limit` rows behind a place. `read` gets a place and a number of rows."""
    while limit > 0:
        asked = min(limit, ROWS_AT_ONCE)
        rows = read(after, asked)
        yield from rows
        if len(rows) < asked:
            return
        limit -= asked
        after = place_of(rows[-1])


def page_of(name: str, rows: Iterable[tuple[BaseModel | None, object]], limit: int) -> Response:
    """The page with up to `limit` rows, in its field `name`. Each row comes with the place to go on
    behind it; a place without a row ends the page, and there may be more.
    """
    texts: list[str] = []
    size = 0
    end: object = None
    more = False
    for row, place in rows:
        more = row is None or len(texts) == limit or size > MAX_PAGE_BYTES
        if row is None:
            end = place
        if row is None or more:
            break
        texts.append(row.model_dump_json())
        size += len(texts[-1])
        end = place
    cursor = json.dumps(to_cursor(end) if more else None)
    body = f'{{"{name}":[{",".join(texts)}],"next_cursor":{cursor}}}'
    return Response(body, media_type="application/json")
