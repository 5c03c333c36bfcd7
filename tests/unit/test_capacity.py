"""docs/capacity.md repeats the simulation's figures, and the simulation shows the effect that it is
about.
"""

from pathlib import Path

import pytest

from tests.benchmarks.capacity import CPU, GPU, WORKERS, Kind, simulate

PAGE = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text()


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(("kind", "name"), [(CPU, "of 4 cores"), (GPU, "V100")])
def test_the_page_has_the_simulation_s_figures(kind: Kind, workers: int, name: str) -> None:
    found = simulate(kind, workers, adaptive=True)
    hours = 1e6 / found.images_per_s / 3600
    row = [
        f"{workers} {name}",
        f"{found.images_per_s:,.0f}",
        f"{100 * min(found.busy, 1):.0f} %",
        f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min",
        f"{found.small_median_s:.1f} / {found.small_p95_s:.1f} s",
    ]
    assert f"| {' | '.join(row)} |" in PAGE


def test_a_fixed_publishing_limit_slows_many_workers_down() -> None:
    fixed = simulate(GPU, 20, adaptive=False)
    assert f"{fixed.images_per_s:,.0f} images/s however many" in PAGE
    assert fixed.images_per_s < 0.8 * simulate(GPU, 20, adaptive=True).images_per_s
