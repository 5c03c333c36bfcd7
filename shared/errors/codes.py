"""Lookup of an error class by its code: only codes go through the database and the API."""

from shared.errors import base, clips, images, requests, setup, submissions, watches, webhooks, work
from shared.errors.base import MattingError

_SUBJECTS = (base, images, clips, work, setup, requests, submissions, webhooks, watches)

ERRORS: dict[str, type[MattingError]] = {
    one.code: one
    for subject in _SUBJECTS
    for one in vars(subject).values()
    if isinstance(one, type)
    and issubclass(one, MattingError)
    and one.__module__ == subject.__name__
}
"""Every error by its code, in the order of their subjects."""


def error_of(code: str | None, detail: str | None) -> MattingError:
    """The error with this code and detail; a MattingError if the code is unknown."""
    return ERRORS.get(code or "", MattingError)(detail)
