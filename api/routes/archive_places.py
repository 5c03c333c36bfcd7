"""How many archives are made at a time. A place is taken before anything is read, and let go when
the answer has ended, however it ends.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Callable

from shared.errors import BusyError, TooManyCallsError

MAX_ARCHIVES = 8
"""Most archives that a process makes at a time; one key may have half of them."""

_lock = threading.Lock()
_taken: Counter[uuid.UUID] = Counter()
"""Places by API key."""


def take_place(api_key_id: uuid.UUID) -> Callable[[], None]:
    """Take a place for an archive; returns what lets it go. Raises BusyError, TooManyCallsError."""
    with _lock:
        if _taken.total() >= MAX_ARCHIVES:
            raise BusyError("The service is sending as many archives as it can")
        if _taken[api_key_id] >= MAX_ARCHIVES // 2:
            raise TooManyCallsError("The key has too many archives in progress")
        _taken[api_key_id] += 1
    held = True

    def let_go() -> None:
        nonlocal held
        with _lock:
            if held:
                held = False
                _taken.subtract([api_key_id])
                if not _taken[api_key_id]:
                    del _taken[api_key_id]

    return let_go
