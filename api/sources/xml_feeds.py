"""Parses XML feeds of products (Google Merchant: RSS 2.0 or Atom), streamed, without entities.

defusedxml refuses document types, so no entity is ever expanded and nothing is loaded.
"""

import xml.etree.ElementTree as Tree
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from api.schemas.sources import Feed
from api.sources.feeds import BadRow, reader_of
from shared.errors import BadManifestError

MAX_PRODUCT_BYTES = 512 * 1024
"""Most bytes of one product, which is held in memory."""

PRODUCTS = frozenset({"item", "entry"})


class _Stream:
    """Chunks as a file, and the bytes since the last product."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self.since_product = 0

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes. Raises BadManifestError if a product has no end."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        self.since_product += len(data)
        if self.since_product > MAX_PRODUCT_BYTES:
            raise BadManifestError(f"A product has more than {MAX_PRODUCT_BYTES:,} bytes of XML")
        return data


def xml_rows(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The rows of a feed. Raises BadManifestError, also after some rows."""
    stream, number = _Stream(chunks), 0
    read = reader_of(["id", "image_link"], Feed.GOOGLE)
    depth: list[Any] = []
    try:
        for event, element in iterparse(cast(IO[bytes], stream), ("start", "end"), forbid_dtd=True):
            if event == "start":
                depth.append(element)
                continue
            depth.pop()
            if _name(element.tag) not in PRODUCTS:
                continue
            number += 1
            stream.since_product = 0
            for row in read(_cells(element)):
                if isinstance(row, BadRow):
                    row.problem = f"Product {number} {row.problem}"
                yield row
            if depth:
                depth[-1].remove(element)
    except (
        DefusedXmlException,
        Tree.ParseError,
        BadManifestError,
        ValueError,
        LookupError,
    ) as error:
        said = "it has a document type" if isinstance(error, DefusedXmlException) else str(error)
        raise BadManifestError(f"Product {number + 1} can't be read: {said}") from error
    if not number:
        raise BadManifestError("The XML has no products: neither <item> nor <entry>")


def _cells(product: Any) -> dict[str, str]:
    """The texts of a product's elements; several of one name stand in one cell."""
    cells: dict[str, list[str]] = {}
    for element in product:
        text = ":".join(part.strip() for part in element.itertext() if part.strip())
        if not text and _name(element.tag) == "link":
            text = element.get("href", "")
        if text:
            cells.setdefault(_name(element.tag), []).append(text)
    return {name: ",".join(texts) for name, texts in cells.items()}


def _name(tag: str) -> str:
    """A tag without its namespace."""
    return tag.rpartition("}")[2]
