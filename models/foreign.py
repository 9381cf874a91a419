"""foreign: what does somebody's ONNX classifier take and give? From the file where it says so, from its answers to noise, else as told.

    open | its one input: layout, channels, size, batch | its answers to noise: which are logits, are they probabilities, is one a map?

Everything found or assumed is a sentence in `remarks`. What the file contradicts is an error and not a guess. `wrapping` makes the file
one of ours. The package onnx is in the extras `import` and `train`; a serving process never comes here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto

from models.runtime import Floats, Foreign, NetworkError

Layout = Literal["nchw", "nhwc"]
Kind = Literal["logits", "softmax"]
MOST_CHANNELS = 16  # of a Recipe; a longer axis is a picture's side
LEAST_SIZE = 16
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
SUMS_TO_ONE = 1e-3  # of probabilities, in half precision too
THROUGH = ("Identity", "Cast", "Reshape", "Flatten")  # kinds of nodes that change no number


class Unusable(Exception):
    """A file that cannot be imported, or not as told; the message says what is wrong with it and what would help."""


class Shown(NamedTuple):
    """How the network wants its channels: (grey 0..1 * scale - mean) / std, each mean and std one number or one for each channel."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def alike(self) -> bool:
        """Whether all channels want the same: then the recipe says it."""
        return len(self.mean) == len(self.std) == 1

    def of(self, grey: Floats) -> Floats:
        """(slice, channel, size, size), 0..1 -> what the network wants."""
        mean, std = (np.array(numbers, np.float32).reshape(-1, 1, 1) for numbers in (self.mean, self.std))
        return np.asarray((grey * np.float32(self.scale) - mean) / std, np.float32)


class Told(NamedTuple):
    """What the user says of the file; None where we are to look."""

    layout: Layout | None = None
    channels: int | None = None
    size: int | None = None
    gives: Kind | None = None
    output: str | None = None
    map: str | None = None


class Taken(NamedTuple):
    """The input."""

    name: str
    type: int  # TensorProto's
    layout: Layout
    channels: int
    size: int
    batch: int | None  # None: any

    def fed(self, pictures: NDArray[np.float32]) -> NDArray[Any]:
        """Pictures (slice, channel, size, size) as this input wants them."""
        turned = pictures.transpose(0, 2, 3, 1) if self.layout == "nhwc" else pictures
        return np.ascontiguousarray(turned, FLOATS[self.type])


class Given(NamedTuple):
    """The outputs."""

    logits: str  # name of the output
    node: Literal["Softmax", "Sigmoid"] | None  # that makes it, and is taken off: its input are the logits
    probabilities: bool  # without such a node: their logarithm is taken
    alone: bool  # one number for two labels: the logit of the second
    map: str | None  # name of the output
    map_last: bool  # its labels are the last axis
    map_probabilities: bool = False  # of its labels: their logarithm is taken


@dataclass(frozen=True)
class Looked:
    """A file and what it is."""

    path: Path
    model: Any  # onnx.ModelProto
    taken: Taken
    given: Given
    remarks: tuple[str, ...]


def look(path: Path, labels: int, told: Told, shown: Shown = Shown()) -> Looked:  # noqa: B008 - a constant
    """What the classifier at `path` takes and gives where it is fed as `shown`. Raises Unusable."""
    model = opened(path)
    taken, remarks = _taken(path, model.graph, told)
    given, more = _given(path, model.graph, _answers(path, taken, shown), labels, told, taken.layout)
    return Looked(path, model, taken, given, (*remarks, *more))


def opened(path: Path) -> Any:
    """The file as onnx.ModelProto. Raises Unusable."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise Unusable(f"{path}: cannot be read ({error.strerror or error})") from error
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise Unusable(f"{path}: not an ONNX file that onnx accepts ({why[0]}); export the network to ONNX, opset 13 or later") from error
    return model


def _taken(path: Path, graph: Any, told: Told) -> tuple[Taken, list[str]]:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs) or "none"
        raise Unusable(f"{path}: takes {len(inputs)} inputs ({names}); a slice is one picture, so export it with one input")
    name, tensor = inputs[0].name, inputs[0].type.tensor_type
    if tensor.elem_type not in FLOATS:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise Unusable(f"{path}: its input {name} is {kind}, not floating point; export it with its input as float32")
    axes = [axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in tensor.shape.dim]
    if len(axes) != 4:
        raise Unusable(f"{path}: its input {name} has {len(axes)} axes, not 4 (batch, picture, channels); export it for pictures")
    layout = _layout(path, axes[1:], told)
    channels, *sides = (axes[1], axes[2], axes[3]) if layout == "nchw" else (axes[3], axes[1], axes[2])
    taken = Taken(
        name,
        tensor.elem_type,
        layout,
        _one(path, "channels", channels, told.channels),
        _one(path, "size", _square(path, sides), told.size),
        axes[0],
    )
    batch = "any number at once" if taken.batch is None else f"{taken.batch} at once"
    single = ", half precision made single" if taken.type == TensorProto.FLOAT16 else ""
    assumed = " as told" if told.layout and _possible(axes[1:]) != [told.layout] else ""
    return taken, [f"Input {name}: {layout}{assumed}, {taken.channels} channels, {taken.size} x {taken.size} pixels, {batch}{single}."]


def _possible(axes: list[int | None]) -> list[Layout]:
    """The layouts that axes (without the batch) allow: a picture's sides are alike and longer than its channels are many."""

    def fits(channels: int | None, *sides: int | None) -> bool:
        return (channels or 1) <= MOST_CHANNELS and min(side or LEAST_SIZE for side in sides) >= LEAST_SIZE

    found: list[Layout] = []
    if fits(axes[0], axes[1], axes[2]):
        found.append("nchw")
    if fits(axes[2], axes[0], axes[1]):
        found.append("nhwc")
    return found


