"""docs/capacity.md repeats the simulation's figures, and the simulation shows the effect that it is
about.
"""

from pathlib import Path

import pytest

from tests.benchmarks.capacity import CPU, GPU, Kind, simulate

PAGE = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text()


@pytest.mark.parametrize(
    ("kind", "workers", "row"), [(CPU, 1, "1 of 4 cores"), (GPU, 10, "10 V100")]
)
def test_the_page_has_the_simulation_s_figures(kind: Kind, workers: int, row: str) -> None:
    found = simulate(kind, workers, adaptive=True)
    assert (
        f"| {row} | {found.images_per_s:,.0f} | {min(found.busy, 1):.0%}".replace("%", " %") in PAGE
    )
    assert f"| {found.small_median_s:.1f} / {found.small_p95_s:.1f} s |" in PAGE


def test_a_fixed_publishing_limit_slows_many_workers_down() -> None:
    fixed = simulate(GPU, 20, adaptive=False)
    assert f"{fixed.images_per_s:,.0f} images/s however many" in PAGE
    assert fixed.images_per_s < 0.8 * simulate(GPU, 20, adaptive=True).images_per_s
