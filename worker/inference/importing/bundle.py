"""Writes an imported network as a bundle: program, weights, deploy.yaml."""

from pathlib import Path
from typing import Any

import yaml

from worker.inference.importing.graph import Graph
from worker.inference.importing.precision import mark_fp32
from worker.inference.importing.recipe import Recipe
from worker.inference.importing.walk import BatchIsFixed, Walk, static_mode


def write_bundle(graph: Graph, recipe: Recipe, folder: Path, source: dict[str, Any]) -> bool:
    """Write model.pdmodel, model.pdiparams and deploy.yaml into `folder`.

    deploy.yaml holds `source` (where the network comes from) beside `Deploy`. Returns whether the
    bundle takes batches of any size. Raises UnsupportedOperatorError before it writes anything.
    """
    with static_mode():
        walk = Walk(graph)
        try:
            program, entry, answer = walk.build()
        except BatchIsFixed:
            walk = Walk(graph, free_batch=False)
            program, entry, answer = walk.build()
        _save(walk, program, entry, answer, folder)
    free = walk.batch == -1
    description = {"Deploy": recipe.deploy(free_batch=free), "Source": source}
    (folder / "deploy.yaml").write_text(
        yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    )
    return free


def _save(walk: Walk, program: Any, entry: Any, answer: Any, folder: Path) -> None:
    import paddle

    place = paddle.CPUPlace()
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        for name, array in walk.weights.items():
            scope.var(name).get_tensor().set(array, place)
        program = paddle.static.normalize_program(program, [entry], [answer])
        mark_fp32(program, entry.name, answer.name, walk.weights)
        # Remove the source lines that Paddle stores with each operator: nobody needs them.
        for operator in program.global_block().ops:
            operator.desc.remove_attr("op_callstack")
        executor = paddle.static.Executor(place)
        weights = paddle.static.serialize_persistables([entry], [answer], executor, program=program)
    (folder / "model.pdmodel").write_bytes(program.desc.serialize_to_string())
    (folder / "model.pdiparams").write_bytes(weights)