def _layout(path: Path, axes: list[int | None], told: Told) -> Layout:
    possible, shape = _possible(axes), " x ".join(str(axis or "?") for axis in axes)
    if told.layout is not None:
        if told.layout not in possible:
            other = f"; it is {possible[0]}" if possible else ""
            raise Unusable(f"{path}: --layout {told.layout} does not fit its input of {shape}{other}")
        return told.layout
    if not possible:
        wanted = f"a square of {LEAST_SIZE} pixels or more with 1 to {MOST_CHANNELS} channels"
        raise Unusable(f"{path}: takes {shape} a slice, not {wanted}; export it with an input of four axes that says so")
    if len(possible) == 2:
        raise Unusable(f"{path}: an input of {shape} does not say where its channels are; say --layout nchw or --layout nhwc")
    return possible[0]


def _square(path: Path, sides: list[int | None]) -> int | None:
    known = {side for side in sides if side}
    if len(known) > 1:
        raise Unusable(f"{path}: takes pictures of {sides[0]} x {sides[1]}; slices are prepared as squares, so export it for a square one")
    return known.pop() if known else None


def _one(path: Path, what: str, found: int | None, told: int | None) -> int:
    """The file's number, or the one that was told where the file leaves it open."""
    if found and told and found != told:
        raise Unusable(f"{path}: --{what} {told}, but its input says {found}; leave the option out")
    if not found and not told:
        raise Unusable(f"{path}: its input leaves its {what} open; say which it learnt with: --{what} N")
    return found or told or 0


def _answers(path: Path, taken: Taken, shown: Shown) -> dict[str, NDArray[Any]]:
    """What it gives for two pictures of noise, or as many as it wants. Raises Unusable."""
    if wrong := {len(shown.mean), len(shown.std)} - {1, taken.channels}:
        raise Unusable(f"--mean, --std: {wrong.pop()} numbers for {taken.channels} channels; give one, or one for each channel")
    noise = np.random.default_rng(0).random((taken.batch or 2, taken.channels, taken.size, taken.size), np.float32)
    try:
        answers = Foreign(path).run(taken.fed(shown.of(noise)))
    except NetworkError as error:
        advice = "; export it in single precision (float32)" if taken.type == TensorProto.DOUBLE else ""
        raise Unusable(f"{error}{advice}") from error
    for name, values in answers.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Unusable(f"{path}: its output {name} is not finite for a picture of noise; the file is damaged, or its numbers overflow")
    return answers


def _given(path: Path, graph: Any, answers: dict[str, NDArray[Any]], labels: int, told: Told, layout: Layout) -> tuple[Given, list[str]]:
    name = _named(path, "output", told.output, answers) or _logits_of(path, answers)
    node, alone = _last_kind(graph, name), _alone(path, name, answers[name], labels)
    values = answers[name].reshape(len(answers[name]), -1)
    within = bool((values >= 0).all() and (values <= 1).all())
    sums = not alone and within and bool(np.allclose(values.sum(1), 1.0, atol=SUMS_TO_ONE))
    if within and not sums and node is None and told.gives != "logits":
        many = "one number" if alone else f"{labels} numbers that do not sum to 1"
        why = f"its output {name} has {many}, from 0 to 1 and of no Sigmoid that could be taken off"
        raise Unusable(f"{path}: {why}; export its logits, or say --gives logits")
    _check_gives(path, name, told.gives, node or ("sum of 1" if sums else None))
    remarks = [_read_as(name, node, sums, alone)]
    map_name = _named(path, "map", told.map, answers) or _map_of(answers, name, labels)
    remarks += _could_be_maps(answers, {name, map_name}, labels)
    map_last = map_name is not None and _labels_last(path, map_name, answers[map_name].shape, labels, layout)
    map_sums = map_name is not None and _shares(path, graph, map_name, answers[map_name], 3 if map_last else 1)
    if map_name:
        held = " of probabilities (they sum to 1), whose logarithm is taken" if map_sums else ""
        remarks.append(f"Output {map_name}: a map of {' x '.join(map(str, answers[map_name].shape[1:]))}{held}; it decides the finding.")
    return Given(name, node, sums and node is None, alone, map_name, map_last, map_sums), remarks


