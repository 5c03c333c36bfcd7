"""Errors of watches: prefixes whose new objects are cut out."""

from shared.errors.requests import ConflictError, NotFoundError, RequestError


class WatchNotFoundError(NotFoundError):
    """There is no watch with this id, or it belongs to another API key."""

    code = "watch-not-found"


class TooManyWatchesError(ConflictError):
    """The API key has reached its maximum number of watches."""

    code = "too-many-watches"
    remedy = "Delete a watch, or watch a prefix that holds the others."


class WatchTooLargeError(RequestError):
    """There are more objects under the watched prefix than one look may list."""

    code = "watch-too-large"
    http_status = 422
    remedy = (
        "Move finished photos elsewhere, watch a narrower prefix, or make a watch with "
        "`ascending` if new keys sort behind the old ones."
    )
