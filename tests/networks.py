"""Small classifiers as others export them: computed and not learnt, they find what is bright. Every one takes one picture a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LABELS = ("glioma", "meningioma", "notumor", "pituitary")
TYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
BRIGHT = 0.8  # of white; what is brighter counts
CELL = 8  # pixels

Ends = Literal["logits", "softmax", "softmax, renamed", "softmax, hidden", "log", "sigmoid", "one sigmoid", "one logit"]


class Kind(NamedTuple):
    """How it was exported."""

    layout: Literal["nchw", "nhwc"] = "nchw"
    size: int = 96
    channels: int = 3
    ends: Ends = "logits"
    batch: int | str = "batch"
    type: int = TensorProto.FLOAT
    map: bool = False
    opset: int = 17
    labels: int = 4  # of its output; "one sigmoid" and "one logit" have one number for two

    @property
    def shape(self) -> list[int | str]:
        sides, channels = [self.size, self.size], [self.channels]
        return [self.batch, *(channels + sides if self.layout == "nchw" else sides + channels)]


def write(path: Path, kind: Kind = Kind()) -> Path:  # noqa: B008 - a constant
    onnx.save(network(kind), path)
    return path


def network(kind: Kind) -> Any:
    """image > [NCHW] > brightness over BRIGHT > a map of cells > their mean > a number for each label > as `kind` ends"""
    node, many = helper.make_node, 1 if kind.ends.startswith("one") else kind.labels
    nodes = [node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2])] if kind.layout == "nhwc" else []
    nodes += [
        node("Conv", [nodes[0].output[0] if nodes else "image", "blur", "bound"], ["over"], strides=[CELL, CELL]),
        node("Relu", ["over"], ["bright"]),
        node("Conv", ["bright", "cells", "prior"], ["map"]),
        node("GlobalAveragePool", ["map"], ["pooled"]),
        node("Reshape", ["pooled", "flat"], ["each"]),
        node("MatMul", ["each", "last"], ["scores"]),
        *_ending(kind.ends),
    ]
    outputs = [helper.make_tensor_value_info("answer", kind.type, [kind.batch, many])]
    if kind.map:
        outputs.append(helper.make_tensor_value_info("map", kind.type, [kind.batch, many, None, None]))
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("image", kind.type, kind.shape)],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in _weights(kind, many).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", kind.opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _ending(ends: Ends) -> list[Any]:
    node = helper.make_node
    return {
        "logits": [node("Identity", ["scores"], ["answer"])],
        "softmax": [node("Softmax", ["scores"], ["answer"], axis=1)],
        "softmax, renamed": [node("Softmax", ["scores"], ["shares"], axis=1), node("Identity", ["shares"], ["answer"])],
        "softmax, hidden": [node("Softmax", ["scores"], ["shares"], axis=1), node("Abs", ["shares"], ["answer"])],
        "log": [node("LogSoftmax", ["scores"], ["answer"], axis=1)],
        "sigmoid": [node("Sigmoid", ["scores"], ["answer"])],
        "one sigmoid": [node("Sigmoid", ["scores"], ["answer"])],
        "one logit": [node("Identity", ["scores"], ["answer"])],
    }[ends]


def _weights(kind: Kind, many: int) -> dict[str, NDArray[Any]]:
    """The first label is for what is bright, the third (of two: the second) for nothing; the others are never likeliest."""
    rng, number = np.random.default_rng(many), TYPES[kind.type]
    blur = np.full((4, kind.channels, CELL, CELL), 1 / (kind.channels * CELL**2))
    blur[1:] *= rng.uniform(0.3, 0.8, (3, 1, 1, 1))  # three channels more, so that there is something to quantise
    cells = np.zeros((many, 4, 1, 1))
    cells[0, 0] = 400.0
    cells[1:] = rng.normal(0, 0.3, (many - 1, 4, 1, 1))
    prior = np.full(many, -6.0)
    prior[0], prior[min(2, many - 1)] = -4.0, 0.0 if many > 1 else -4.0
    flat = np.array([kind.batch if isinstance(kind.batch, int) else -1, many], np.int64)
    found = {"blur": blur, "bound": np.array([-BRIGHT, 0.0, 0.0, 0.0]), "cells": cells, "prior": prior, "last": np.eye(many)}
    return {name: array.astype(number) for name, array in found.items()} | {"flat": flat}
