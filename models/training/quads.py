"""The integer beginning, rewritten so that ONNX Runtime reads four pixels at a time.

For an integer convolution ONNX Runtime collects what lies under the kernel pixel by pixel; over one channel that is byte by byte, and took
longer than the products (measured: half of that layer, a tenth of the network, at 24 slices on one thread). Squares of 2 x 2 pixels as four
channels are collected in a third of the steps. In floating point the same change gains nothing, so fp32 keeps its convolution.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BEFORE = {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2], "strides": [2, 2]}
AFTER = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}


def by_quads(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, its integer 5 x 5 convolution over one channel at stride 2 as 3 x 3 over four; any other model as it is.

    The products and their sums are the same, so every answer is, bit by bit; but for x86 without VNNI, where two products are added in
    16 bits and now are others' neighbours.
    """
    graph, made = model.graph, {name: node for node in model.graph.node for name in node.output}
    door = next((node for node in graph.node if node.op_type == "QuantizeLinear"), None)
    conv = next((node for node in graph.node if node.op_type == "Conv"), None)
    if door is None or conv is None or conv.input[1] not in made:  # the weights of floating point are nobody's output
        return model
    ints = {attribute.name: attribute for attribute in conv.attribute}
    weights = made[made[conv.input[1]].input[0]].attribute[0].t
    if weights.dims[1] != 1 or any(list(ints[name].ints) != wanted for name, wanted in BEFORE.items()):
        return model
    weights.CopyFrom(numpy_helper.from_array(_quads_of(numpy_helper.to_array(weights)), weights.name))
    for name, value in AFTER.items():
        ints[name].ints[:] = value
    _insert(graph, door.output[0], [size.dim_value for size in graph.input[0].type.tensor_type.shape.dim[2:]])
    return model


def _quads_of(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    """(o, 1, 5, 5) -> (o, 4, 3, 3): a sixth row and column of zeros, then squares of 2 x 2."""
    even = np.pad(weights, ((0, 0), (0, 0), (0, 1), (0, 1)))
    return np.ascontiguousarray(even.reshape(-1, 3, 2, 3, 2).transpose(0, 2, 4, 1, 3).reshape(-1, 4, 3, 3))


def _insert(graph: onnx.GraphProto, integers: str, sides: list[int]) -> None:
    """(n, 1, h, w) -> (n, 4, h/2, w/2) behind `integers`; its last step is what ONNX Runtime undoes for its own layout, so both vanish."""
    high, wide = (side // 2 for side in sides)
    shapes = {"squares": [-1, high, 2, wide, 2], "pixels_last": [-1, high, wide, 4]}
    graph.initializer.extend(numpy_helper.from_array(np.array(shape, np.int64), f"quads/{name}") for name, shape in shapes.items())
    readers = [node for node in graph.node if integers in node.input]
    steps = [
        helper.make_node("Reshape", [integers, "quads/squares"], ["quads/1"]),
        helper.make_node("Transpose", ["quads/1"], ["quads/2"], perm=[0, 1, 3, 2, 4]),
        helper.make_node("Reshape", ["quads/2", "quads/pixels_last"], ["quads/3"]),
        helper.make_node("Transpose", ["quads/3"], ["quads/4"], perm=[0, 3, 1, 2]),
    ]
    for node in readers:
        node.input[list(node.input).index(integers)] = "quads/4"
    at = list(graph.node).index(readers[0])
    for k, step in enumerate(steps):
        graph.node.insert(at + k, step)
    del graph.value_info[:]  # shapes of before
