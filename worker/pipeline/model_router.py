"""Several models in one worker: each image of a batch goes to the pipeline of its model."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from shared.errors import ModelNotServedError
from worker.pipeline.work_items import Outcome, WorkItem


class ImagePipeline(Protocol):
    """The interface of worker.pipeline.pipeline.Pipeline."""

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """One outcome for each item, in the same order. The error of an image is part of its
        outcome.
        """

    def run_each(self, items: Sequence[WorkItem], *, urgent: bool) -> Iterator[list[Outcome]]:
        """Lists of outcomes as they become available; each item is in one of them."""


class ModelRouter:
    """Splits batches by model. As thread-safe as its pipelines."""

    def __init__(self, runners: Mapping[str, ImagePipeline], default: str) -> None:
        """`runners`: pipelines by model name. `default`: the model of images that name none."""
        self._runners = runners
        self._default = default

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """One outcome for each item, in the same order; the models run one after another."""
        outcomes: dict[str, Outcome] = {}
        for runner, mine in self._groups(items):
            done = runner.run_many(mine) if runner is not None else _not_served(mine)
            outcomes.update(zip((item.item_id for item in mine), done, strict=True))
        return [outcomes[item.item_id] for item in items]

    def run_each(self, items: Sequence[WorkItem], *, urgent: bool) -> Iterator[list[Outcome]]:
        """Lists of outcomes as they become available; the models run one after another."""
        for runner, mine in self._groups(items):
            if runner is None:
                yield _not_served(mine)
            else:
                yield from runner.run_each(mine, urgent=urgent)

    def _groups(
        self, items: Sequence[WorkItem]
    ) -> list[tuple[ImagePipeline | None, list[WorkItem]]]:
        """The items of each model and its pipeline; None: this worker does not serve the model."""
        groups: defaultdict[str, list[WorkItem]] = defaultdict(list)
        for item in items:
            groups[item.forwarded_to or item.options.model or self._default].append(item)
        return [(self._runners.get(model), mine) for model, mine in groups.items()]


def _not_served(items: Sequence[WorkItem]) -> list[Outcome]:
    """Outcomes for items that have gone on to another model's queue, or come back from there, since
    their messages were sent. That says nothing about the images, so it costs no attempt.
    """
    return [
        Outcome(
            item_id=item.item_id,
            error=ModelNotServedError(
                f"This worker does not serve the model {item.forwarded_to or item.options.model}"
            ),
            interrupted=True,
        )
        for item in items
    ]
