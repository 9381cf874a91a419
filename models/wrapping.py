"""wrapping: a foreign classifier -> the same network behind our input and outputs, by a few nodes before and after it.

    image > numbers of each channel > NHWC > [the network, in single precision] > logits of probabilities > logits, evidence

Its names get a prefix and so do ours, so that none meet. A batch that was fixed at export is freed where the graph allows it. `check`
compares the new file with the old one, row by row: one that answers otherwise, or whose rows hang on their neighbours, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from models.foreign import Looked, Shown, Unusable, maker
from models.manifest import Recipe
from models.runtime import Floats, Foreign, NetworkError, Session

OPSET = 13  # the first with int8 weights of each channel (QuantizeLinear's axis)
IR_VERSION = 4  # the first whose weights need not be inputs
PREFIX = "network/"  # of its names
OWN = "vitalcheck/"  # of those between
LEAST = 1e-7  # of a probability, before its logarithm
BATCH = 5  # slices at once when it is compared
TOLERANCE = 1e-3  # of probabilities and, as share of the largest, of logits and maps: another order of sums
HALF_TOLERANCE = 2e-2  # the same where the original rounded after each layer to the 11 bits of half precision
AS_IT_IS = Recipe(mean=0.0, std=1.0)  # grey from 0 to 1
OTHERS = (TensorProto.FLOAT16, TensorProto.DOUBLE)  # a CPU has no kernels for the one; int8 has scales for neither


def wrapped(looked: Looked, shown: Shown, labels: Sequence[str], recipe_id: str) -> Any:
    """The onnx.ModelProto that keeps to our contract; `shown` is put into the graph. Raises Unusable."""
    model = compose.add_prefix(_single(_modern(looked)), PREFIX)
    model.ir_version = max(model.ir_version, IR_VERSION)
    graph = model.graph
    before, weights = _before(looked, shown)
    after = _after(looked, graph)
    outputs = [("logits", ["batch", len(labels)])] + ([("evidence", ["batch", len(labels), None, None])] if looked.given.map else [])
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(_reached(nodes, [name for name, _ in outputs]))
    graph.initializer.extend(weights)
    side = looked.taken.size
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", looked.taken.channels, side, side]))
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs)
    helper.set_model_props(model, {"labels": ",".join(labels), "recipe": recipe_id})
    return model


def _modern(looked: Looked) -> Any:
    version = next((entry.version for entry in looked.model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version >= OPSET:
        return looked.model
    try:
        return onnx.version_converter.convert_version(looked.model, OPSET)
    except Exception as error:
        raise Unusable(f"{looked.path}: opset {version} cannot be brought to {OPSET} ({error}); export it with {OPSET} or later") from error


def _single(model: Any) -> Any:
    """A copy whose constants and casts of half and double precision are of single precision."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = [attribute.t for node in copy.graph.node for attribute in node.attribute if attribute.type == onnx.AttributeProto.TENSOR]
    for tensor in (*copy.graph.initializer, *constants):
        if tensor.data_type in OTHERS:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for attribute in (entry for node in copy.graph.node if node.op_type == "Cast" for entry in node.attribute):
        if attribute.name == "to" and attribute.i in OTHERS:
            attribute.i = TensorProto.FLOAT
    return copy


def _before(looked: Looked, shown: Shown) -> tuple[list[Any], list[Any]]:
    """Nodes from `image` to the network's input, and their constants."""
    taken, nodes, at, weights = looked.taken, list[Any](), "image", list[Any]()
    if shown != Shown():
        factor, less = (shown.of(np.full((1, taken.channels, 1, 1), grey, np.float32)) for grey in (1.0, 0.0))
        weights = [numpy_helper.from_array(factor - less, f"{OWN}factor"), numpy_helper.from_array(less, f"{OWN}less")]
        nodes += [_node("Mul", [at, weights[0].name], "scaled"), _node("Add", [f"{OWN}scaled", weights[1].name], "shown")]
        at = f"{OWN}shown"
    if taken.layout == "nhwc":
        nodes.append(_node("Transpose", [at], "nhwc", perm=[0, 2, 3, 1]))
        at = f"{OWN}nhwc"
    return [*nodes, helper.make_node("Identity", [at], [PREFIX + taken.name], name=f"{OWN}image")], weights


def _after(looked: Looked, graph: Any) -> list[Any]:
    """Nodes from the network's outputs to `logits` and `evidence`."""
    given = looked.given
    made = maker(graph, PREFIX + given.logits)
    source = made.input[0] if made is not None and given.node else PREFIX + given.logits
    nodes = [_node("Flatten", [source], "flat", axis=1), _node("Cast", [f"{OWN}flat"], "single", to=TensorProto.FLOAT)]
    at = f"{OWN}single"
    if given.probabilities:
        nodes += _log(at, "")
        at = f"{OWN}log"
    if given.alone:
        nodes += [_node("Sub", [at, at], "zero"), _node("Concat", [f"{OWN}zero", at], "two", axis=1)]
        at = f"{OWN}two"
    nodes.append(helper.make_node("Identity", [at], ["logits"], name=f"{OWN}logits"))
    if given.map:
        nodes.append(_node("Cast", [PREFIX + given.map], "map", to=TensorProto.FLOAT))
        nodes += _log(f"{OWN}map", "map_") if given.map_probabilities else []
        perm, cells = [0, 3, 1, 2] if given.map_last else [0, 1, 2, 3], "map_log" if given.map_probabilities else "map"
        nodes.append(helper.make_node("Transpose", [OWN + cells], ["evidence"], name=f"{OWN}evidence", perm=perm))
    return nodes


