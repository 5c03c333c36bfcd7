"""Matrix products."""

from typing import Any

from worker.inference.importing.walk import Step, operator


@operator("MatMul")
def matmul(step: Step) -> Any:
    """Matrix product like numpy's matmul."""
    return step.walk.matmul(step.variable(0), step.variable(1))


@operator("Gemm")
def gemm(step: Step) -> Any:
    """Alpha · A B + beta · C."""
    import paddle

    product = step.walk.matmul(
        step.variable(0),
        step.variable(1),
        turn_x=bool(step.attribute("transA", 0)),
        turn_y=bool(step.attribute("transB", 0)),
    )
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    if alpha != 1:
        product = paddle.scale(product, alpha)
    if not step.has(2):
        return product
    added = step.variable(2) if beta == 1 else paddle.scale(step.variable(2), beta)
    return paddle.add(product, added)


@operator("Einsum")
def einsum(step: Step) -> Any:
    """Any sum of products, given by an equation."""
    import paddle

    operands = [step.variable(index) for index in range(len(step))]
    return paddle.einsum(step.attribute("equation").replace(" ", ""), *operands)
