"""`matting tune`: measures the predictor on this machine; writes the best settings and a plot."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from deploy.commands.progress import bar, console
from shared.errors import SetupError
from shared.settings import Settings
from worker.imaging.arrays import Size
from worker.inference.predictor import load_predictor
from worker.inference.sweep import SweepChoice, SweepResult, choose, combinations, sweep
from worker.inference.tuning import CPU_BATCH, DEVICE_BATCH, write_tuned

MEASURED_SHAPES = 3
"""Number of input shapes that are measured: the narrowest, the middle and the widest."""


def run_tune(out: Path | None, measure_s: float) -> None:
    """Measure batch sizes and numbers of streams, and write the best ones.

    The default for `out` is the file that the worker reads at its start.
    """
    settings = Settings()
    if settings.device == "triton":
        raise SetupError(
            "The network runs on a Triton server: run `matting tune` on its machine, with "
            "MATTING_DEVICE=gpu:0"
        )
    path = out or settings.effective_tune_file
    # Without tuned or fixed settings, as on a worker's first start.
    console.print(f"loading {settings.model} on {settings.device} …", soft_wrap=True)
    predictor = load_predictor(settings.model_copy(update={"predict_batch_size": 1}))
    plan, model, grid = predictor.plan, predictor.model, predictor.grid.shapes
    predictor.close()
    shapes = sorted({grid[0], grid[len(grid) // 2], grid[-1]})[:MEASURED_SHAPES]
    with bar("measuring", len(combinations(settings)) * len(shapes), rate_in_note=True) as progress:

        def show(cell: SweepResult) -> None:
            note = f"{cell.streams} x {cell.batch}: {cell.images_per_s:.1f} images/s"
            progress.update(progress.task_ids[0], advance=1, note=note)

        cells = sweep(settings, model, plan, shapes, measure_s=measure_s, on_cell=show)
    best = choose(cells)
    console.print(_table(cells, best))
    picture = path.with_suffix(".png")
    found = {
        "batch_size": _message_batch_size(settings, best),
        "predict_batch_size": best.batch,
        "predict_streams": best.streams,
        "cpu_threads": settings.cpu_threads,
        "images_per_s": round(best.images_per_s, 2),
        "p99_ms": round(best.p99_ms, 1),
        "configuration": plan.kind,
        "fingerprint": model.fingerprint,
    }
    write_tuned(path, settings, found)
    plot(cells, best, picture, title=f"{settings.model} on {settings.device} ({plan.kind})")
    console.print(
        f"best: {best.streams} stream(s), {best.batch} image(s) per forward pass", soft_wrap=True
    )
    console.print(f"wrote {path} (a worker reads it at its start) and {picture}", soft_wrap=True)


def _message_batch_size(settings: Settings, best: SweepChoice) -> int:
    """The number of messages per batch: enough to fill every stream twice.

    Half of the images are stored while the other half is predicted.
    """
    usual = CPU_BATCH if settings.device == "cpu" else DEVICE_BATCH
    return min(256, max(usual, 2 * best.streams * best.batch))


def _table(cells: Sequence[SweepResult], best: SweepChoice) -> Table:
    table = Table("streams", "images per pass", "shape", "images/s", "median ms", "p99 ms")
    for cell in cells:
        style = "bold" if (cell.streams, cell.batch) == (best.streams, best.batch) else None
        height, width = cell.shape
        if cell.images_per_s == 0:
            measured = ["out of memory", "", ""]
        else:
            measured = [f"{cell.images_per_s:.1f}", f"{cell.median_ms:.1f}", f"{cell.p99_ms:.1f}"]
        table.add_row(
            str(cell.streams), str(cell.batch), f"{height} x {width}", *measured, style=style
        )
    return table


def plot(cells: Sequence[SweepResult], best: SweepChoice, path: Path, *, title: str) -> None:
    """Plot throughput and latency against batch size, a line per number of streams and shape."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    rates, waits = figure.subplots(1, 2)
    measured = [cell for cell in cells if cell.images_per_s > 0]
    shapes = sorted({cell.shape for cell in measured})
    for number, (streams, group) in enumerate(
        itertools.groupby(measured, key=lambda cell: cell.streams)
    ):
        of_streams = list(group)
        for shape, dashes in zip(shapes, ("-", "--", ":"), strict=False):
            line = [cell for cell in of_streams if cell.shape == shape]
            style = {"color": f"C{number}", "linestyle": dashes, "marker": "o", "markersize": 4}
            label = f"{streams} stream(s), {_shape_text(shape)}"
            batches = [cell.batch for cell in line]
            rates.plot(batches, [cell.images_per_s for cell in line], label=label, **style)
            waits.plot(batches, [cell.p99_ms for cell in line], **style)
    rates.axvline(best.batch, color="0.8", zorder=0)
    rates.annotate(f"chosen: {best.streams} x {best.batch}", (best.batch, 0), xytext=(4, 6),
                   textcoords="offset points", color="0.4")  # fmt: skip
    rates.set(ylabel="images/s", ylim=(0, None))
    waits.set(ylabel="ms per batch, 99th percentile", yscale="log")
    waits.yaxis.set_major_formatter("{x:.0f}")
    waits.yaxis.set_minor_formatter("{x:.0f}")
    for axes in (rates, waits):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({cell.batch for cell in measured}))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel("images per forward pass")
        axes.grid(alpha=0.3)
    rates.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _shape_text(shape: Size) -> str:
    return f"{shape[0]} x {shape[1]}"
