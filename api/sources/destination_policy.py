"""Where a caller may let results be written: folders that the operator allows."""

from api.sources.source_policy import OWN_PREFIX, UPLOADS_PREFIX
from shared.destination import fixed_folder
from shared.errors import ForbiddenDestinationError
from shared.object_url import ObjectUrl, as_read_laxly
from shared.settings import Settings


def check_destination(settings: Settings, limits: tuple[str, ...] | None, template: str) -> None:
    """Raise ForbiddenDestinationError unless results may be written below the destination's fixed
    folder. `limits`: the `s3://bucket/folder/` of the API key; None: all that the settings allow.
    """
    folder = fixed_folder(template)
    if folder.bucket == settings.s3_bucket and _is_own(folder):
        raise ForbiddenDestinationError(
            f"{folder} belongs to the service; in its bucket, name another folder"
        )
    if not _is_below(folder, settings.writable_folders):
        raise ForbiddenDestinationError(f"The service may not write results to {folder}")
    if limits is not None and not _is_below(folder, limits):
        raise ForbiddenDestinationError(f"This API key may not write results to {folder}")


def _is_own(folder: ObjectUrl) -> bool:
    """Whether keys below a folder of the service's bucket can be files of the service."""
    lax = as_read_laxly(folder.key)
    return any(lax.startswith(own) or own.startswith(lax) for own in (OWN_PREFIX, UPLOADS_PREFIX))


def _is_below(folder: ObjectUrl, allowed: tuple[str, ...]) -> bool:
    return str(folder).startswith(allowed)
