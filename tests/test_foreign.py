"""What somebody's ONNX file takes and gives: found out, assumed aloud, or refused in one line that says how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import Kind, network, write
from onnx import TensorProto, helper, numpy_helper

from models import foreign
from models.foreign import Shown, Told, Unusable


def look(folder: Path, kind: Kind, told: Told = Told(), labels: int = 0) -> foreign.Looked:  # noqa: B008 - a constant
    path = write(folder / "net.onnx", kind)
    return foreign.look(path, labels or (2 if kind.ends.startswith("one") else kind.labels), told)


def cut(model: Any, inputs: list[Any], nodes: list[Any] | None = None) -> Any:
    """`model` with other inputs and perhaps other nodes."""
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    if nodes is not None:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return model


def image(*shape: int | str, kind: int = TensorProto.FLOAT, name: str = "image") -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.mark.parametrize(
    ("kind", "layout", "size", "batch"),
    [
        (Kind(), "nchw", 96, None),
        (Kind(layout="nhwc", size=240), "nhwc", 240, None),
        (Kind(batch=1), "nchw", 96, 1),
        (Kind(channels=1, type=TensorProto.FLOAT16), "nchw", 96, None),
    ],
)
def test_input_is_found_out(tmp_path: Path, kind: Kind, layout: str, size: int, batch: int | None) -> None:
    """Layout, channels, size and batch are read off the input's shape."""
    taken = look(tmp_path, kind).taken

    assert (taken.layout, taken.size, taken.batch, taken.channels, taken.type) == (layout, size, batch, kind.channels, kind.type)


@pytest.mark.parametrize(
    ("kind", "node", "probabilities", "alone", "said"),
    [
        (Kind(), None, False, False, "logits (they do not sum to 1)"),
        (Kind(ends="log"), None, False, False, "logits"),
        (Kind(ends="softmax"), "Softmax", False, False, "a last Softmax, which is taken off"),
        (Kind(ends="softmax, renamed"), "Softmax", False, False, "a last Softmax, which is taken off"),
        (Kind(ends="softmax, hidden"), None, True, False, "they sum to 1), whose logarithm is taken"),
        (Kind(ends="sigmoid", labels=2), "Sigmoid", False, False, "each label for itself"),
        (Kind(ends="one sigmoid"), "Sigmoid", False, True, "of the second label"),
        (Kind(ends="one logit"), None, False, True, "one logit of the second label"),
    ],
)
def test_output_is_found_out(tmp_path: Path, kind: Kind, node: str | None, probabilities: bool, alone: bool, said: str) -> None:
    """Logits or probabilities is found out from the last node and from the answers to noise, and said."""
    looked = look(tmp_path, kind)

    assert (looked.given.node, looked.given.probabilities, looked.given.alone) == (node, probabilities, alone)
    assert said in looked.remarks[1]


def test_a_map_is_taken_where_it_is_told(tmp_path: Path) -> None:
    """A map decides the finding, and that is said; one that nobody names is not taken, and how to take it is said."""
    told, untold = look(tmp_path, Kind(map=True), Told(map="map")), look(tmp_path, Kind(map=True))

    assert (told.given.map, told.given.map_last, untold.given.map) == ("map", False, None)
    assert "Output map: a map of 4 x 12 x 12; it decides the finding." in told.remarks
    assert "Output map: not read; it looks like a map, and would decide the finding with --map map." in untold.remarks


@pytest.mark.parametrize(("source", "axes", "taken"), [("map", 4, "evidence"), ("scores", 2, None)])
def test_an_output_called_evidence(tmp_path: Path, source: str, axes: int, taken: str | None) -> None:
    """It is the map where it has a number for each label and cell; where it has others it is none, and the file is read without."""
    model = network(Kind(map=True))
    model.graph.node.append(helper.make_node("Identity", [source], ["evidence"]))
    model.graph.output.append(helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["batch", 4, None, None][:axes]))
    onnx.save(model, tmp_path / "net.onnx")

    assert foreign.look(tmp_path / "net.onnx", 4, Told(output="answer")).given.map == taken


