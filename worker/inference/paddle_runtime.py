"""Imports Paddle's inference engine: on a CPU its native library alone, which takes a tenth of the
time and none of the memory of Paddle's training framework in Python.
"""

import importlib.util
import os
import sys
import warnings
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from shared.errors import EngineUnavailableError

THREAD_SPIN_MS = 1
"""How long OpenMP threads spin after a forward pass, waiting for the next one. The default of 200
ms occupies a core that the codecs need: 49.5 CPU-ms per image instead of 46 with two threads a
stream.
"""

COMPILED_KERNELS = 8_192
"""Size of oneDNN's cache of compiled kernels: more than a hundred layers times all shapes. Its
default of 1,024 is less.
"""

VARIABLES = {
    "KMP_BLOCKTIME": str(THREAD_SPIN_MS),
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(COMPILED_KERNELS),
    "OMP_NUM_THREADS": "1",  # Paddle's default; a plan sets its own
}
"""What the native libraries find in the environment if the operator has set nothing else."""

NATIVE = "paddle.base.libpaddle"
"""Paddle's own name of its native module. A later `import paddle` finds it under this name: loaded
twice, it would register its types twice and fail.
"""


def paddle_inference(*, on_cpu: bool) -> Any:
    """The names of `paddle.inference` that an engine uses: Config, PrecisionType, create_predictor.

    `on_cpu`: no other device will be used, so the native library is enough. Paddle's other devices
    need what its package does at its import: finding CUDA's libraries and loading plug-ins.
    Raises EngineUnavailableError if Paddle is missing or cannot be loaded.
    """
    if on_cpu and "paddle" not in sys.modules:
        native = sys.modules.get(NATIVE) or _load_native()
        if native is not None:
            return _engine_of(native)
    return import_paddle().inference


def import_paddle() -> Any:
    """The whole package `paddle`. Raises EngineUnavailableError."""
    _set_variables()
    with warnings.catch_warnings():
        # Paddle warns about a missing compiler cache, which is not used here.
        warnings.filterwarnings("ignore", "No ccache found")
        try:
            import paddle
            import paddle.inference
        except ImportError as error:
            raise EngineUnavailableError(f"Paddle can't be imported: {error}") from error
    return paddle


def _load_native() -> Any | None:
    """Load the native library as Paddle's package does at its import. Returns None if it cannot
    be loaded, or if this release of Paddle is built differently.
    """
    package = importlib.util.find_spec("paddle")
    for root in (package.submodule_search_locations or ()) if package else ():
        library = Path(root) / "base" / "libpaddle.so"
        if not library.is_file():
            continue
        _set_variables()
        loader = ExtensionFileLoader(NATIVE, str(library))
        spec = importlib.util.spec_from_file_location(NATIVE, library, loader=loader)
        assert spec is not None
        try:
            native = importlib.util.module_from_spec(spec)
            loader.exec_module(native)
            sys.modules[NATIVE] = native
            names = native.globals().keys()  # a mapping of Paddle's own, without an iterator
            flags = [name[6:] for name in names if name.startswith("FLAGS_")]
            native.init_gflags([f"--tryfromenv={','.join(flags)}"])
            native.init_memory_method()
            native.init_devices()
            native.init_default_kernel_signatures()
        except (ImportError, AttributeError):  # the whole package works, or says what is wrong
            return None
        return native
    return None


def _set_variables() -> None:
    """Set what the native libraries read when they are loaded, unless the operator has set it."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)


def _engine_of(native: Any) -> Any:
    tensor = native.PaddleInferTensor
    if not hasattr(tensor, "copy_from_cpu"):
        tensor.copy_from_cpu = tensor._copy_from_cpu_bind
    return SimpleNamespace(
        Config=native.AnalysisConfig,
        PrecisionType=native.AnalysisConfig.Precision,
        create_predictor=native.create_predictor,
    )
