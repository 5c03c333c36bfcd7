"""The predictor whose network runs on a Triton server: same shapes, same checks at start."""

from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import (
    PredictionServerError,
    PredictorError,
    TritonModelError,
    TritonUnavailableError,
    WarmupError,
)
from shared.settings import Precision, Settings
from shared.telemetry import get_logger
from worker.inference.catalog import Model
from worker.inference.engine import EnginePlan
from worker.inference.predictor import NATIVE_PROBE, Predictor
from worker.inference.session import Batch, Runs
from worker.inference.shapes import ShapeGrid
from worker.inference.testcard import testcard
from worker.inference.trial import disagreement, plain_alpha
from worker.inference.triton_server import TritonServer
from worker.inference.triton_session import TritonSession

log = get_logger(__name__)

REQUESTS_PER_EXECUTION = 8
"""A request holds at most this fraction of the server's largest execution. Triton never splits a
request, so large ones leave executions partly empty: with requests as large as an execution, four
workers reached 0.83 of what the device allowed.
"""


class TritonPredictor(Predictor):
    """One model on a Triton server. The server warms up its shapes itself, before it is ready."""

    def __init__(self, settings: Settings, model: Model) -> None:
        """Wait for the server and verify its model.

        Raises TritonClientMissingError, TritonUnavailableError, TritonModelError, WarmupError.
        """
        self._server = TritonServer(settings, model)
        self._sessions: list[TritonSession] = []
        try:
            super().__init__(settings, model, warm_shapes=False)
        except BaseException:
            self._disconnect()
            raise

    def close(self) -> None:
        """Let the requests in flight end, and disconnect."""
        super().close()
        self._disconnect()

    @property
    def networks(self) -> int:
        """None compute here."""
        return 0

    def describe(self) -> dict[str, Any]:
        """The description of this predictor for readiness, `doctor` and the log."""
        return {**super().describe(), "pixels": True, "server": self._server.url}

    def ping(self) -> None:
        """Check that the server answers with this model: one image of the smallest input size.
        Raises PredictorError, PredictionServerError.
        """
        height, width = min(self.grid.shapes, key=lambda shape: shape[0] * shape[1])
        session = TritonSession(self._server, shared=False)
        session.once(np.zeros((1, 3, height, width), np.uint8), self._server.timeout_s)

    def _input(self, pixels: NDArray[np.uint8]) -> Batch:
        return np.array([cv2.split(one) for one in pixels])  # in planes, as Triton has them

    def _open(self) -> Runs:
        session = TritonSession(self._server, shared=self.settings.triton_shared_memory)
        self._sessions.append(session)
        return session

    def _choose_plan(self) -> EnginePlan:
        """Triton's plan, after the server's model and its alpha of the test card were checked."""
        most = self._server.wait_until_ready()
        largest = max(1, most // REQUESTS_PER_EXECUTION)
        self.batch_sizes = [size for size in self.batch_sizes if size <= largest]
        precision: Precision = (
            "fp32" if self.settings.precision == "auto" else self.settings.precision
        )
        try:
            self.ping()
        except PredictionServerError as error:
            differs = self._server.holds_other_model
            raise (TritonModelError if differs else TritonUnavailableError)(error.detail) from error
        except PredictorError as error:
            raise WarmupError(error.detail) from error
        if find_spec("paddle") is None:
            log.warning("test-card-not-compared", reason="Paddle for the CPU is not installed")
        else:
            # the server chooses bf16 by itself for a model that allows it
            automatic = self.settings.precision == "auto" and self.model.bf16
            self._compare("bf16" if automatic else precision)
        return EnginePlan("triton", (), "triton", precision)

    def _compare(self, precision: Precision) -> None:
        """Compare the server's alpha of the test card with that of the plain CPU."""
        candidates = [self.grid.choose(NATIVE_PROBE)[0], self.exact.size_of(NATIVE_PROBE)]
        number, truth = plain_alpha(self.settings, candidates)
        shape = candidates[number]
        if number > 0:
            self._fix_shape(shape)
        card = ShapeGrid((shape,)).prepare(testcard())
        session = TritonSession(self._server, shared=False)
        try:
            alpha = session.run(self._input(card.image[None]))
        except PredictionServerError as error:
            raise TritonUnavailableError(error.detail) from error
        except PredictorError as error:
            raise WarmupError(error.detail) from error
        reason = disagreement(self.settings, precision, alpha, truth)
        if reason is not None:
            raise WarmupError(f"{self._server.url} was not used: {reason}")

    def _disconnect(self) -> None:
        for session in self._sessions:
            session.close()
        self._server.close()