def _log(probabilities: str, called: str) -> list[Any]:
    """Their logarithm, in OWN + `called` + log."""
    least = helper.make_tensor("least", TensorProto.FLOAT, [], [LEAST])
    return [
        _node("Constant", [], f"{called}least", value=least),
        _node("Max", [probabilities, f"{OWN}{called}least"], f"{called}likely"),
        _node("Log", [f"{OWN}{called}likely"], f"{called}log"),
    ]


def _node(kind: str, inputs: list[str], output: str, **more: Any) -> Any:
    return helper.make_node(kind, inputs, [OWN + output], name=f"{OWN}{output}", **more)


def _reached(nodes: list[Any], wanted: Sequence[str]) -> list[Any]:
    """Those of `nodes`, in order, that `wanted` outputs hang on."""
    needed, kept = set(wanted), []
    for node in reversed(nodes):  # a graph is in topological order (ONNX IR specification)
        if needed & set(node.output):
            needed |= set(_read(node))
            kept.append(node)
    return kept[::-1]


def _read(node: Any) -> Iterator[str]:
    """The names that a node reads, and those that the graphs within it (If, Loop) do."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read(inner)


def freed(model: Any, batch: int) -> Any:
    """A copy whose Reshapes to a fixed `batch` keep the batch that comes in (0: "as it was")."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    shapes = {node.input[1] for node in copy.graph.node if node.op_type == "Reshape"}
    constants = {node.output[0]: node.attribute[0].t for node in copy.graph.node if node.op_type == "Constant" and node.attribute}
    constants |= {tensor.name: tensor for tensor in copy.graph.initializer}
    for name in shapes & constants.keys():
        shape = numpy_helper.to_array(constants[name]).copy()
        if shape.size and shape[0] == batch:
            shape[0] = 0
            constants[name].CopyFrom(numpy_helper.from_array(shape, constants[name].name))
    return copy


def check(path: Path, looked: Looked, shown: Shown, labels: int, recipe: Recipe = AS_IT_IS) -> None:
    """Compares the wrapped file at `path` with the one it was made of, which reads one picture after the other. Raises Unusable.

    Both are fed noise as they will be fed in service: by the recipe, and `shown` within the graph.
    """
    noise = np.random.default_rng(1).random((BATCH, looked.taken.channels, looked.taken.size, looked.taken.size), np.float32)
    grey = np.asarray((noise - recipe.mean) / recipe.std, np.float32)
    advice = "export it with a free first axis"
    try:
        ours, theirs = Session(path).run(grey), _one_by_one(looked, shown.of(grey))
    except NetworkError as error:
        raise Unusable(f"{looked.path}: does not run on {BATCH} slices at once; {advice} ({error})") from error
    near = _tolerance(looked.model.graph)
    if ours.logits.shape != (BATCH, labels) or _differ(_said(ours.logits, looked), np.stack([logits for logits, _ in theirs]), near):
        raise Unusable(f"{looked.path}: {BATCH} slices at once get other answers than one by one; {advice}")
    maps = [cells for _, cells in theirs if cells is not None]
    if ours.evidence is not None and _differ(ours.evidence, np.stack(maps), near):
        raise Unusable(f"{looked.path}: its map of {BATCH} slices at once is another than one by one; {advice}")


def _tolerance(graph: Any) -> float:
    return HALF_TOLERANCE if any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer) else TOLERANCE


def _differ(ours: NDArray[Any], theirs: NDArray[Any], near: float) -> bool:
    return ours.shape != theirs.shape or not np.abs(ours - theirs).max() <= near * max(1.0, np.abs(theirs).max())  # nan differs, too


def _one_by_one(looked: Looked, pictures: Floats) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
    """What the foreign file says of each of `pictures` (slice, channel, size, size). Raises NetworkError."""
    original, copies = Foreign(looked.path), looked.taken.batch or 1
    return [_first(original.run(looked.taken.fed(np.repeat(picture, copies, 0))), looked) for picture in pictures[:, None]]


def _first(answers: dict[str, NDArray[Any]], looked: Looked) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """What a foreign file says of the first row: numbers of the labels, and its map (label, row, column)."""
    cells = answers[looked.given.map][0].astype(np.float32) if looked.given.map else None
    if cells is not None and looked.given.map_last:
        cells = cells.transpose(2, 0, 1)
    if cells is not None and looked.given.map_probabilities:
        cells = np.log(np.maximum(cells, LEAST))
    return answers[looked.given.logits][0].astype(np.float32).ravel(), cells


def _said(logits: Floats, looked: Looked) -> NDArray[Any]:
    """Our logits as the foreign file would say them."""
    given, said = looked.given, logits[:, 1:].astype(np.float64) if looked.given.alone else logits.astype(np.float64)
    if given.node == "Sigmoid":
        return 1 / (1 + np.exp(-said))
    if given.node == "Softmax" or given.probabilities:
        shares = np.exp(said - said.max(1, keepdims=True))
        return np.asarray(shares / shares.sum(1, keepdims=True))
    return said
