"""Options that clips don't have: they are refused, or have no effect."""

from shared.errors import InvalidOptionsError
from shared.options import Options
from shared.rendition import Rendition

OF_PHOTOS = ("second_model", "colour_profile", "group_by", "turntable")
OF_PHOTO_FILES = ("max_bytes", "market", "dpi", "exif")
"""Options of photos, and of each of their files. A job may have them: it may hold photos, too."""

NO_SECOND_MODEL = "none"


def refuse_options(options: Options) -> None:
    """Raise InvalidOptionsError for options that clips don't have."""
    if options.subject is not None:
        raise InvalidOptionsError("`subject` works with photos only: in a clip it moves")


def without_effect(options: Options) -> list[str]:
    """The options that were given and have no effect on a clip, in the order of the reference."""
    found = {name for name in OF_PHOTOS if _is_given(options, name)}
    for rendition in options.renditions:
        found |= {name for name in OF_PHOTO_FILES if _is_given(rendition, name)}
    if options.second_model == NO_SECOND_MODEL:
        found.discard("second_model")
    return [name for name in type(options).model_fields if name in found]


def _is_given(options: Rendition, name: str) -> bool:
    given: bool = getattr(options, name) != type(options).model_fields[name].get_default()
    return given
