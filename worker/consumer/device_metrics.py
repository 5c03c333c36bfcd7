"""Prometheus metrics of the GPU driver: memory and utilisation of an NVIDIA GPU.

They are read from NVML at each scrape. The Python binding is part of the GPU image (`pip install
'matting[gpu]'`). Without it, and on a CPU, these metrics do not exist.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from shared.settings import Settings
from shared.telemetry import get_logger

log = get_logger(__name__)


def watch_device(settings: Settings, registry: CollectorRegistry = REGISTRY) -> bool:
    """Register the metrics of the GPU in the settings; returns whether NVML can read one."""
    kind, _, number = settings.device.partition(":")
    if kind != "gpu":
        return False
    if find_spec("pynvml") is None:
        log.warning("device-metrics-off", reason="pip install 'matting[gpu]' for its metrics")
        return False
    nvml = import_module("pynvml")
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(int(number))
    except nvml.NVMLError as error:
        log.warning("device-metrics-off", reason=str(error))
        return False
    registry.register(_Nvml(nvml, handle, settings.device))
    return True


def device_families() -> dict[str, GaugeMetricFamily]:
    """The metric families of `_Nvml` by name, without samples."""
    texts = {
        "matting_device_memory_used_bytes": "Device memory in use.",
        "matting_device_memory_total_bytes": "Device memory in total.",
        "matting_device_utilisation_ratio": "Share of time in which a kernel runs.",
    }
    return {name: GaugeMetricFamily(name, text, labels=["device"]) for name, text in texts.items()}


class _Nvml(Collector):
    """A collector for one GPU. A reading that fails is omitted, and the worker continues."""

    def __init__(self, nvml: Any, handle: Any, device: str) -> None:
        self._nvml, self._handle, self._device = nvml, handle, device

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families without samples, so that registering does not wait for the driver."""
        yield from device_families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the values; Prometheus calls it at each scrape."""
        nvml = self._nvml
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(self._handle)
            busy = nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
        except nvml.NVMLError as error:
            log.warning("device-metrics-failed", reason=str(error))
            return
        readings = (memory.used, memory.total, busy)
        for family, value in zip(device_families().values(), readings, strict=True):
            family.add_metric([self._device], value)
            yield family
