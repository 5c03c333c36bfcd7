"""A session whose network runs on a Triton server: one request at a time, over gRPC or through
shared memory.
"""

import ipaddress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import PredictorError
from worker.inference.postprocess import Alphas
from worker.inference.triton_memory import MemoryRefused, SharedMemory
from worker.inference.triton_server import TritonServer
from worker.inference.triton_wire import ALPHAS, MODEL, PIXELS, PIXELS_TYPE


class TritonSession:
    """Requests to one Triton server. Not thread-safe."""

    def __init__(self, server: TritonServer, *, shared: bool) -> None:
        """`shared`: use shared memory if the server is on this host."""
        self._server = server
        self._memory = SharedMemory(server) if shared and is_here(server.address) else None

    def run(self, batch: NDArray[np.uint8]) -> Alphas:
        """Run one forward pass over pixels [N, 3, H, W]; returns alphas [N, H, W] in 0..1.

        Raises PredictorError, OutOfMemoryError, PredictionServerError.
        """
        return self._server.repeat(lambda limit_s: self.once(batch, limit_s))

    def once(self, batch: NDArray[np.uint8], limit_s: float) -> Alphas:
        """The same with one request that may take this time."""
        shape = batch.shape[0], *batch.shape[2:]
        return checked(self._answer(batch, limit_s), shape)

    def close(self) -> None:
        """Give the shared memory back."""
        if self._memory is not None:
            self._memory.close()

    def _answer(self, batch: NDArray[np.uint8], limit_s: float) -> NDArray[Any] | None:
        if self._memory is not None:
            try:
                return self._memory.infer(batch, limit_s)
            except MemoryRefused:
                self._memory = None
        grpc = self._server.grpc
        pixels = grpc.InferInput(PIXELS, list(batch.shape), PIXELS_TYPE)
        pixels.set_data_from_numpy(batch)
        outputs = [grpc.InferRequestedOutput(name) for name in (ALPHAS, MODEL)]
        result = self._server.infer([pixels], outputs, limit_s)
        answer: NDArray[Any] | None = result.as_numpy(ALPHAS)
        return answer


def checked(answer: NDArray[Any] | None, shape: tuple[int, ...]) -> Alphas:
    """An answer as alphas [N, H, W] in 0..1. Raises PredictorError if it has another shape or
    type, or values that are not numbers.
    """
    if answer is None or answer.shape != shape or answer.dtype != np.float16:
        got = "nothing" if answer is None else f"{answer.dtype} {list(answer.shape)}"
        raise PredictorError(f"Triton answered with {got} instead of float16 {list(shape)}")
    alphas = answer.astype(np.float32)
    if not np.isfinite(alphas).all():
        raise PredictorError("The network returned values that are not numbers")
    return np.clip(alphas, 0, 1, out=alphas)


def is_here(address: str) -> bool:
    """Whether HOST:PORT is this host: localhost, or a loopback address."""
    host = address.rpartition(":")[0].strip("[]") or address
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
