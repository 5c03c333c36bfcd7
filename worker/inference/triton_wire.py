"""What goes over the wire between a worker and Triton: names, types and shapes, as config.pbtxt
declares them.

Photos travel as uint8 pixels and mattes as float16: 3 and 2 bytes a pixel, 1.3 MB for an image of
512 × 512, where float32 both ways takes 4.2 MB. The server normalises the pixels with the
same code as a worker, so the network's input is the same to the last bit. float16 rounds an alpha
by at most 0.00025 (half of 2^-11).
"""

from worker.inference.catalog import Model

PIXELS, PIXELS_TYPE = "pixels", "UINT8"
"""The input [N, 3, H, W]: RGB, 0..255, already at one of the network's shapes."""

ALPHAS, ALPHAS_TYPE = "alphas", "FP16"
"""The output [N, H, W]: alphas in 0..1, after the steps of `Deploy.postprocess`."""

MODEL, MODEL_TYPE = "model", "UINT64"
"""The output [N, 1]: Model.fingerprint of the weights that made these alphas, as a number. So a
worker knows for each answer that it is of its own model, however the server was reloaded.
"""

PREDICT_BATCH_SIZE = "predict_batch_size"
"""Parameter in config.pbtxt: most images of one shape in a forward pass on the server."""


def served_name(model: str) -> str:
    """The name of a model in the model repository: MATTING_MODEL, or its last folder."""
    return model.rstrip("/").rpartition("/")[2]


def model_number(model: Model) -> int:
    """The fingerprint, 16 hexadecimal digits, as a number."""
    return int(model.fingerprint, 16)


def tensors(model: Model) -> list[tuple[str, str, list[int]]]:
    """Name, type and dimensions of the input and of the outputs; -1 is free. The first dimension is
    the number of images. An export may accept one size only.
    """
    size = [*(model.fixed_shape or (-1, -1))]
    return [
        (PIXELS, PIXELS_TYPE, [-1, 3, *size]),
        (ALPHAS, ALPHAS_TYPE, [-1, *size]),
        (MODEL, MODEL_TYPE, [-1, 1]),
    ]
