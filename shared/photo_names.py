"""Names of files that are no photos: what operating systems and storages leave among photos.

Such files are never counted: nobody put them there. A list beside the photos is none either.
"""

from pathlib import PurePosixPath

SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        ".ds_store",
        ".localized",
        ".appledouble",
        ".spotlight-v100",
        ".trashes",
        ".fseventsd",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",
        ".@__thumb",
        ".directory",
        ".nomedia",
        ".keep",
        ".gitkeep",
        ".picasa.ini",
        "picasa.ini",
    }
)
"""Files and folders of macOS, Windows, network drives, phones and photo programs."""

LIST_ENDINGS = (".csv", ".tsv", ".jsonl")
"""Lists of photos: they are sources of their own."""

SIDECAR_ENDINGS = (".xmp", ".aae", ".thm", ".pp3")
"""What photo programs and phones note beside a photo."""

FOLDER_MARKER = "_$folder$"
"""Ending of the objects with which Hadoop marks folders; consoles use a key that ends with `/`."""

OWN_STAGING = ".matting-"
"""Beginning of the names of unfinished files of `matting cutout` and `matting download`."""


def is_never_a_photo(name: str) -> bool:
    """Whether the name says that this is a system file, a folder's marker, a sidecar or a list.

    `name`: a path with slashes or backslashes.
    """
    path = name.replace("\\", "/")
    if not path or path.endswith("/") or path.endswith(FOLDER_MARKER):
        return True
    parts = PurePosixPath(path.lower()).parts
    if any(part in SYSTEM_NAMES or part.startswith(("._", OWN_STAGING)) for part in parts):
        return True
    return path.lower().endswith((*LIST_ENDINGS, *SIDECAR_ENDINGS))


def is_hidden(name: str) -> bool:
    """Whether the file or one of its folders is hidden (begins with a dot)."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part.startswith(".") and part not in (".", "..") for part in parts)
