"""Exports trained weights for Paddle Inference, in PaddleSeg's layout, and checks the result.

python -m worker.training.export --weights FILE.npz --out worker/bundles/builtin --side 384
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as nnf
import yaml
from paddle import nn
from paddle.base.framework import Program
from paddle.pir_utils import OldIrGuard

from worker.training.card import CARD, read_card
from worker.training.last_layer import KERNEL, PATCH, by_patches
from worker.training.widths import BLOCKS, CONTEXT, DECODER, DETAIL, HEAD, STEM, TAPS, Block

TOLERANCE = 1e-3
"""Largest allowed difference in alpha between the trained network and its export."""


class Bottleneck(nn.Layer):
    """network.Bottleneck in Paddle."""

    def __init__(self, inputs: int, block: Block) -> None:
        super().__init__()
        wide, kernel = inputs * block.expand, block.kernel
        self.widen = nn.Conv2D(inputs, wide, 1) if block.expand > 1 else None
        self.filter = nn.Conv2D(wide, wide, kernel, block.stride, kernel // 2, groups=wide)
        self.narrow = nn.Conv2D(wide, block.outputs, 1)
        self.adds = block.stride == 1 and inputs == block.outputs

    def forward(self, x: Any) -> Any:
        """[N, A, H, W] → [N, B, H / stride, W / stride]."""
        y = x if self.widen is None else nnf.relu6(self.widen(x))
        y = self.narrow(nnf.relu6(self.filter(y)))
        return x + y if self.adds else y


class ConvNorm(nn.Sequential):
    """network.ConvNorm in Paddle. Other exported graphs use its stride."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        padding = dilation * (size // 2)
        convolution = nn.Conv2D(
            inputs, outputs, size, stride, padding, dilation, groups=groups, bias_attr=False
        )
        super().__init__(convolution, nn.BatchNorm2D(outputs), *([nn.ReLU()] if relu else []))


class Context(nn.Layer):
    """network.Context in Paddle."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.enter = ConvNorm(inputs, width, 1)
        self.near = ConvNorm(width, width, 5, groups=width, relu=False)
        self.far = ConvNorm(width, width, 5, dilation=2, groups=width, relu=False)
        self.mix = ConvNorm(width, width, 1, relu=False)
        self.squeeze = nn.Conv2D(width, width // 4, 1)
        self.expand = nn.Conv2D(width // 4, width, 1)

    def forward(self, x: Any) -> Any:
        """[N, A, H, W] → [N, B, H, W]."""
        x = self.enter(x)
        x = nnf.relu(x + self.mix(nnf.relu(self.near(x) + self.far(x))))
        pooled = nnf.adaptive_avg_pool2d(x, 1)
        return x * _sigmoid(self.expand(nnf.relu(self.squeeze(pooled))))


class Merge(nn.Layer):
    """network.Merge in Paddle."""

    def __init__(self, coarse: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.lateral = ConvNorm(coarse, outputs, 1, relu=False)
        self.skip = ConvNorm(skip, outputs, 1, relu=False)
        self.first = ConvNorm(outputs, outputs, 3)
        self.second = ConvNorm(outputs, outputs, 3)

    def forward(self, coarse: Any, skip: Any) -> Any:
        """([N, A, H, W], [N, B, 2H, 2W]) → [N, C, 2H, 2W]."""
        mixed = nnf.relu(_twice(self.lateral(coarse)) + self.skip(skip))
        return mixed + self.second(self.first(mixed))


class MattingNet(nn.Layer):
    """network.MattingNet in Paddle. It returns alpha instead of logits, has no second output for
    training, and its last convolution computes a patch of pixels at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, STEM, 3, 2, 1)
        inputs = (STEM, *(block.outputs for block in BLOCKS[:-1]))
        self.blocks = nn.LayerList(list(map(Bottleneck, inputs, BLOCKS)))
        half, quarter, eighth, sixteenth, last = (BLOCKS[tap].outputs for tap in TAPS)
        a, b, c, d = DECODER
        self.context = Context(last, CONTEXT)
        self.up16 = Merge(CONTEXT, sixteenth, a)
        self.up8 = Merge(a, eighth, b)
        self.up4 = Merge(b, quarter, c)
        self.up2 = Merge(c, half, d)
        self.detail = ConvNorm(3, DETAIL, 3)
        self.widen = nn.Conv2D(d, DETAIL, 1)
        last = nn.Conv2D(HEAD, PATCH**2, KERNEL, PATCH, padding=1)
        self.head = nn.Sequential(ConvNorm(DETAIL, HEAD, 3), last)

    def forward(self, img: Any) -> Any:
        """[N, 3, H, W] in -1..1, H and W multiples of 32 → alpha [N, 1, H, W] in 0..1."""
        x = nnf.relu6(self.stem(img))
        taps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                taps.append(x)
        x2, x4, x8, x16, x32 = taps
        y8 = self.up8(self.up16(self.context(x32), x16), x8)
        y2 = self.up2(self.up4(y8, x4), x2)
        patches = self.head(nnf.relu(_twice(self.widen(y2)) + self.detail(img)))
        return _sigmoid(nnf.pixel_shuffle(patches, PATCH))


def _twice(x: Any) -> Any:
    return nnf.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _sigmoid(x: Any) -> Any:
    """Sigmoid by tanh, because Paddle 3.2's sigmoid no longer builds the older graph format."""
    return 0.5 + 0.5 * paddle.tanh(0.5 * x)


