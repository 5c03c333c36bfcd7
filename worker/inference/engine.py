"""Engine plans: the settings translated to calls of Paddle Inference's Config.

A plan is plain data, so that the calls for a GPU or an NPU can be read and tested without one. The
calls follow Paddle's own order: device, graph optimisation, accelerators.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shared.errors import EngineUnavailableError
from shared.settings import Precision, Settings
from worker.inference.catalog import Model
from worker.inference.pixel_program import FROM_BYTES, TO_BYTES, pixel_graph
from worker.inference.processor import multiplies_bf16
from worker.inference.tensorrt import SHAPE_RANGES, Warm, engine_folder

TENSORRT_WORKSPACE_BYTES = 1 << 30
"""Scratch memory for TensorRT's kernel selection; Paddle's default."""

TENSORRT_MIN_SUBGRAPH = 5
"""Smaller subgraphs cost more in copies between the engines than they gain."""

BF16_CONVOLUTIONS = frozenset({"fused_conv2d"})
"""The operators that run in bf16 if a user asks for it: convolutions that are fused with a bias, an
addition or an activation. Every network can run them.
"""

BF16_OPERATORS = BF16_CONVOLUTIONS | {
    "bilinear_interp_v2",
    "concat",
    "elementwise_add",
    "fused_elementwise_add",
    "pool2d",
}
"""The operators that run in bf16 in a network that was measured in it (`Model.bf16`). A convolution
between two operators in fp32 stays in fp32 (Paddle's cpu_bfloat16_placement_pass), and U-shaped
networks have many such. With them all in bf16 IS-Net takes 1.7 s instead of 3.6 s. Other networks
may fail: PP-MattingV2 on pool2d.
"""

TRITON_STREAMS = 32
"""Requests to a Triton server in flight, unless set. Each is an eighth of an execution. One worker
alone reached 0.48 of what the device allowed with 8 requests, 0.84 with 16, and 0.93 with 32: the
answers of an execution come back one by one, and 16 left the next one with seven of its eight.
Their threads only wait.
"""

MOST_STREAMS = 4
"""Most networks in parallel on a CPU, unless set. Two with one thread each process 48 images/s
where one with two threads processes 40, because no thread waits for the other. Each needs memory
for its own activations.
"""

Kind = Literal["plain", "onednn", "onednn-bf16", "cuda", "tensorrt", "xpu", "npu", "triton"]


@dataclass(frozen=True)
class ConfigCall:
    """A call of a method of paddle.inference.Config, or of its `pass_builder`."""

    method: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class EnginePlan:
    """The configuration of a predictor."""

    kind: Kind
    calls: tuple[ConfigCall, ...]
    device: str = "cpu"
    precision: Precision = "fp32"
    """The precision in which the network computes, which may differ from the requested one."""
    optional: bool = False
    """A faster plan that nobody asked for: if it can't be used, the next one is no fallback."""
    graph: Path | None = None
    """The program to open instead of the model's own: it takes pixels and gives pixels
    (worker.inference.pixel_program).
    """

    @property
    def takes_pixels(self) -> bool:
        """Whether it takes uint8 [N, H, W, 3] instead of float32 [N, 3, H, W]."""
        return self.graph is not None


ONEDNN_RESIZE = ConfigCall("pass_builder.append_pass", ("interpolate_onednn_pass",))
"""Lets oneDNN resize too, which Paddle 3.2.2 leaves out of its own list. Its kernel knows pixel
centres only, so a model has to say that it needs no other. Without it every resize is a copy out of
oneDNN's layout and one back into it: U²-NetP takes 0.56 s of one core with
the copies and 0.47 s without, the built-in model 88 ms and 74 ms."""


def plans(settings: Settings, model: Model, *, shapes: int, warm: Warm = ()) -> list[EnginePlan]:
    """The plans to try on the settings' device, fastest first, plainest last. `shapes`: number of
    input shapes (including batch sizes); `warm`: those inputs, for TensorRT.

    Raises EngineUnavailableError for a precision that the device does not support.
    """
    device, _, index = settings.device.partition(":")
    if device == "cpu":
        return _cpu_plans(settings, model, shapes)
    number = int(index)
    base = _common(settings, model)
    if device == "gpu":
        select = ConfigCall("enable_use_gpu", (settings.gpu_memory_pool_mb, number))
        own = pixel_graph(settings, model)
        graphs = (own, None) if own else (None,)
        plain = EnginePlan("cuda", (select, *base), settings.device)
        known = [_opening(graph, plain) for graph in graphs]
        if not settings.tensorrt:
            if settings.precision not in ("auto", "fp32"):
                raise EngineUnavailableError(
                    f"MATTING_PRECISION={settings.precision} on a GPU needs MATTING_TENSORRT=true"
                )
            return known
        for graph in reversed(graphs):
            folder = engine_folder(settings, model, warm, graph)
            known.insert(0, tensorrt_plan(settings, model, folder, graph))
        return known
    if settings.precision not in ("auto", "fp32"):
        raise EngineUnavailableError(f"{device} runs fp32 only")
    if device == "xpu":
        chosen = (ConfigCall("enable_xpu"), ConfigCall("set_xpu_device_id", (number,)))
        return [EnginePlan("xpu", (*chosen, *base), settings.device)]
    select = ConfigCall("enable_custom_device", ("npu", number))
    return [EnginePlan("npu", (select, *base), settings.device)]


def reference(settings: Settings, model: Model) -> EnginePlan:
    """The plain CPU plan, with which all others are compared."""
    on_cpu = {"device": "cpu", "precision": "auto", "tensorrt": False}
    return _cpu_plans(settings.model_copy(update=on_cpu), model, shapes=1)[-1]


def talkative(plan: EnginePlan) -> EnginePlan:
    """The same plan with Paddle's log, which is the only source on what TensorRT took."""
    calls = tuple(call for call in plan.calls if call.method != "disable_glog_info")
    return replace(plan, calls=calls)


def _cpu_plans(settings: Settings, model: Model, shapes: int) -> list[EnginePlan]:
    each = max(1, settings.cpu_threads // streams(settings))
    threads = ConfigCall("set_cpu_math_library_num_threads", (each,))
    base = (ConfigCall("disable_gpu"), *_common(settings, model), threads)
    # Recent Paddle versions enable oneDNN by default, so the plain plan disables it.
    plain = EnginePlan("plain", (*base, ConfigCall("disable_mkldnn")))
    onednn = (
        *base,
        ConfigCall("enable_mkldnn"),
        ConfigCall("set_mkldnn_cache_capacity", (shapes,)),
    )
    if model.half_pixel_resize:
        onednn = (*onednn, ONEDNN_RESIZE)
    automatic = settings.precision == "auto"
    if settings.precision == "fp32" or (automatic and not (model.bf16 and multiplies_bf16())):
        return [EnginePlan("onednn", onednn), plain]
    if automatic or settings.precision == "bf16":
        operators = BF16_OPERATORS if model.bf16 else BF16_CONVOLUTIONS
        narrow = (
            ConfigCall("enable_mkldnn_bfloat16"),
            ConfigCall("set_bfloat16_op", (OperatorSet(tuple(sorted(operators))),)),
        )
        calls = (*onednn, *narrow)
        bf16 = EnginePlan("onednn-bf16", calls, precision="bf16", optional=automatic)
        return [bf16, EnginePlan("onednn", onednn), plain]
    raise EngineUnavailableError(f"MATTING_PRECISION={settings.precision} does not work on a CPU")


def _common(settings: Settings, model: Model) -> tuple[ConfigCall, ...]:
    calls = [ConfigCall("disable_glog_info"), ConfigCall("switch_ir_optim", (True,))]
    if model.graph.suffix != ".json":  # Paddle 3.2 cannot start with it in the newer format
        calls.append(ConfigCall("enable_memory_optim"))
    if settings.profile_engine:
        calls.append(ConfigCall("enable_profile"))
    return tuple(calls)


def streams(settings: Settings) -> int:
    """Number of networks in parallel: the set or tuned value, else one per core up to
    `MOST_STREAMS` on a CPU, one on a device, and `TRITON_STREAMS` with Triton.
    """
    if settings.predict_streams:
        return settings.predict_streams
    if settings.device == "triton":
        return TRITON_STREAMS
    return min(MOST_STREAMS, settings.cpu_threads) if settings.device == "cpu" else 1


def one_stream(settings: Settings) -> Settings:
    """The settings for a model that gets few photos: on a CPU one network, with the threads that
    each would have. Each takes a second of the start, and 180 MB.
    """
    if settings.device != "cpu" or settings.predict_streams is not None:
        return settings
    each = max(1, settings.cpu_threads // streams(settings))
    return settings.model_copy(update={"predict_streams": 1, "cpu_threads": each})


def _opening(graph: Path | None, plan: EnginePlan) -> EnginePlan:
    """The plan with this program, which takes pixels, or with the model's own."""
    return replace(plan, graph=graph, optional=graph is not None)


def collecting(
    settings: Settings, model: Model, file: Path, graph: Path | None = None
) -> EnginePlan:
    """The plan that collects shape ranges for TensorRT. Run it once over every input that will
    occur. The folder of the file must exist, otherwise Paddle aborts.
    """
    number = int(settings.device.partition(":")[2] or 0)
    select = ConfigCall("enable_use_gpu", (settings.gpu_memory_pool_mb, number))
    note = ConfigCall("collect_shape_range_info", (str(file),))
    plan = EnginePlan("cuda", (select, *_common(settings, model), note), settings.device)
    return _opening(graph, plan)


def tensorrt_plan(
    settings: Settings, model: Model, folder: Path, graph: Path | None = None
) -> EnginePlan:
    """The plan that uses TensorRT with collected shapes and stored engines, in this folder.

    Raises EngineUnavailableError for an unsupported precision.
    """
    precisions = {"auto": "Float32", "fp32": "Float32", "fp16": "Half", "int8": "Int8"}
    if settings.precision not in precisions:
        raise EngineUnavailableError(f"TensorRT has no {settings.precision}")
    number = int(settings.device.partition(":")[2] or 0)
    calls: tuple[ConfigCall, ...] = (
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
        # Other shapes than the collected ones run in another session (worker.inference.session).
        # Rebuilding engines for them would take minutes, and write where other workers read.
        ConfigCall("enable_tuned_tensorrt_dynamic_shape", (str(folder / SHAPE_RANGES), False)),
    )
    if graph:  # operators are named by their results (tensorrt_subgraph_pass.cc)
        calls = (*calls, ConfigCall("exp_disable_tensorrt_ops", ((FROM_BYTES, TO_BYTES),)))
    precision: Precision = "fp32" if settings.precision == "auto" else settings.precision
    return _opening(graph, EnginePlan("tensorrt", calls, settings.device, precision))


@dataclass(frozen=True)
class PaddlePrecision:
    """A member of paddle.inference.PrecisionType by name, so that a plan does not need Paddle."""

    name: str


@dataclass(frozen=True)
class OperatorSet:
    """A set of operators in alphabetical order. A plan's text must be the same in every process,
    because passed trials are remembered by it, and the order of a Python set is not.
    """

    names: tuple[str, ...]
