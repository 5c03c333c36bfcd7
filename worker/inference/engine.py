"""Settings → Paddle Inference Config: a plan of named calls, which one small function carries out.

The plan is a value, so that what a GPU or an NPU would be told can be read and tested where there
is none. The order of the calls is Paddle's own: device, then graph optimisation, then accelerators.
"""

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shared.errors import EngineUnavailableError, ModelLoadError
from shared.settings import Precision, Settings
from worker.inference.catalog import Model
from worker.inference.tensorrt import SHAPE_RANGES, Warm, engine_folder

TENSORRT_WORKSPACE_BYTES = 1 << 30
"""Scratch memory that TensorRT may try kernels with; Paddle's own default."""

TENSORRT_MIN_SUBGRAPH = 5
"""Smaller islands cost more in copies between the engines than they gain."""

BF16_OPERATORS = frozenset({"conv2d", "fused_conv2d"})
"""What runs in bf16: the convolutions alone. With every operator allowed, Paddle 3.2.2 fails on
elementwise_add and pool2d."""

MOST_STREAMS = 4
"""Networks side by side on a CPU, unless set: two of one thread each do 48 images/s where one of
two threads does 40, since nobody waits for the slower half of a loop. Each holds its own
activations."""

THREAD_SPIN_MS = 1
"""How long OpenMP's threads wait busily for the next loop after a forward pass. Its default of
200 ms takes a core from the codecs: 49.5 CPU-ms an image against 46 with two threads a stream."""

COMPILED_KERNELS = 8_192
"""oneDNN's own cache of compiled kernels: above a hundred layers times all shapes (its default of
1,024 is not)."""

Kind = Literal["plain", "onednn", "onednn-bf16", "cuda", "tensorrt", "xpu", "npu"]


@dataclass(frozen=True)
class ConfigCall:
    """One method of paddle.inference.Config, with its arguments."""

    method: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class EnginePlan:
    """How a predictor is to be configured."""

    kind: Kind
    calls: tuple[ConfigCall, ...]
    device: str = "cpu"
    precision: Precision = "fp32"
    """In which its network computes, whatever was asked for."""


def plans(settings: Settings, model: Model, *, shapes: int, warm: Warm = ()) -> list[EnginePlan]:
    """What to try on the settings' device, the fastest first, the plainest last. `shapes`: how many
    input shapes (batch sizes counted) will be met; `warm`: which, for TensorRT.

    Raises EngineUnavailableError for a precision that the device does not have.
    """
    device, _, index = settings.device.partition(":")
    if device == "cpu":
        return _cpu_plans(settings, model, shapes)
    number = int(index)
    base = _common(settings, model)
    if device == "gpu":
        select = ConfigCall("enable_use_gpu", (settings.gpu_memory_pool_mb, number))
        plain = EnginePlan("cuda", (select, *base), settings.device)
        if not settings.tensorrt:
            if settings.precision not in ("auto", "fp32"):
                raise EngineUnavailableError(
                    f"MATTING_PRECISION={settings.precision} on a GPU needs MATTING_TENSORRT=true"
                )
            return [plain]
        folder = engine_folder(settings, model, warm)
        return [tensorrt_plan(settings, model, folder), plain]
    if settings.precision not in ("auto", "fp32"):
        raise EngineUnavailableError(f"{device} runs fp32 only")
    if device == "xpu":
        chosen = (ConfigCall("enable_xpu"), ConfigCall("set_xpu_device_id", (number,)))
        return [EnginePlan("xpu", (*chosen, *base), settings.device)]
    select = ConfigCall("enable_custom_device", ("npu", number))
    return [EnginePlan("npu", (select, *base), settings.device)]


def reference(settings: Settings, model: Model) -> EnginePlan:
    """The plain CPU's plan, which all others are checked against."""
    on_cpu = {"device": "cpu", "precision": "auto", "tensorrt": False}
    return _cpu_plans(settings.model_copy(update=on_cpu), model, shapes=1)[-1]


def talkative(plan: EnginePlan) -> EnginePlan:
    """The same, with Paddle's log: it alone says what TensorRT took."""
    calls = tuple(call for call in plan.calls if call.method != "disable_glog_info")
    return replace(plan, calls=calls)


def create(plan: EnginePlan, model: Model) -> Any:
    """The paddle.inference predictor of a plan.

    Raises EngineUnavailableError when the installed Paddle lacks what the plan calls, and
    ModelLoadError when it can't read the model.
    """
    paddle = _import_paddle()
    inference = paddle.inference
    require_device(plan)
    config = inference.Config(str(model.graph), str(model.params))
    for call in plan.calls:
        try:
            method = getattr(config, call.method)
        except AttributeError as error:
            raise EngineUnavailableError(
                f"The installed Paddle has no {call.method}: it is too old or not built for this"
            ) from error
        method(*(_resolved(inference, argument) for argument in call.arguments))
    try:
        return inference.create_predictor(config)
    except Exception as error:  # Paddle raises whatever its C++ side threw
        detail = str(error).strip().splitlines()
        last = detail[-1].strip() if detail else repr(error)
        raise ModelLoadError(
            f"Paddle can't read {model.graph} with {model.params.name}: damaged, or of another "
            f"release ({last})"
        ) from error


