"""Comparisons, logic and selection."""

from typing import Any

from worker.inference.importing.walk import Step, operator

COMPARISONS = {
    "Equal": "equal",
    "Greater": "greater_than",
    "GreaterOrEqual": "greater_equal",
    "Less": "less_than",
    "LessOrEqual": "less_equal",
}

CONNECTIVES = {"And": "logical_and", "Or": "logical_or", "Xor": "logical_xor"}


@operator(*COMPARISONS, *CONNECTIVES)
def compared(step: Step) -> Any:
    """Compare or combine two tensors. Returns a bool tensor."""
    name = {**COMPARISONS, **CONNECTIVES}[step.kind]
    pair = {"X": step.variable(0), "Y": step.variable(1)}
    return step.walk.emit(name, pair, dtype="bool", axis=-1)


@operator("Not")
def negated(step: Step) -> Any:
    """Logical not."""
    return step.walk.emit("logical_not", {"X": step.variable(0)}, dtype="bool")


@operator("Where")
def where(step: Step) -> Any:
    """Select from one tensor where the condition is true, otherwise from the other."""
    import paddle

    return paddle.where(step.variable(0), step.variable(1), step.variable(2))
