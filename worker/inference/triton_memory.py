"""Shared memory of a worker and a Triton server on one host: pixels and alphas are not sent."""

import contextlib
import mmap
import os
import re
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import PredictionServerError
from shared.telemetry import get_logger
from worker.inference.triton_server import LOOK_S, TritonServer
from worker.inference.triton_wire import ALPHAS, ALPHAS_TYPE, MODEL, PIXELS, PIXELS_TYPE

log = get_logger(__name__)

FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
OURS = re.compile(r"matting-(\d+)-[0-9a-f]+")
"""Names of regions: the worker's process id and a random number."""


class MemoryRefused(Exception):
    """The server cannot open this host's shared memory, or there is too little of it."""


class SharedMemory:
    """A region that this process and the server have both mapped: pixels first, then alphas. Not
    thread-safe.

    Its name is removed as soon as the server has opened it, so a killed worker leaves no file
    behind. The server's mapping stays until the next worker unregisters it.
    """

    def __init__(self, server: TritonServer) -> None:
        self._server = server
        self._map: mmap.mmap | None = None
        self._name = ""

    def infer(self, batch: NDArray[np.uint8], limit_s: float) -> NDArray[Any] | None:
        """Send one request over pixels [N, 3, H, W]. Returns the alphas [N, H, W] as the server
        wrote them, valid until the next request; None if it wrote others than were asked for.

        Raises MemoryRefused, and what TritonServer.infer raises.
        """
        shape = batch.shape[0], *batch.shape[2:]
        answer_bytes = int(np.prod(shape)) * np.dtype(np.float16).itemsize
        shared = self._mapped(batch.nbytes + answer_bytes)
        np.frombuffer(shared, np.uint8, batch.size)[:] = batch.reshape(-1)
        grpc = self._server.grpc
        pixels = grpc.InferInput(PIXELS, list(batch.shape), PIXELS_TYPE)
        pixels.set_shared_memory(self._name, batch.nbytes)
        alphas = grpc.InferRequestedOutput(ALPHAS)
        alphas.set_shared_memory(self._name, answer_bytes, offset=batch.nbytes)
        try:
            outputs = [alphas, grpc.InferRequestedOutput(MODEL)]
            said = self._server.infer([pixels], outputs, limit_s).get_output(ALPHAS)
        except PredictionServerError:
            # The server may still write a late answer into this region: the next try has another.
            self.close()
            raise
        if said is None or (*said.shape,) != shape or said.datatype != ALPHAS_TYPE:
            return None
        return np.frombuffer(shared, np.float16, int(np.prod(shape)), batch.nbytes).reshape(shape)

    def close(self) -> None:
        """Unregister the region. Its memory is free when the server has let go of it."""
        if self._map is None:
            return
        self._map = None  # arrays may still show it; the last one unmaps it
        with contextlib.suppress(self._server.grpc.InferenceServerException):
            self._server.client.unregister_system_shared_memory(
                self._name, headers=self._server.headers, client_timeout=LOOK_S
            )

    def _mapped(self, size: int) -> mmap.mmap:
        """A region of at least this many bytes that the server has mapped."""
        if self._map is not None and len(self._map) >= size:
            return self._map
        self.close()
        self._name = f"matting-{os.getpid()}-{secrets.token_hex(6)}"
        path = FOLDER / self._name
        try:
            mapped = _create(path, size)
        except OSError as error:
            log.warning("shared-memory-off", reason=f"{path}: {error}")
            raise MemoryRefused from error
        try:
            self._register(size)
        finally:
            path.unlink(missing_ok=True)
        self._map = mapped
        return mapped

    def _register(self, size: int) -> None:
        client, headers = self._server.client, self._server.headers
        try:
            known = client.get_system_shared_memory_status(headers=headers, client_timeout=LOOK_S)
            for name in known.regions:
                found = OURS.fullmatch(name)
                # In another container the id may belong to a live worker. That one's next request
                # fails, and it registers another region.
                if found and not Path("/proc", found[1]).exists():
                    client.unregister_system_shared_memory(
                        name, headers=headers, client_timeout=LOOK_S
                    )
            client.register_system_shared_memory(
                self._name, f"/{self._name}", size, headers=headers, client_timeout=LOOK_S
            )
        except self._server.grpc.InferenceServerException as error:
            if self._server.is_away(error):
                raise self._server.meaning(error) from error
            log.warning("shared-memory-off", reason=str(error))
            raise MemoryRefused from error


def _create(path: Path, size: int) -> mmap.mmap:
    """Create and map a file of this size whose memory is reserved. Raises OSError."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        # Without it, writing to a full /dev/shm (64 MB in a container) would kill the process.
        os.posix_fallocate(handle, 0, size)
        return mmap.mmap(handle, size)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(handle)
