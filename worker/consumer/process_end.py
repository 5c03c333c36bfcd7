"""Ends the worker's process at once, after what it works on is given back or recorded."""

import faulthandler
import os
import sys
import threading
from typing import Protocol

from shared.errors import ImageTimeoutError, MattingError, OutOfMemoryError
from shared.telemetry import get_logger

log = get_logger(__name__)

GIVE_BACK_S = 10.0
"""Patience with the database when an operator wants the process to end at once."""


class InFlight(Protocol):
    """The interface of worker.consumer.batch_runner.BatchRunner."""

    def fail_in_flight(self, item_id: str, error: MattingError) -> None:
        """Record an image as failed. Raises DatabaseError."""

    def give_back_all(self) -> None:
        """Return all images to the queue. Raises DatabaseError."""


def end_stuck(runner: InFlight, item_id: str | None, stage: str, limit_s: float) -> None:
    """End the process because native code or the loop hangs; the supervisor restarts it. If one
    image hangs, it is recorded as failed first, and the others are given back: they died of nothing
    of their own. If no single image is known, the leases of all expire, so each counts a death.
    """
    error = ImageTimeoutError(f"The stage {stage} took more than {limit_s:g} s")
    event = "worker-stuck" if item_id is None else "image-stuck"
    log.critical(event, item=item_id, stage=stage, limit_s=limit_s)
    faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
    try:
        if item_id is not None:
            runner.fail_in_flight(item_id, error)
            runner.give_back_all()
    except Exception:  # the database is away, or a bug: the process must end in any case
        # What is not recorded: its lease expires, and it is processed again as a suspect.
        log.exception("poisonous-image-not-recorded", item=item_id)
    finally:
        os._exit(os.EX_SOFTWARE)


def end_without_device(runner: InFlight, error: MattingError) -> None:
    """End the process because its device fails for every image: most such errors last as long as
    the process. The supervisor starts another one, which takes work only if its device passes the
    test card.
    """
    if isinstance(error, OutOfMemoryError):  # another process may have taken it, and gives it back
        return
    log.critical("device-lost", code=error.code, detail=error.detail)
    try:
        runner.give_back_all()
    except Exception:  # the leases of the images expire
        log.exception("images-not-given-back")
    finally:
        os._exit(os.EX_SOFTWARE)


def end_at_once(runner: InFlight) -> None:
    """End the process because an operator does not wait for its batches. Threads can't be
    cancelled. If the main thread only ended, theirs would fail one image after the other, because
    an interpreter that ends starts no more work.
    """

    def give_back() -> None:
        try:
            runner.give_back_all()
        except Exception:  # the leases of the images expire
            log.exception("images-not-given-back")

    log.warning("worker-ends-at-once")
    # The main thread, in which the signal arrives, may hold any lock at this moment.
    giving = threading.Thread(target=give_back, name="give-back", daemon=True)
    giving.start()
    giving.join(GIVE_BACK_S)
    os._exit(os.EX_SOFTWARE)
