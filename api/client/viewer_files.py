"""The JSON file of a turntable for 360° viewers: it names the pictures as they are downloaded."""

import json
import posixpath
from collections.abc import Mapping

VIEWER_ENDING = ".json"
"""No other file of a turntable ends like this."""


def name_pictures(viewer: bytes, name: str, mains: Mapping[str, str]) -> bytes:
    """The file with the paths, beside it, of its pictures. The worker that wrote it could not know
    names that are changed because another file has the same. `name`: that of the file; `mains`: the
    name of each item's main file, by its id.
    """
    told = json.loads(viewer)
    folder = posixpath.dirname(name) or "."
    images = [
        posixpath.relpath(mains[item_id], folder) if item_id in mains else image
        for item_id, image in zip(told["items"], told["images"], strict=True)
    ]
    if images == told["images"]:
        return viewer
    return json.dumps({**told, "images": images}, ensure_ascii=False, indent=1).encode()
