"""A derived network as an ONNX graph, which runs without JAX; needs ``onnx``.

Written by hand, operator by operator: the network is small, and so images of any size can go in, with the same padding
and pooling as in ``network`` and ``blocks``. All ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from autoderain_jax.blocks import SE_AT_REST
from autoderain_jax.candidates import candidate
from autoderain_jax.errors import InputError
from autoderain_jax.model import Model
from autoderain_jax.pooling import cell_of

OPSET = 18
IR_VERSION = 10
"""Of the file, old enough for runtimes of 2024."""
HEIGHT, WIDTH = 2, 3
"""Axes of tensors (b, c, h, w)."""
Weights = Mapping[str, Any]


def onnx_model(model: Model) -> onnx.ModelProto:
    """The network from ``image``, uint8 RGB (height, width, 3) of any size, to ``restored``, the same; float32 inside.

    Raises:
      InputError: the architecture has a candidate that is not linear: its module has no ONNX form.
    """
    graph = _Graph(model)
    graph.image_to_image()
    dims = ["height", "width", 3]
    made = helper.make_graph(
        graph.nodes,
        "autoderain",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, dims)],
        [helper.make_tensor_value_info("restored", TensorProto.UINT8, dims)],
        graph.constants,
    )
    built = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(built)
    return built


class _Graph:
    """Operators added one by one; every method returns the name of the tensor that it makes."""

    def __init__(self, model: Model):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._model, self._params = model, model.params

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, "int64")

    def image_to_image(self) -> None:
        """As ``derainer`` and ``DerainNet.__call__`` do it."""
        rainy = self.op("Div", self.op("Cast", "image", to=TensorProto.FLOAT), self.constant(255.0))
        rainy = self.op("Unsqueeze", self.op("Transpose", rainy, perm=[2, 0, 1]), self.ints(0))
        x = self.reflect(self.reflect(rainy, HEIGHT), WIDTH)
        x = self.body(self.conv(x, self._params["stem"]))
        x = self.conv(x, self._params["head"])
        x = self.op("Slice", x, self.ints(0, 0), self.op("Shape", rainy, start=HEIGHT), self.ints(HEIGHT, WIDTH))
        restored = self.op("Clip", self.op("Add", rainy, x), self.constant(0.0), self.constant(1.0))
        restored = self.op("Round", self.op("Mul", restored, self.constant(255.0)))
        restored = self.op("Transpose", self.op("Squeeze", restored, self.ints(0)), perm=[1, 2, 0])
        self.op("Cast", restored, to=TensorProto.UINT8, output="restored")

    def body(self, x: str) -> str:
        """As ``DerainNet.body``."""
        params, (*levels, bottleneck) = self._params, self._model.config.blocks
        skips = []
        for level, blocks in enumerate(levels):
            x = self.rsebs(x, f"encoder{level}", blocks, level)
            skips.append(x)
            down = params[f"down{level}"]["Conv_0"]
            x = self.op("Conv", x, self.oihw(down["kernel"]), self.constant(down["bias"]), strides=[2, 2])
        x = self.rsebs(x, "bottleneck", bottleneck, len(levels))
        for level, blocks in reversed(list(enumerate(levels))):
            x = self.dense(x, params[f"up{level}"]["Dense_0"])
            x = self.op("DepthToSpace", x, blocksize=2, mode="DCR")
            x = self.dense(self.op("Concat", x, skips[level], axis=1), params[f"skip{level}"])
            x = self.rsebs(x, f"decoder{level}", blocks, level)
        return x

    def rsebs(self, x: str, stage: str, blocks: int, level: int) -> str:
        """As ``DerainNet.rsebs`` and ``RSEB``."""
        window = max(self._model.pool_window >> level, 1)
        for i in range(blocks):
            name = f"{stage}_block{i}"
            row, params = self._model.genotype.blocks[name], self._params[name]
            h = self.choice(x, row["conv_a"], params["conv_a"])
            h = self.choice(self.op("Relu", h), row["conv_b"], params["conv_b"])
            if row["se"] == "off":
                scale = self.constant(SE_AT_REST)
            else:
                s = self.op("Relu", self.dense(self.window_means(h, window), params["se"]["squeeze"]))
                scale = self.spread(self.op("Sigmoid", self.dense(s, params["se"]["excite"])), window, h)
            x = self.op("Add", x, self.op("Mul", h, scale))
        return x

    def choice(self, x: str, name: str, params: Weights) -> str:
        """As ``Convolution.apply``, with the bias of ``ChoiceConv``."""
        chosen, weights = candidate(name), params[name]
        if not chosen.linear:
            raise InputError(f"only convolutions can be exported, and {name!r} is another candidate")
        if not chosen.separable:
            return self.conv(x, {"kernel": weights["kernel"], "bias": params["bias"]}, chosen.dilation)
        kernel = np.asarray(weights["depthwise"]).transpose(2, 0, 1)[:, None]
        x = self.op("Conv", x, self.constant(kernel), group=len(kernel), **_same(kernel.shape[2:], chosen.dilation))
        return self.dense(x, {"kernel": weights["pointwise"], "bias": params["bias"]})

    def conv(self, x: str, weights: Weights, dilation: int = 1) -> str:
        """A size-preserving convolution with ``kernel`` (h, w, in, out) and ``bias``."""
        options = _same(weights["kernel"].shape[:2], dilation)
        return self.op("Conv", x, self.oihw(weights["kernel"]), self.constant(weights["bias"]), **options)

    def dense(self, x: str, weights: Weights) -> str:
        """A matrix product over channels: ``kernel`` (in, out)."""
        return self.conv(x, {"kernel": np.asarray(weights["kernel"])[None, None], "bias": weights["bias"]})

    def oihw(self, kernel: Any) -> str:
        return self.constant(np.asarray(kernel).transpose(3, 2, 0, 1))

    def reflect(self, x: str, axis: int) -> str:
        """Padded by reflection to a multiple of the stride; ONNX's own does not pad the narrowest of images."""
        zero, one, stride = (self.constant(n, "int64") for n in (0, 1, self._model.config.stride))
        length = self.op("Squeeze", self.op("Shape", x, start=axis, end=axis + 1))
        padded = self.op("Add", length, self.op("Mod", self.op("Neg", length), stride))
        twice = self.op("Sub", self.op("Add", length, length), self.constant(2, "int64"))
        period = self.op("Max", twice, one)
        there = self.op("Mod", self.op("Range", zero, padded, one), period)
        return self.op("Gather", x, self.op("Min", there, self.op("Sub", period, there)), axis=axis)

    def window_means(self, x: str, side: int) -> str:
        """As ``pooling.window_means``."""
        shape = self.op("Concat", self.ints(1, 1), self.op("Shape", x, start=HEIGHT), axis=0)
        ones = self.op("Expand", self.constant(1.0), shape)
        return self.op("Div", self.window_sums(x, side), self.window_sums(ones, side))

    def window_sums(self, x: str, side: int) -> str:
        """The sums over windows, of each for itself: first over cells, then over these."""
        cell = cell_of(side)
        window = max(round(side / cell), 1)
        sums = self.sums(x, cell, self.op("Mod", self.op("Neg", self.op("Shape", x, start=HEIGHT)), self.ints(cell)))
        cells = self.op("Shape", sums, start=HEIGHT)
        # Zeros behind the last, so that there is a window from every cell, also where there are fewer than it has.
        sums = self.sums(sums, window, self.ints(window - 1, window - 1), stride=1)
        zero, one = (self.constant(n, "int64") for n in (0, 1))
        for axis in (HEIGHT, WIDTH):
            count = self.op("Gather", cells, self.constant(axis - HEIGHT, "int64"))
            last = self.op("Max", self.op("Sub", count, self.constant(window, "int64")), zero)
            starts = self.op("Sub", self.op("Range", zero, count, one), self.constant(window // 2, "int64"))
            sums = self.op("Gather", sums, self.op("Min", self.op("Max", starts, zero), last), axis=axis)
        return sums

    def sums(self, x: str, side: int, behind: str, stride: int | None = None) -> str:
        """Sums over squares, in steps of their side or ``stride``, with so many zeros behind."""
        if side == 1:
            return x
        x = self.op("Pad", x, self.op("Concat", self.ints(0, 0, 0, 0, 0, 0), behind, axis=0))
        mean = self.op("AveragePool", x, kernel_shape=[side, side], strides=[stride or side] * 2)
        return self.op("Mul", mean, self.constant(side**2))

    def spread(self, nodes: str, side: int, like: str) -> str:
        """As ``pooling.spread``, to the size of the tensor ``like``."""
        cell = cell_of(side)
        if cell == 1:
            return nodes
        options = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
        scale = self.op("Resize", nodes, "", self.constant([1, 1, cell, cell]), **options)
        return self.op("Slice", scale, self.ints(0, 0), self.op("Shape", like, start=HEIGHT), self.ints(HEIGHT, WIDTH))


def _same(taps: Sequence[int], dilation: int) -> dict[str, list[int]]:
    """Attributes of a convolution that keeps the size."""
    reach = [dilation * (n - 1) // 2 for n in taps]
    return {"pads": [*reach, *reach], "dilations": [dilation, dilation]}