def _shares(path: Path, graph: Any, name: str, cells: NDArray[Any], axis: int) -> bool:
    """Whether the labels of each cell are probabilities, where what decides weighs logits. Raises Unusable where each is one for itself."""
    if _last_kind(graph, name) == "Sigmoid":
        raise Unusable(f"{path}: its map {name} ends in a Sigmoid; export what goes into that, or leave --map out")
    return bool((cells >= 0).all() and np.allclose(cells.sum(axis), 1.0, atol=SUMS_TO_ONE))


def _named(path: Path, option: str, name: str | None, answers: dict[str, NDArray[Any]]) -> str | None:
    if name is not None and name not in answers:
        raise Unusable(f"{path}: --{option} {name}: it has no output of that name; it has {', '.join(answers)}")
    return name


def _logits_of(path: Path, answers: dict[str, NDArray[Any]]) -> str:
    """The output with one number for each label: the one called logits, else the only one that could be it."""
    if "logits" in answers:
        return "logits"
    flat = [name for name, values in answers.items() if values.ndim >= 2 and values.size == len(values) * values.shape[1]]
    if len(flat) != 1:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in answers.items())
        why = "several outputs" if flat else "no output"
        raise Unusable(f"{path}: {why} of (batch, label) (has {shapes}); say --output NAME, or export one with one number for each label")
    return flat[0]


def _alone(path: Path, name: str, values: NDArray[Any], labels: int) -> bool:
    """Whether it gives one number for two labels. Raises Unusable where its numbers are not those of the labels."""
    if values.ndim < 2 or values.size != len(values) * values.shape[1]:
        raise Unusable(f"{path}: its output {name} is {values.shape}, not (batch, label); name another one with --output")
    found = values.shape[1]
    if (found, labels) == (1, 2):
        return True
    if found != labels:
        raise Unusable(f"{path}: its output {name} has {found} numbers, --labels names {labels}; name as many, in the order of the outputs")
    return False


def maker(graph: Any, name: str) -> Any:
    """The node that makes an output, seen through those that change no number; None where that is the input."""
    made = {output: node for node in graph.node for output in node.output}
    node = made.get(name)
    while node is not None and node.op_type in THROUGH:
        node = made.get(node.input[0])
    return node


def _last_kind(graph: Any, name: str) -> Literal["Softmax", "Sigmoid"] | None:
    """The kind of the node that makes an output, where it makes probabilities of logits."""
    kinds: tuple[Literal["Softmax", "Sigmoid"], ...] = ("Softmax", "Sigmoid")
    made_by = maker(graph, name)
    return next((kind for kind in kinds if made_by is not None and kind == made_by.op_type), None)


def _check_gives(path: Path, name: str, gives: Kind | None, found: str | None) -> None:
    """`found` is what shows that the output holds probabilities. Raises Unusable where --gives says otherwise."""
    if gives == "logits" and found:
        raise Unusable(f"{path}: --gives logits, but its output {name} holds probabilities ({found}); leave the option out")
    if gives == "softmax" and found in (None, "Sigmoid"):
        raise Unusable(f"{path}: --gives softmax, but what its output {name} holds does not sum to 1; leave the option out")


def _read_as(name: str, node: str | None, sums: bool, alone: bool) -> str:
    """A sentence on the output."""
    second = " of the second label, the first has 0" if alone else ""
    if node:
        each = ", each label for itself" if node == "Sigmoid" and not alone else ""
        return f"Output {name}: probabilities of a last {node}{each}, which is taken off, so that logits remain{second and ':' + second}."
    if sums:
        return f"Output {name}: probabilities (they sum to 1), whose logarithm is taken."
    return f"Output {name}: {'one logit' + second if alone else 'logits (they do not sum to 1)'}."


def _map_of(answers: dict[str, NDArray[Any]], logits: str, labels: int) -> str | None:
    """The output called evidence, where it has a number for each label and cell: no other decides findings unasked."""
    return next((name for name, values in answers.items() if name == "evidence" != logits and _is_map(values, labels)), None)


def _is_map(values: NDArray[Any], labels: int) -> bool:
    return values.ndim == 4 and labels in (values.shape[1], values.shape[3]) and min(values.shape[1:]) > 1


def _could_be_maps(answers: dict[str, NDArray[Any]], read: set[str | None], labels: int) -> list[str]:
    """A sentence on each output that would be a map if it were told."""
    found = [name for name, values in answers.items() if name not in read and _is_map(values, labels)]
    return [f"Output {name}: not read; it looks like a map, and would decide the finding with --map {name}." for name in found]


def _labels_last(path: Path, name: str, shape: tuple[int, ...], labels: int, layout: Layout) -> bool:
    if len(shape) != 4 or labels not in (shape[1], shape[3]):
        raise Unusable(f"{path}: its map {name} is {shape}, not (batch, {labels} labels, rows, columns); leave --map out")
    return shape[1] != labels or (shape[3] == labels and layout == "nhwc")
