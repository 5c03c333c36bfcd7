"""The caller asked for something that can't be done as it stands, or not now."""

from shared.errors.base import MattingError


class RequestError(MattingError):
    """The request can't be carried out as it stands."""

    code = "bad-request"
    http_status = 400
    remedy = "See /docs for what the endpoint takes."


class UnauthorizedError(RequestError):
    """The request carries no valid API key."""

    code = "unauthorized"
    http_status = 401
    remedy = "Send `Authorization: Bearer KEY`; make a key with `matting keys create NAME`."


class ScopeError(RequestError):
    """The API key does not allow this."""

    code = "scope-missing"
    http_status = 403
    remedy = "Use a key with that scope: `matting keys create NAME --scope …`."


class RateLimitError(RequestError):
    """The API key sends more requests than it may."""

    code = "rate-limited"
    http_status = 429
    remedy = "Wait as long as `Retry-After` says, and send more images with each request."


class QuotaExceededError(RequestError):
    """The API key has no images left this month."""

    code = "quota-exceeded"
    http_status = 402
    remedy = "Wait for the next month, or ask the operator for a higher quota."


class RequestTooLargeError(RequestError):
    """The request is larger than the limit allows."""

    code = "request-too-large"
    http_status = 413
    remedy = "Split it, or put the files into S3 and submit their keys or prefix."


class AmbiguousRequestError(RequestError):
    """A header came twice, or contradicts another: which one counts is anyone's guess."""

    code = "ambiguous-request"
    remedy = "Send each of these headers once; if you don't, look at the proxy in between."


class UnsupportedEncodingError(RequestError):
    """The request's body is compressed, and is taken plain only."""

    code = "unsupported-encoding"
    http_status = 415
    remedy = "Send it without Content-Encoding."


class BusyError(RequestError):
    """The service has as many requests of this kind at hand as it can hold."""

    code = "busy"
    http_status = 503
    remedy = "Send it again as `Retry-After` says; nothing was done."


class TooManyCallsError(RequestError):
    """The API key has too many calls of this kind open at a time."""

    code = "too-many-calls"
    http_status = 429
    remedy = "Wait for answers before you send more, or submit a job: it takes any number."


class SlowRequestError(RequestError):
    """The request's body came too slowly."""

    code = "request-timeout"
    http_status = 408
    remedy = "Send it again over a faster connection, or in smaller parts."


class AnswerTimeoutError(RequestError):
    """The photo was not done within the time that the caller can wait."""

    code = "answer-timeout"
    http_status = 504
    remedy = "Nothing is lost: ask for the job, or submit in bulk when there is much to do."

    def __init__(self, detail: str | None = None, *, job_id: str | None = None) -> None:
        """`job_id`: what goes on."""
        super().__init__(detail)
        self.job_id = job_id


class NotFoundError(RequestError):
    """There is nothing under this id, or it belongs to another key."""

    code = "not-found"
    http_status = 404
    remedy = "Check the id and the API key."


class JobNotFoundError(NotFoundError):
    """There is no job with this id, or it belongs to another key."""

    code = "job-not-found"


class ItemNotFoundError(NotFoundError):
    """There is no item with this id, or it belongs to another key."""

    code = "item-not-found"


class ConflictError(RequestError):
    """The request does not fit the present state."""

    code = "conflict"
    http_status = 409
    remedy = "Read the state again and decide anew."


class TooManyFailuresError(ConflictError):
    """Too many images of the job failed, so it was paused before the rest is spent on it."""

    code = "too-many-failures"
    remedy = "Look at the failed items; then resume the job (with the rest), or cancel it."


class ResultNotReadyError(ConflictError):
    """The item has no result (yet)."""

    code = "result-not-ready"
    remedy = "Wait until its status is `succeeded`; a failed item says why in its `error`."


class NoForegroundError(RequestError):
    """No foreground was found in the photo."""

    code = "no-foreground"
    http_status = 422
    remedy = "Use a photo whose subject stands out from its background."


class TooManyListenersError(RequestError):
    """Too many event streams are open."""

    code = "too-many-listeners"
    http_status = 503
    remedy = "Try again later, or ask for the job now and then."


class InvalidCursorError(RequestError):
    """The cursor was not made by this endpoint."""

    code = "invalid-cursor"
    remedy = "Pass `next_cursor` of the page before unchanged, or leave it out to begin."
