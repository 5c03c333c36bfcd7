"""Opens the network of an engine plan with the installed Paddle."""

from contextlib import nullcontext
from typing import Any

from shared.errors import EngineUnavailableError, ModelLoadError
from worker.inference.catalog import Model
from worker.inference.engine import EnginePlan, OperatorSet, PaddlePrecision
from worker.inference.paddle_noise import without_noise
from worker.inference.paddle_runtime import import_paddle, paddle_inference


def create(plan: EnginePlan, model: Model) -> Any:
    """Create the paddle.inference predictor of a plan.

    Raises EngineUnavailableError if the installed Paddle lacks a call of the plan or can't run the
    program for pixels, and ModelLoadError if it cannot read the model.
    """
    require_device(plan)
    with without_noise() if plan.precision == "bf16" else nullcontext():
        return _create(plan, model)


def _create(plan: EnginePlan, model: Model) -> Any:
    inference = paddle_inference(on_cpu=plan.device == "cpu")
    graph = plan.graph or model.graph
    config = inference.Config(str(graph), str(model.params))
    for call in plan.calls:
        try:
            owner, _, name = call.method.rpartition(".")
            method = getattr(getattr(config, owner)() if owner else config, name)
        except AttributeError as error:
            raise EngineUnavailableError(
                f"The installed Paddle has no {call.method}: it is too old or was built without it"
            ) from error
        method(*(_resolved(inference, argument) for argument in call.arguments))
    try:
        return inference.create_predictor(config)
    except Exception as error:  # Paddle raises whatever its C++ code threw
        detail = str(error).strip().splitlines()
        last = detail[-1].strip() if detail else repr(error)
        if plan.takes_pixels:
            raise EngineUnavailableError(
                f"Paddle can't open the program for pixels: {last}"
            ) from error
        raise ModelLoadError(
            f"Paddle can't read {graph} with {model.params.name}: damaged, or of another "
            f"release ({last})"
        ) from error


def _resolved(inference: Any, argument: Any) -> Any:
    if isinstance(argument, PaddlePrecision):
        return getattr(inference.PrecisionType, argument.name)
    if isinstance(argument, OperatorSet):
        return set(argument.names)
    return argument


def require_device(plan: EnginePlan) -> None:
    """Check that the installed package supports the device, instead of failing in C++ later. Raises
    EngineUnavailableError.
    """
    if plan.device == "cpu":
        return
    paddle = import_paddle()
    need = {
        "cuda": (paddle.is_compiled_with_cuda, "paddlepaddle-gpu (the image of deploy/docker)"),
        "tensorrt": (paddle.is_compiled_with_cuda, "paddlepaddle-gpu with TensorRT"),
        "xpu": (paddle.is_compiled_with_xpu, "paddlepaddle-xpu (Kunlun)"),
        "npu": (
            lambda: paddle.is_compiled_with_custom_device("npu"),
            "the CANN plug-in paddle-custom-npu (Ascend)",
        ),
    }
    if not need[plan.kind][0]():
        raise EngineUnavailableError(
            f"The installed Paddle can't use this device: it needs {need[plan.kind][1]}"
        )
    if plan.kind == "tensorrt" and not any(paddle.inference.get_trt_compile_version()):
        raise EngineUnavailableError("The installed Paddle was built without TensorRT")
