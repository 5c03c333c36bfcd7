"""A timer that counts only time in which the process runs: not a stop by SIGSTOP, a frozen
container or a suspended machine.
"""

import threading

TICK_S = 1.0


class RunningTimer(threading.Timer):
    """As threading.Timer. A stop of the process counts as one tick at most, however long it is."""

    def run(self) -> None:
        """Wait in ticks, then call the function."""
        left_s = self.interval
        while left_s > 0:
            tick_s = min(TICK_S, left_s)
            if self.finished.wait(tick_s):
                return
            left_s -= tick_s
        self.function(*self.args, **self.kwargs)
