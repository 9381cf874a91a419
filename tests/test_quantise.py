"""int8 of a wrapped network: integers where the weights are, floats where the logits are, and the same answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import LABELS, Kind, network
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models import foreign, quantise, wrapping
from models.foreign import Shown, Told
from models.quantise import Method, NotQuantised
from models.runtime import Session


def wrapped(folder: Path, kind: Kind) -> Path:
    source, path = folder / "theirs.onnx", folder / "fp32.onnx"
    onnx.save(network(kind), source)
    onnx.save(wrapping.wrapped(foreign.look(source, 4, Told(map="map" if kind.map else None)), Shown(), LABELS, "0123"), path)
    return path


def pictures(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 3, 96, 96): dim noise, every other one with a bright square."""
    found = np.random.default_rng(seed).uniform(0, 0.7, (count, 3, 96, 96)).astype(np.float32)
    for k in range(0, count, 2):
        found[k, :, 16 : 40 + k % 16, 24:56] = 0.98
    return found


def weights(path: Path) -> list[NDArray[Any]]:
    return [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer if tensor.data_type == TensorProto.INT8]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize(
    "kind", [Kind(), Kind(type=TensorProto.FLOAT16), Kind(layout="nhwc", ends="softmax"), Kind(ends="softmax, renamed", map=True)]
)
def test_it_says_what_fp32_says(tmp_path: Path, kind: Kind, method: Method, capfd: pytest.CaptureFixture[str]) -> None:
    """On slices that it was not calibrated with int8 names the label that fp32 names; nothing is printed on the way."""
    fp32, int8 = wrapped(tmp_path, kind), tmp_path / "int8.onnx"
    quantise.quantise(fp32, int8, [pictures(8), pictures(8, 1)], method)

    slices = pictures(12, 2)
    said = {path: Session(path).run(slices) for path in (fp32, int8)}

    assert len(set(said[fp32].logits.argmax(1))) == 2
    assert said[int8].logits.argmax(1).tolist() == said[fp32].logits.argmax(1).tolist()
    assert (said[int8].evidence is not None) == kind.map
    assert capfd.readouterr() == ("", "")


def test_what_is_integer_and_what_is_not(tmp_path: Path) -> None:
    """Weights are int8 with a scale for each channel, the last layers stay float, and the file says of itself what fp32 says."""
    fp32, int8 = wrapped(tmp_path, Kind()), tmp_path / "int8.onnx"
    quantise.quantise(fp32, int8, [pictures(8)])
    model = onnx.load(int8)

    onnx.checker.check_model(model, full_check=True)
    made = {name: node for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert [made[node.input[1]].op_type for node in convolutions] == ["DequantizeLinear"] * 2
    assert made[convolutions[0].input[1]].attribute[0].i == 0  # axis: output channels
    (last,) = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert last.input[1] not in made
    assert {entry.key: entry.value for entry in model.metadata_props} == {"labels": ",".join(LABELS), "recipe": "0123"}


def test_seven_bits_leave_room_for_the_sum(tmp_path: Path) -> None:
    """With seven bits no weight is beyond 64, so that two products never overflow 16 bits."""
    fp32 = wrapped(tmp_path, Kind())
    for seven, most in ((False, 127), (True, 64)):
        path = tmp_path / f"{most}.onnx"
        quantise.quantise(fp32, path, [pictures(8)], seven_bits=seven)
        assert max(int(np.abs(array.astype(int)).max()) for array in weights(path)) == most


def test_constants_that_are_added_stay_float() -> None:
    """A bias behind a MatMul and the scale of a batch norm are left out; an addition of two branches is not."""
    node, constant = helper.make_node, helper.make_tensor("bias", TensorProto.FLOAT, [1], [0.0])
    nodes = [
        node("MatMul", ["image", "w"], ["a"], name="weights"),
        node("Add", ["a", "bias"], ["b"], name="shift"),
        node("Add", ["a", "b"], ["c"], name="branches"),
    ]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)], [constant])

    assert quantise.shifts(graph) == ["shift"]
    assert set(quantise.last_layers(graph)) == {"weights", "shift", "branches"}


def test_nothing_between_is_left_in_float(tmp_path: Path) -> None:
    """ONNX Runtime makes integer convolutions of both, and no other one is left."""
    fp32, int8 = wrapped(tmp_path, Kind()), tmp_path / "int8.onnx"
    quantise.quantise(fp32, int8, [pictures(8)])
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "run.onnx"), 3
    onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])

    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node)

    assert (kinds["QLinearConv"], kinds["Conv"]) == (2, 0)


def test_what_cannot_be_quantised_says_why(tmp_path: Path) -> None:
    """Calibration slices of another shape than the network's end as one line, which says that fp32 can be served."""
    with pytest.raises(NotQuantised, match=r"cannot quantise it .*; fp32 can be served without int8") as caught:
        quantise.quantise(wrapped(tmp_path, Kind()), tmp_path / "int8.onnx", [np.zeros((2, 3, 64, 96), np.float32)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_what_the_machine_lacks_is_not_the_networks_fault(tmp_path: Path, error: Exception) -> None:
    """A full disk or memory is said to be that, and not that the network cannot be quantised."""

    def batches() -> Iterator[NDArray[np.float32]]:
        yield pictures(2)
        raise error

    with pytest.raises(type(error)):
        quantise.quantise(wrapped(tmp_path, Kind()), tmp_path / "int8.onnx", batches())
