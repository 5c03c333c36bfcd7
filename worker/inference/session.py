"""Loaded networks: one session, and a pool of sessions that each run in a thread of their own.

Paddle's oneDNN caches its compiled primitives per thread. A network that moves to another thread
compiles again for every shape (0.4 to 4 s for a large one) and uses 20 MB more per shape. So each
network stays in one thread. Clones are no alternative: in Paddle 3.2.2 the second clone fails under
oneDNN, because its filters have the first one's layout.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import OutOfMemoryError, PredictorError, SetupError
from shared.telemetry import DEVICE_BUSY_SECONDS
from worker.concurrency.thread_pool import SmallestBatchFirstPool
from worker.imaging.arrays import Size
from worker.inference.catalog import Model
from worker.inference.engine import EnginePlan
from worker.inference.opening import create
from worker.inference.postprocess import POSTPROCESS, Alphas

_loading = threading.Lock()
"""Loading two networks at once corrupts a table shared by Paddle's passes, and hangs."""

Batch = NDArray[Any]
"""RGB: [N, 3, H, W] float32, normalised; [N, H, W, 3] uint8 for a plan that takes pixels; [N, 3, H,
W] uint8 for a session that runs on a server.
"""


def blank(plan: EnginePlan, count: int, size: Size) -> Batch:
    """A batch of zeros for a plan."""
    if plan.takes_pixels:
        return np.zeros((count, *size, 3), np.uint8)
    return np.zeros((count, 3, *size), np.float32)


def size_of(batch: Batch) -> tuple[int, int, int]:
    """Count, height and width of a batch for a device of this machine."""
    count, *rest = batch.shape
    height, width = rest[:2] if batch.dtype == np.uint8 else rest[1:]
    return count, height, width


class PredictorSession:
    """A loaded network. Not thread-safe."""

    def __init__(self, plan: EnginePlan, model: Model) -> None:
        """Raises EngineUnavailableError, ModelLoadError."""
        with _loading:
            self._predictor = create(plan, model)
        steps = () if plan.takes_pixels else model.postprocess  # that program has them inside
        self._postprocess = [POSTPROCESS[name] for name in steps]
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        names = self._predictor.get_output_names()[: 2 if plan.takes_pixels else 1]
        self._outputs = [self._predictor.get_output_handle(name) for name in names]

    def run(self, batch: Batch) -> Alphas:
        """Run one forward pass; returns alphas in 0..1. Raises PredictorError, OutOfMemoryError."""
        answer = self.forward(batch)
        alphas: Alphas = answer.astype(np.float32, copy=False)
        if answer.dtype == np.uint8:
            alphas /= np.float32(255)
            return alphas
        for step in self._postprocess:
            alphas = step(alphas)
        return np.clip(alphas, 0, 1)

    def forward(self, batch: Batch) -> NDArray[Any]:
        """Run one forward pass; returns the network's raw answer, or the uint8 alphas of a plan
        that takes pixels. Raises PredictorError, OutOfMemoryError.
        """
        try:
            self._input.reshape(batch.shape)
            self._input.copy_from_cpu(batch)
            started = time.perf_counter()
            self._predictor.run()
            DEVICE_BUSY_SECONDS.inc(time.perf_counter() - started)
            output, *finite = [one.copy_to_cpu() for one in self._outputs]
        except Exception as error:  # Paddle raises whatever its C++ code threw
            last = (str(error).strip().splitlines() or [repr(error)])[-1]
            if "out of memory" in str(error).lower() or "ResourceExhausted" in str(error):
                raise OutOfMemoryError(f"The device has too little memory: {last}") from error
            raise PredictorError(f"The device failed: {last}") from error
        alphas: NDArray[Any] = output.reshape(output.shape[0], *output.shape[-2:])
        if not np.all(finite[0] if finite else np.isfinite(alphas)):
            raise PredictorError("The network returned values that are not numbers")
        return alphas


class Runs(Protocol):
    """A network that one thread at a time can run."""

    def run(self, batch: Batch) -> Alphas:
        """Run one forward pass. Raises PredictorError, OutOfMemoryError."""


class RangedSession:
    """A session built for a range of shapes. It opens a second session for other shapes when
    needed. Not thread-safe.
    """

    def __init__(
        self, built: Runs, inputs: Sequence[tuple[int, Size]], open_other: Callable[[], Runs]
    ) -> None:
        """`inputs`: the batch sizes and shapes that the session was built for; it accepts all
        between them.
        """
        self._built = built
        sizes = [(count, *shape) for count, shape in inputs]
        self._least = [min(column) for column in zip(*sizes, strict=True)]
        self._most = [max(column) for column in zip(*sizes, strict=True)]
        self._open_other = open_other
        self._other: Runs | None = None

    def run(self, batch: Batch) -> Alphas:
        """Run one forward pass. Raises PredictorError, OutOfMemoryError."""
        size = size_of(batch)
        within = zip(self._least, size, self._most, strict=True)
        if all(least <= one <= most for least, one, most in within):
            return self._built.run(batch)
        if self._other is None:
            try:
                self._other = self._open_other()
            except SetupError as error:
                raise PredictorError(f"No network for other shapes: {error.detail}") from error
        return self._other.run(batch)


class SessionPool:
    """A fixed number of sessions. Submitted batches go to whichever session is free."""

    def __init__(self, open_session: Callable[[], Runs], count: int) -> None:
        """`open_session` is called in each thread. Raises what it raises; no thread is left."""
        self._threads = SmallestBatchFirstPool(count, "stream")
        self._count = count
        self._own = threading.local()

        def opened() -> None:
            self._own.session = open_session()

        try:
            self._in_each(opened)
        except BaseException:
            self.close()
            raise

    def warm_up(self, run: Callable[[Runs], None]) -> None:
        """Call `run` with each session, in all threads at the same time. Raises what it raises."""
        self._in_each(lambda: run(self._own.session))

    def _in_each(self, call: Callable[[], None]) -> None:
        all_started = threading.Barrier(self._count)

        def called() -> None:
            all_started.wait()  # otherwise one thread could take two
            call()

        for running in [self._threads.submit(0, called) for _ in range(self._count)]:
            running.result()

    def submit(self, batch: Batch, *, of: int = 1) -> "Future[Alphas]":
        """Run a batch; the future raises PredictorError or OutOfMemoryError. `of`: number of images
        that the submitter waits for; smaller ones run first.
        """
        return self._threads.submit(of, lambda: self._own.session.run(batch))

    def close(self) -> None:
        """Run everything submitted, then end the threads and their networks."""
        self._threads.shutdown()
