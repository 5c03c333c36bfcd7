"""Several models in one worker: each image of a batch goes to the pipeline of its own."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

from shared.errors import ModelNotServedError
from worker.pipeline.work_items import Outcome, WorkItem


class ImagePipeline(Protocol):
    """worker.pipeline.pipeline.Pipeline, or something that takes its place."""

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """One outcome for each item, in their order; raises for no image's sake."""


class ModelRouter:
    """Runs batches whose images name different models. As safe for threads as what it holds."""

    def __init__(self, runners: Mapping[str, ImagePipeline], default: str) -> None:
        """`runners` by the model's name; `default`: the model of images that name none."""
        self._runners = runners
        self._default = default

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """One outcome for each item, in their order; one model after the other."""
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for index, item in enumerate(items):
            groups[item.options.model or self._default].append(index)
        outcomes: dict[int, Outcome] = {}
        for model, indices in groups.items():
            mine = [items[index] for index in indices]
            runner = self._runners.get(model)
            if runner is None:  # its message came by a queue that this worker should not read
                error = ModelNotServedError(f"This worker does not serve the model {model}")
                done = [Outcome(item_id=item.item_id, error=error) for item in mine]
            else:
                done = runner.run_many(mine)
            outcomes.update(zip(indices, done, strict=True))
        return [outcomes[index] for index in range(len(items))]
