"""Every way to start a worker sets glibc's allocator as the benchmarks do."""

from pathlib import Path

import pytest

from deploy.stack.stack import Stack
from tests.benchmarks.allocator import ALLOCATOR

DOCKER = Path(__file__).parents[2] / "deploy/docker"


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_the_images_set_it(name: str) -> None:
    words = (DOCKER / name).read_text().split()
    assert {f"{variable}={value}" for variable, value in ALLOCATOR.items()} <= set(words)


def test_the_local_stack_sets_it(tmp_path: Path) -> None:
    ports = {"redis": 1, "s3": 2, "flower": 3, "api": 4}
    environment = Stack(tmp_path)._environment(ports, "own", "secret")
    assert ALLOCATOR.items() <= environment.items()