def with_evidence(kind: str, **more: int) -> Any:
    """A network whose output evidence is its map behind a node of that kind."""
    model = network(Kind(map=True))
    model.graph.node.append(helper.make_node(kind, ["map"], ["evidence"], **more))
    model.graph.output.append(helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["batch", 4, None, None]))
    return model


def test_a_map_of_probabilities_is_seen(tmp_path: Path) -> None:
    """The study rule weighs logits: of what sums to 1 in each cell the logarithm is taken, and said; each for itself is refused."""
    onnx.save(with_evidence("Softmax", axis=1), tmp_path / "net.onnx")
    looked = foreign.look(tmp_path / "net.onnx", 4, Told(output="answer"))
    assert looked.given.map_probabilities
    assert "a map of 4 x 12 x 12 of probabilities (they sum to 1), whose logarithm is taken" in " ".join(looked.remarks)

    onnx.save(with_evidence("Sigmoid"), tmp_path / "net.onnx")
    with pytest.raises(Unusable, match="its map evidence ends in a Sigmoid; export what goes into that"):
        foreign.look(tmp_path / "net.onnx", 4, Told(output="answer"))


def behind(model: Any, *kinds: str) -> Any:
    """`model` with nodes of these kinds behind its answer."""
    model.graph.node[-1].output[0] = "before"
    names = ["before", *(f"behind_{k}" for k in range(len(kinds) - 1)), "answer"]
    more = {"Cast": {"to": TensorProto.FLOAT}, "Flatten": {"axis": 1}}
    for k, kind in enumerate(kinds):
        inputs = [names[k], *(["flat"] if kind == "Reshape" else [])]
        model.graph.node.append(helper.make_node(kind, inputs, [names[k + 1]], **more.get(kind, {})))
    return model


@pytest.mark.parametrize("kind", [Kind(ends="sigmoid", labels=2), Kind(ends="one sigmoid"), Kind(ends="softmax")])
def test_nodes_that_change_no_number_are_seen_through(tmp_path: Path, kind: Kind) -> None:
    """A Sigmoid or Softmax is found behind Identity, Cast, Reshape and Flatten, as frameworks leave them there."""
    onnx.save(behind(network(kind), "Identity", "Cast", "Reshape", "Flatten"), tmp_path / "net.onnx")

    looked = foreign.look(tmp_path / "net.onnx", 2 if kind.ends.startswith("one") else kind.labels, Told())

    assert (looked.given.node, looked.given.probabilities) == ("Softmax" if kind.ends == "softmax" else "Sigmoid", False)


def test_it_is_looked_at_as_it_will_be_fed(tmp_path: Path) -> None:
    """A file whose numbers overflow only with pictures from 0 to 255 is refused where it is to be fed so."""
    model = network(Kind())
    model.graph.node[-1].input[0] = "huge"
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Exp", ["scores"], ["huge"]))
    onnx.save(model, tmp_path / "net.onnx")

    assert foreign.look(tmp_path / "net.onnx", 4, Told(gives="logits"), Shown()).taken.size == 96
    with pytest.raises(Unusable, match="is not finite"):
        foreign.look(tmp_path / "net.onnx", 4, Told(gives="logits"), Shown(255.0))


def test_open_axes_are_told(tmp_path: Path) -> None:
    """A size that the file leaves open is taken from --size, a layout that its shape leaves open from --layout."""
    model = network(Kind())
    path = tmp_path / "open.onnx"
    onnx.save(cut(model, [image("batch", 3, "rows", "columns")]), path)
    assert foreign.look(path, 4, Told(size=64)).taken.size == 64

    onnx.save(cut(network(Kind(channels=16, size=16)), [image("batch", 16, 16, 16)]), path)
    taken = foreign.look(path, 4, Told(layout="nchw"))
    assert taken.taken.layout == "nchw"
    assert "nchw as told" in taken.remarks[0]


def refused(path: Path, why: str, told: Told = Told(), labels: int = 4) -> None:  # noqa: B008 - a constant
    """One line that says where, what is wrong, and after a semicolon how to mend it."""
    with pytest.raises(Unusable) as caught:
        foreign.look(path, labels, told)
    said = str(caught.value)
    assert why in said
    assert str(path) in said
    assert "\n" not in said
    assert "; " in said


