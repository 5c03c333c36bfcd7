"""The reference page of Prometheus metrics, from the collectors of the API and the worker."""

from collections.abc import Iterable, Iterator

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from api.http.metrics import queue_families
from deploy.maintenance.reference.markdown import code, page, table
from shared import telemetry
from worker.consumer.device_metrics import device_families

INTRODUCTION = """\
The API serves `/metrics` on its own port. A worker serves it on `MATTING_WORKER_METRICS_PORT`, when
that is set. A counter's name ends in `_total`; a histogram adds `_bucket`, `_sum` and `_count`. The
usual `process_…` and `python_…` metrics come with them.
[The alerts](../../deploy/prometheus/alerts.yml) and
[the dashboard](../../deploy/grafana/dashboards/matting.json) use these names."""

QUEUE_TEXT = """\
The API asks the database and Redis at each scrape. If one of them does not answer within a second,
the API reports its last answer for up to 15 s; after that the metric has no sample. Every replica
gives the same values, so take `max`, not `sum`."""

DEVICE_TEXT = """\
A worker on an NVIDIA GPU reads these from the driver at each scrape, if `pynvml` is installed (the
GPU image has it)."""


def metrics_page() -> str:
    """The metrics of each process, of queue and backlog, and of the device."""
    return page(
        "Metrics",
        INTRODUCTION,
        "## Counted by each process",
        _table(_counted()),
        "## Queue and backlog",
        QUEUE_TEXT,
        _table((family, family._labelnames) for family in queue_families().values()),
        "## Device",
        DEVICE_TEXT,
        _table((family, family._labelnames) for family in device_families().values()),
    )


def _counted() -> Iterator[tuple[Metric, Iterable[str]]]:
    """The collectors of shared.telemetry. Label names are only in a private attribute of them."""
    for collector in vars(telemetry).values():
        if isinstance(collector, MetricWrapperBase):
            [family] = collector.describe()
            yield family, collector._labelnames


def _table(families: Iterable[tuple[Metric, Iterable[str]]]) -> str:
    return table(
        ["metric", "type", "labels", "meaning"],
        (
            [
                code(family.name + ("_total" if family.type == "counter" else "")),
                family.type,
                ", ".join(map(code, labels)),
                family.documentation,
            ]
            for family, labels in families
        ),
    )
