"""The connection to a Triton server: its checks, its requests, and what its errors mean."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from shared.errors import (
    MattingError,
    OutOfMemoryError,
    PredictionServerError,
    PredictorError,
    SetupError,
    TritonClientMissingError,
    TritonModelError,
    TritonUnavailableError,
)
from shared.settings import Settings
from shared.telemetry import TRITON_WAIT_SECONDS, get_logger
from worker.inference.catalog import Model
from worker.inference.triton_wire import MODEL, model_number, served_name, tensors

log = get_logger(__name__)

T = TypeVar("T")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
"""Waits between repeated requests; they double."""

LOOK_S = 5.0
"""Time limit for questions that need no forward pass."""

LEAST_TRY_S = 1.0
"""How long a request may take at least, however late it is."""

RECONNECT_MS = (100, 2_000)
"""gRPC's first and longest wait before it connects again. Its default of up to two minutes would
outlast every outage.
"""

UNLIMITED = 2**31 - 1

AWAY = frozenset({"UNAVAILABLE", "NOT_FOUND", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"})
"""gRPC statuses of a server that is gone, full or slow, or whose model is being reloaded."""

OURS = re.compile(r"\[(?P<code>[a-z]+(?:-[a-z]+)*)\] (?P<detail>.*)", re.DOTALL)
"""How model.py writes the errors of its predictor."""

_CODES: dict[str, type[PredictorError]] = {
    one.code: one for one in (PredictorError, OutOfMemoryError)
}


class TritonServer:
    """A model on a Triton server. Thread-safe."""

    def __init__(self, settings: Settings, model: Model) -> None:
        """Connects with the first request. Raises TritonClientMissingError, SetupError."""
        try:
            self.grpc = import_module("tritonclient.grpc")
        except ImportError as error:
            raise TritonClientMissingError(f"MATTING_DEVICE=triton: {error}") from error
        self._model = model
        self.name = served_name(settings.model)
        self.timeout_s = settings.effective_triton_timeout_s
        assert settings.triton_url is not None, "Settings checks it"
        scheme, _, self.address = settings.triton_url.partition("://")
        self.url = settings.triton_url
        token = settings.triton_token
        self.headers = token and {"authorization": f"Bearer {token.get_secret_value()}"}
        ca_file = settings.triton_ca_file
        if ca_file is not None and not ca_file.is_file():
            raise SetupError(f"MATTING_TRITON_CA_FILE={ca_file} is not a file")
        self.client = self.grpc.InferenceServerClient(
            self.address,
            ssl=scheme == "grpcs",
            root_certificates=ca_file and str(ca_file),
            channel_args=[
                ("grpc.max_send_message_length", UNLIMITED),
                ("grpc.max_receive_message_length", UNLIMITED),
                ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS[0]),
                ("grpc.min_reconnect_backoff_ms", RECONNECT_MS[0]),
                ("grpc.max_reconnect_backoff_ms", RECONNECT_MS[1]),
                # Several servers behind one name share the requests, and stand in for each other.
                ("grpc.lb_policy_name", "round_robin"),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._number = model_number(model)
        self.holds_other_model = False
        """Whether the last answer was of another model."""
        self._away_since: float | None = None
        self._longest_s: float | None = None
        """The longest that an answer took."""

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def wait_until_ready(self) -> int:
        """Wait until the server serves the model; returns the most images of a request.

        Raises TritonUnavailableError after the time limit, TritonModelError.
        """
        try:
            return self.repeat(lambda _limit_s: self._check())
        except PredictionServerError as error:
            raise TritonUnavailableError(error.detail) from error

    def repeat(self, once: Callable[[float], T]) -> T:
        """Call `once`, and again while the server is away, full or reloading its model. Its
        argument is the time limit of that try in seconds.

        Raises what `once` raises, but PredictionServerError only after the time limit. If other
        requests found the server away before, the time counts from then: not every batch waits
        anew.
        """
        began, wait_s = time.monotonic(), FIRST_WAIT_S
        while True:
            since = began if self._away_since is None else min(began, self._away_since)
            try:
                return once(self._limit_s(began, since))
            except PredictionServerError as error:
                self._away_since = self._away_since or time.monotonic()
                if since + self.timeout_s < time.monotonic() + wait_s:
                    raise
                log.debug("triton-retry", detail=error.detail, wait_s=wait_s)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _limit_s(self, began: float, since: float) -> float:
        """Time limit of a try of a call that began at `began`; the server is away from `since` on.

        After a long outage the time since then is up, but the server may be back: a try gets twice
        the longest time of an answer, or all the call's own time if no answer is known.
        """
        now = time.monotonic()
        own_s = began + self.timeout_s - now
        usual_s = own_s if self._longest_s is None else min(own_s, 2 * self._longest_s)
        return max(LEAST_TRY_S, since + self.timeout_s - now, usual_s)

    def infer(self, inputs: list[Any], outputs: list[Any], limit_s: float) -> Any:
        """Send one request; returns the client's InferResult.

        Raises PredictorError or OutOfMemoryError for what the network's engine reports, and
        PredictionServerError if the server does not answer with the right model.
        """
        started = time.perf_counter()
        with self.errors():
            result = self.client.infer(
                self.name,
                inputs,
                outputs=outputs,
                client_timeout=limit_s,
                headers=self.headers,
            )
        took_s = time.perf_counter() - started
        TRITON_WAIT_SECONDS.inc(took_s)
        self._longest_s = max(self._longest_s or 0.0, took_s)
        self._away_since = None
        number = result.as_numpy(MODEL)
        self.holds_other_model = False
        if number is None or number.size == 0 or (number != self._number).any():
            self.holds_other_model = True
            held = "none" if number is None or number.size == 0 else f"{int(number.flat[0]):016x}"
            raise PredictionServerError(
                f"{self.name} on {self.url} is another model ({held}) than this worker's "
                f"({self._number:016x})"
            )
        return result

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Convert the client's exception to the error that it means for an image."""
        try:
            yield
        except self.grpc.InferenceServerException as error:
            raise self.meaning(error) from error

    def _check(self) -> int:
        """Compare what the server says about the model. Returns the most images of a request.

        Raises PredictionServerError, TritonModelError.
        """
        limit = {"client_timeout": min(self.timeout_s, LOOK_S), "headers": self.headers}
        with self.errors():
            if not self.client.is_model_ready(self.name, **limit):
                raise PredictionServerError(
                    f"{self.url} serves no model {self.name}, or is still loading it"
                )
            said = self.client.get_model_metadata(self.name, **limit)
            config = self.client.get_model_config(self.name, **limit).config
        declared = [
            (one.name, one.datatype, list(one.shape)) for one in [*said.inputs, *said.outputs]
        ]
        if declared != (expected := tensors(self._model)):
            raise TritonModelError(
                f"{self.name} on {self.url} has {_words(declared)}; expected {_words(expected)}"
            )
        return int(config.max_batch_size)

    def is_away(self, error: Any) -> bool:
        """Whether this exception of the client says that the server does not answer."""
        return _status(error) in AWAY

    def meaning(self, error: Any) -> MattingError:
        """What an error of the client means for the image."""
        status = _status(error)
        text = str(error.message() or "")
        if status in AWAY or "shared memory region" in text:
            return PredictionServerError(f"{self.url} did not answer: {status}, {text}")
        if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return PredictionServerError(
                f"{self.url} refuses the token (MATTING_TRITON_TOKEN): {text}"
            )
        if status == "INVALID_ARGUMENT" and "batch-size must be" in text:  # its limit fell
            return OutOfMemoryError(f"{self.url} takes smaller requests now: {text}")
        if status == "INVALID_ARGUMENT":
            return PredictionServerError(f"{self.url} refuses the request: {text}")
        ours = OURS.search(text)
        if ours and ours["code"] in _CODES:
            return _CODES[ours["code"]](ours["detail"])
        if status == "RESOURCE_EXHAUSTED" or "out of memory" in text.lower():
            return OutOfMemoryError(f"Triton has too little memory: {text}")
        if "stub process" in text.lower():  # Triton restarts the Python process of the model
            return PredictionServerError(f"The model's process on {self.url} ended: {text}")
        return PredictorError(f"Triton failed: {status}, {text}")


def _status(error: Any) -> str:
    return str(error.status() or "").rpartition(".")[2]


def _words(tensors: list[tuple[str, str, list[int]]]) -> str:
    return ", ".join(f"{name} {kind} {shape}" for name, kind, shape in tensors) or "no tensors"