def _cpu_plans(settings: Settings, model: Model, shapes: int) -> list[EnginePlan]:
    each = max(1, settings.cpu_threads // streams(settings))
    threads = ConfigCall("set_cpu_math_library_num_threads", (each,))
    base = (ConfigCall("disable_gpu"), *_common(settings, model), threads)
    # Paddle enables oneDNN by default in recent versions: the plain plan says no to it.
    plain = EnginePlan("plain", (*base, ConfigCall("disable_mkldnn")))
    onednn = (
        *base,
        ConfigCall("enable_mkldnn"),
        ConfigCall("set_mkldnn_cache_capacity", (shapes,)),
    )
    if settings.precision in ("auto", "fp32"):
        return [EnginePlan("onednn", onednn), plain]
    if settings.precision == "bf16":
        narrow = (
            ConfigCall("enable_mkldnn_bfloat16"),
            ConfigCall("set_bfloat16_op", (BF16_OPERATORS,)),
        )
        bf16 = EnginePlan("onednn-bf16", (*onednn, *narrow), precision="bf16")
        return [bf16, EnginePlan("onednn", onednn), plain]
    raise EngineUnavailableError(f"MATTING_PRECISION={settings.precision} is not for a CPU")


def _common(settings: Settings, model: Model) -> tuple[ConfigCall, ...]:
    calls = [ConfigCall("disable_glog_info"), ConfigCall("switch_ir_optim", (True,))]
    if model.graph.suffix != ".json":  # with the newer format Paddle 3.2 can't start with it
        calls.append(ConfigCall("enable_memory_optim"))
    if settings.profile_engine:
        calls.append(ConfigCall("enable_profile"))
    return tuple(calls)


def streams(settings: Settings) -> int:
    """How many networks run side by side: what is set or tuned, else one for every core of a CPU up
    to `MOST_STREAMS`, and one on a device.
    """
    if settings.predict_streams:
        return settings.predict_streams
    return min(MOST_STREAMS, settings.cpu_threads) if settings.device == "cpu" else 1


def collecting(settings: Settings, model: Model, file: Path) -> EnginePlan:
    """The plan that notes the ranges of all shapes for TensorRT. To be run over every input that
    will be met, once. The file's folder must be there, or Paddle aborts.
    """
    number = int(settings.device.partition(":")[2] or 0)
    select = ConfigCall("enable_use_gpu", (settings.gpu_memory_pool_mb, number))
    note = ConfigCall("collect_shape_range_info", (str(file),))
    return EnginePlan("cuda", (select, *_common(settings, model), note), settings.device)


def tensorrt_plan(settings: Settings, model: Model, folder: Path) -> EnginePlan:
    """TensorRT with shapes that were collected, and engines that are kept, in this folder.

    Raises EngineUnavailableError for a precision that it does not have.
    """
    precisions = {"auto": "Float32", "fp32": "Float32", "fp16": "Half", "int8": "Int8"}
    if settings.precision not in precisions:
        raise EngineUnavailableError(f"TensorRT has no {settings.precision}")
    number = int(settings.device.partition(":")[2] or 0)
    calls = (
        ConfigCall("enable_use_gpu", (settings.gpu_memory_pool_mb, number)),
        *_common(settings, model),
        ConfigCall("set_optim_cache_dir", (str(folder),)),
        ConfigCall(
            "enable_tensorrt_engine",
            (
                TENSORRT_WORKSPACE_BYTES,
                settings.predict_batch_size or 16,
                TENSORRT_MIN_SUBGRAPH,
                PaddlePrecision(precisions[settings.precision]),
                True,  # use_static: keep the built engine, building takes minutes
                settings.precision == "int8",  # use_calib_mode
            ),
        ),
        # Other shapes than those collected are another session's (worker.inference.session): to
        # build engines anew for them would take minutes, and write where other workers read.
        ConfigCall("enable_tuned_tensorrt_dynamic_shape", (str(folder / SHAPE_RANGES), False)),
    )
    precision: Precision = "fp32" if settings.precision == "auto" else settings.precision
    return EnginePlan("tensorrt", calls, settings.device, precision)


@dataclass(frozen=True)
class PaddlePrecision:
    """A member of paddle.inference.PrecisionType, named so that a plan needs no Paddle."""

    name: str


def _resolved(inference: Any, argument: Any) -> Any:
    if isinstance(argument, PaddlePrecision):
        return getattr(inference.PrecisionType, argument.name)
    return argument


def _import_paddle() -> Any:
    """Paddle, whose threads are told before it is loaded. Raises EngineUnavailableError."""
    os.environ.setdefault("KMP_BLOCKTIME", str(THREAD_SPIN_MS))
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(COMPILED_KERNELS))
    with warnings.catch_warnings():
        # Paddle speaks of a compiler cache that nobody here needs.
        warnings.filterwarnings("ignore", "No ccache found")
        try:
            import paddle
            import paddle.inference
        except ImportError as error:
            raise EngineUnavailableError(f"Paddle can't be imported: {error}") from error
    return paddle


def require_device(plan: EnginePlan) -> None:
    """Say which package is missing, instead of failing somewhere in C++. Raises
    EngineUnavailableError.
    """
    if plan.kind in ("plain", "onednn", "onednn-bf16"):
        return
    paddle = _import_paddle()
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