@pytest.mark.parametrize(
    ("kind", "told", "labels", "why"),
    [
        (Kind(), Told(), 3, "has 4 numbers, --labels names 3"),
        (Kind(), Told(layout="nhwc"), 4, "--layout nhwc does not fit its input of 3 x 96 x 96; it is nchw"),
        (Kind(), Told(size=224), 4, "--size 224, but its input says 96"),
        (Kind(), Told(channels=1), 4, "--channels 1, but its input says 3"),
        (Kind(channels=16, size=16), Told(), 4, "does not say where its channels are"),
        (Kind(), Told(gives="softmax"), 4, "does not sum to 1"),
        (Kind(ends="softmax"), Told(gives="logits"), 4, "holds probabilities (Softmax)"),
        (Kind(ends="softmax, hidden"), Told(gives="logits"), 4, "holds probabilities (sum of 1)"),
        (Kind(), Told(output="scores"), 4, "no output of that name; it has answer"),
        (Kind(map=True), Told(output="map"), 4, "not (batch, label)"),
        (Kind(), Told(map="answer"), 4, "its map answer is (2, 4)"),
        (Kind(ends="one sigmoid"), Told(), 3, "has 1 numbers, --labels names 3"),
    ],
)
def test_what_the_file_contradicts_is_refused(tmp_path: Path, kind: Kind, told: Told, labels: int, why: str) -> None:
    """Where the file and what is said of it differ, nothing is guessed."""
    refused(write(tmp_path / "net.onnx", kind), why, told, labels)


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ([image("batch", 3, 96, 96), image("batch", 8, name="age")], "takes 2 inputs (image, age)"),
        ([image("batch", 3, 96, 96, kind=TensorProto.UINT8)], "is UINT8, not floating point"),
        ([image("batch", 3, 96)], "has 3 axes, not 4"),
        ([image("batch", 3, 96, 128)], "96 x 128; slices are prepared as squares"),
        ([image("batch", 3, 8, 8)], "takes 3 x 8 x 8 a slice"),
        ([image("batch", 3, "h", "w")], "leaves its size open; say which it learnt with: --size N"),
        ([image("batch", "c", 96, 96)], "leaves its channels open"),
    ],
)
def test_inputs_that_are_no_picture_are_refused(tmp_path: Path, inputs: list[Any], why: str) -> None:
    """An input that is no square picture, or leaves a number open, is refused."""
    path = tmp_path / "net.onnx"
    model = cut(network(Kind()), inputs)
    path.write_bytes(model.SerializeToString())
    refused(path, why)


def test_numbers_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    """Two outputs that could be the logits, numbers between 0 and 1 without a Sigmoid, and answers that are not finite are refused."""
    path, model = tmp_path / "net.onnx", network(Kind())
    model.graph.output.append(helper.make_tensor_value_info("each", TensorProto.FLOAT, ["batch", 4]))
    onnx.save(model, path)
    refused(path, "several outputs of (batch, label) (has answer (2, 4), each (2, 4)); say --output NAME")
    assert foreign.look(path, 4, Told(output="answer")).given.logits == "answer"

    onnx.save(behind(network(Kind(ends="one sigmoid")), "Abs"), path)
    refused(path, "one number, from 0 to 1", labels=2)
    onnx.save(behind(network(Kind(ends="sigmoid")), "Abs"), path)
    refused(path, "4 numbers that do not sum to 1, from 0 to 1 and of no Sigmoid that could be taken off; export its logits")
    assert foreign.look(path, 4, Told(gives="logits")).given.node is None

    model = network(Kind())
    model.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.full(4, np.nan, np.float32), "prior"))
    onnx.save(model, path)
    refused(path, "is not finite for a picture of noise")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x08\x07"])
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    """Another kind of file, an empty one and one that is cut off are refused."""
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    refused(path, "not an ONNX file that onnx accepts")


def test_weights_that_are_missing_are_refused(tmp_path: Path) -> None:
    """A file whose weights lie in a second file that did not come along is refused."""
    path = tmp_path / "net.onnx"
    onnx.save(network(Kind()), path, save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "net.data").unlink()
    refused(path, "net.data")