def paddle_state(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Translate PyTorch's names of arrays into Paddle's. The statistics of batch norm have other
    names, and the last convolution has another form.
    """
    state = {}
    for name, value in arrays.items():
        if name == CARD or name.startswith("coarse.") or name.endswith("num_batches_tracked"):
            continue
        name = name.replace("running_mean", "_mean").replace("running_var", "_variance")
        state[name] = value
    last = state["head.1.weight"], state["head.1.bias"]
    state["head.1.weight"], state["head.1.bias"] = by_patches(*last)
    return state


def main() -> None:
    """Export the network, check it and write deploy.yaml."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, required=True, help="the model's own long side, pixels")
    arguments = parser.parse_args()
    with np.load(arguments.weights) as stored:
        arrays = {name: stored[name] for name in stored.files}
    net = MattingNet()
    missing, unexpected = net.set_state_dict(paddle_state(arrays))
    if missing or unexpected:
        raise SystemExit(f"not this network's weights: missing {missing}, unknown {unexpected}")
    net.eval()
    write_graph(net, arguments.out)
    _write_description(arguments.out, arguments.side)

    height, width = arrays[CARD].shape[2:]
    card = read_card(height, width)
    for onednn in (False, True):
        difference = float(np.abs(infer(arguments.out, card, onednn=onednn) - arrays[CARD]).max())
        print(f"oneDNN {onednn}: largest difference {difference:.2e}")
        if difference > TOLERANCE:
            raise SystemExit("the export does not agree with the trained network")


def write_graph(net: Any, folder: Path) -> None:
    """Write a network with the input `img` [N, 3, H, W] as model.pdmodel and model.pdiparams.

    PaddleSeg publishes this layout. More versions of Paddle run it than model.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with OldIrGuard():
        static = paddle.jit.to_static(
            net,
            input_spec=[paddle.static.InputSpec([None, 3, None, None], "float32", "img")],
            full_graph=True,
        )
        paddle.jit.save(static, str(folder / "model"))
    path = folder / "model.pdmodel"
    path.write_bytes(tidy_program(path.read_bytes()))
    (folder / "model.pdiparams.info").unlink(missing_ok=True)


def infer(folder: Path, batch: np.ndarray[Any, Any], *, onednn: bool) -> np.ndarray[Any, Any]:
    """Run the exported network on [N, 3, H, W]. Returns alpha [N, 1, H, W]."""
    from paddle import inference

    config = inference.Config(str(folder / "model.pdmodel"), str(folder / "model.pdiparams"))
    config.disable_glog_info()
    if onednn:
        config.enable_mkldnn()
    else:
        config.disable_mkldnn()
    predictor = inference.create_predictor(config)
    handle = predictor.get_input_handle("img")
    handle.reshape(batch.shape)
    handle.copy_from_cpu(batch)
    predictor.run()
    output = predictor.get_output_handle(predictor.get_output_names()[0])
    result: np.ndarray[Any, Any] = output.copy_to_cpu()
    return result


def tidy_program(data: bytes) -> bytes:
    """A program (model.pdmodel) without source lines, and with biases that oneDNN can fuse."""
    with OldIrGuard():
        program = Program.parse_from_string(data)
        for block in program.blocks:
            for operator in block.ops:
                operator.desc.remove_attr("op_callstack")
        _flatten_biases(program.global_block())
        tidied: bytes = program.desc.serialize_to_string()
    return tidied


def _flatten_biases(block: Any) -> None:
    """Add each convolution's bias as a vector along axis 1, except the last one's.

    Paddle's conv2d reshapes the bias to [1, C, 1, 1] first, and then no oneDNN pass fuses it: the
    built-in network took 61 ms instead of 53. The last convolution is left as it is, because fused
    ones can run in bf16, and logits in bf16 spoil soft edges (gradient error 6.2 instead of 4.9).
    """
    biases: dict[str, str] = {}
    for operator in block.ops:
        if operator.type == "reshape2" and block.var(operator.input("X")[0]).persistable:
            (bias,) = operator.input("X")
            if list(operator.attr("shape")) == [1, *block.var(bias).shape, 1, 1]:
                biases[operator.output("Out")[0]] = bias
    additions = [one for one in block.ops if one.type == "elementwise_add"]
    for operator in [one for one in additions if one.input("Y")[0] in biases][:-1]:
        operator.desc.set_input("Y", [biases[operator.input("Y")[0]]])
        operator.desc._set_attr("axis", 1)
    read = {name for operator in block.ops for name in operator.input_arg_names}
    for index in reversed(range(len(block.ops))):
        operator = block.ops[index]
        if operator.type == "reshape2" and operator.output("Out")[0] in biases.keys() - read:
            for name in operator.output_arg_names:
                block._remove_var(name)
            block._remove_op(index)


def _write_description(folder: Path, side: int) -> None:
    description = {
        "Deploy": {
            "model": "model.pdmodel",
            "params": "model.pdiparams",
            "input_shape": [-1, 3, -1, -1],
            "half_pixel_resize": True,
            "bf16": True,
            "transforms": [
                {"type": "LoadImages"},
                {"type": "ResizeByLong", "long_size": side},
                {"type": "ResizeToIntMult", "mult_int": 32},
                {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3},
            ],
        }
    }
    (folder / "deploy.yaml").write_text(yaml.safe_dump(description, sort_keys=False))


if __name__ == "__main__":
    main()
