"""Errors of a request: the caller must change it, or send it later."""

from shared.errors.base import MattingError


class RequestError(MattingError):
    """Invalid request."""

    code = "bad-request"
    http_status = 400
    remedy = "See /docs for the parameters of each endpoint."


class UnauthorizedError(RequestError):
    """The API key is missing or invalid."""

    code = "unauthorized"
    http_status = 401
    remedy = "Send `Authorization: Bearer KEY`. `matting keys create NAME` creates a key."


class SessionEndedError(UnauthorizedError):
    """The session has ended."""

    code = "session-ended"
    remedy = "Sign in again with an API key. What you had not saved is kept in this browser."


class ForeignPageError(RequestError):
    """The request uses a session, but does not come from a page of the console."""

    code = "foreign-page"
    http_status = 403
    remedy = "Reload the page. A program sends `Authorization: Bearer KEY` instead."


class ScopeError(RequestError):
    """The API key does not have the scope for this request."""

    code = "scope-missing"
    http_status = 403
    remedy = "Use a key with that scope: `matting keys create NAME --scope …`."


class RateLimitError(RequestError):
    """The API key exceeded its request rate."""

    code = "rate-limited"
    http_status = 429
    remedy = "Wait for the seconds in `Retry-After`, and send more images in each request."


class QuotaExceededError(RequestError):
    """The API key has no images left this month."""

    code = "quota-exceeded"
    http_status = 402
    remedy = "Wait until next month, or ask the operator for a higher quota."


class RequestTooLargeError(RequestError):
    """The request is larger than the limit allows."""

    code = "request-too-large"
    http_status = 413
    remedy = "Split it, or put the files into S3 and submit their keys or prefix."


class RangeNotSatisfiableError(RequestError):
    """The requested range begins behind the end of the file."""

    code = "range-not-satisfiable"
    http_status = 416
    remedy = "You have the whole file already, or part of another one: get it without `Range`."


class AmbiguousRequestError(RequestError):
    """A header came twice or contradicts another one, so the request is ambiguous."""

    code = "ambiguous-request"
    remedy = "Send each of these headers once. If you do, check the proxy in between."


class UnsupportedEncodingError(RequestError):
    """The request's body is compressed; only uncompressed bodies are accepted."""

    code = "unsupported-encoding"
    http_status = 415
    remedy = "Send it without Content-Encoding."


class BusyError(RequestError):
    """The service is handling as many requests of this kind as it can."""

    code = "busy"
    http_status = 503
    remedy = "Nothing was done. Send it again after the seconds in `Retry-After`."


class TooManyCallsError(RequestError):
    """The API key has too many requests of this kind in progress."""

    code = "too-many-calls"
    http_status = 429
    remedy = "Wait for answers before you send more, or submit one job with many photos."


class SlowRequestError(RequestError):
    """The request's body arrived too slowly."""

    code = "request-timeout"
    http_status = 408
    remedy = "Send it again over a faster connection, or in smaller parts."


class AnswerTimeoutError(RequestError):
    """The photo was not finished within the time limit of this endpoint."""

    code = "answer-timeout"
    http_status = 504
    remedy = "Work continues: poll the job named in the answer. For many photos submit a bulk job."

    def __init__(self, detail: str | None = None, *, job_id: str | None = None) -> None:
        """`job_id`: the job that continues."""
        super().__init__(detail)
        self.job_id = job_id


class NotFoundError(RequestError):
    """There is no resource with this id, or it belongs to another API key."""

    code = "not-found"
    http_status = 404
    remedy = "Check the id and the API key."


class KeyNotFoundError(NotFoundError):
    """There is no API key with this id."""

    code = "key-not-found"
    remedy = "`GET /v1/keys` and `matting keys list` list the ids."


class JobNotFoundError(NotFoundError):
    """There is no job with this id, or it belongs to another API key."""

    code = "job-not-found"


class ItemNotFoundError(NotFoundError):
    """There is no item with this id, or it belongs to another API key."""

    code = "item-not-found"


class ConflictError(RequestError):
    """The request conflicts with the present state."""

    code = "conflict"
    http_status = 409
    remedy = "Read the state again, then send a request that fits it."


class JobChangingError(ConflictError):
    """Images of the job are still being cancelled."""

    code = "job-changing"
    remedy = "Try again in a few seconds."


class TooManyFailuresError(ConflictError):
    """Too many images of the job failed, so the service paused it."""

    code = "too-many-failures"
    remedy = "Check the failed items, then resume the job or cancel it."


class ResultNotReadyError(ConflictError):
    """The item has no result yet."""

    code = "result-not-ready"
    remedy = "Wait until its status is `succeeded`. If it failed, read its `error`."


class RedoPendingError(ConflictError):
    """The image is being made again."""

    code = "redo-pending"
    remedy = "Wait until the item's `redo` is null or says `failed`, then ask again."


class MatteChangedError(RequestError):
    """The matte was replaced after you had read it."""

    code = "matte-changed"
    http_status = 412
    remedy = "Get the matte again, repeat your change, and send it with the new ETag in If-Match."


class IfMatchMissingError(RequestError):
    """The request does not say which matte it replaces."""

    code = "if-match-missing"
    http_status = 428
    remedy = "Send the ETag of the matte that you changed in If-Match."


class VersionNotFoundError(NotFoundError):
    """The item has no finished version with this number."""

    code = "version-not-found"
    remedy = "Read the item's versions; only the last ones are kept."


class NotKeptError(NotFoundError):
    """The service did not keep this file of the item."""

    code = "not-kept"
    remedy = "Redo the image: files beside the result are written with it."


class InvalidMatteError(RequestError):
    """The matte is not an 8-bit grey PNG with the photo's size."""

    code = "invalid-matte"
    http_status = 422
    remedy = "Send one grey channel with 8 bits, in the upright photo's width and height."


class NoForegroundError(RequestError):
    """No foreground was found in the photo."""

    code = "no-foreground"
    http_status = 422
    remedy = "Use a photo whose subject stands out from its background."


class TooManyListenersError(RequestError):
    """Too many event streams are open."""

    code = "too-many-listeners"
    http_status = 503
    remedy = "Try again later, or poll the job instead."


class InvalidCursorError(RequestError):
    """The cursor is invalid for this endpoint."""

    code = "invalid-cursor"
    remedy = "Pass `next_cursor` from the previous page unchanged, or omit it to start."
