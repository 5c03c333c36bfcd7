"""The files of turntables for viewers, as a zip file holds them: with its names of the pictures."""

from collections.abc import Mapping, Sequence

from api.client.viewer_files import name_pictures
from api.resources import Resources
from api.routes.streamed_zip import readers
from shared.errors import SourceNotFoundError

MAX_VIEWER_BYTES = 16 * 1024**2
"""More than such a file has."""


def named_viewers(
    resources: Resources, viewers: Sequence[tuple[str, str]], mains: Mapping[str, str]
) -> dict[str, bytes]:
    """The content of such files, by key; those that are not in the storage are left out. `viewers`:
    key and name of each; `mains`: the name of each item's main file, by its id.
    """

    def named(viewer: tuple[str, str]) -> bytes | None:
        key, name = viewer
        try:
            data = resources.storage.get(resources.storage.bucket, key, MAX_VIEWER_BYTES)
        except SourceNotFoundError:
            return None
        return name_pictures(data, name, mains)

    if not viewers:
        return {}
    with readers() as threads:
        found = zip(viewers, threads.map(named, viewers), strict=True)
        return {key: data for (key, _), data in found if data is not None}
