"""A foreign classifier behind our input and outputs says what it said before, whatever way it was exported."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import LABELS, Kind, network, write
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models import foreign, wrapping
from models.foreign import Looked, Shown, Told, Unusable
from models.manifest import Recipe
from models.runtime import Foreign, Outputs, Session

KINDS = st.builds(
    Kind,
    layout=st.sampled_from(["nchw", "nhwc"]),
    size=st.sampled_from([96, 120, 240]),
    channels=st.sampled_from([1, 3]),
    ends=st.sampled_from(["logits", "softmax", "softmax, renamed", "softmax, hidden", "log", "sigmoid", "one sigmoid", "one logit"]),
    batch=st.sampled_from(["batch", 1, 3]),
    type=st.sampled_from([TensorProto.FLOAT, TensorProto.FLOAT16]),
    map=st.booleans(),
    opset=st.sampled_from([9, 11, 13, 17]),
    labels=st.sampled_from([2, 4]),
)
SHOWN = st.sampled_from([Shown(), Shown(255.0), Shown(1.0, (0.1,), (0.9,)), Shown(255.0, (12.0,), (240.0,))])


def wrap(folder: Path, kind: Kind, shown: Shown = Shown(), opened: Any = None) -> tuple[Looked, Path]:  # noqa: B008 - a constant
    """What was found out of the file, and our file; the last way that the importer tries where a batch was fixed."""
    path, ours = folder / "theirs.onnx", folder / "ours.onnx"
    onnx.save(opened or network(kind), path)
    names = LABELS[:2] if kind.ends.startswith("one") else LABELS[: kind.labels]
    has_map = kind.map and not kind.ends.startswith("one")  # which has one number a cell for two labels
    looked = foreign.look(path, len(names), Told(map="map" if has_map else None))
    model = wrapping.wrapped(looked, shown, names, "0123")
    onnx.save(wrapping.freed(model, looked.taken.batch) if looked.taken.batch else model, ours)
    return looked, ours


def shares(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponents = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


def theirs(looked: Looked, kind: Kind, fed: NDArray[np.float32]) -> list[dict[str, NDArray[Any]]]:
    """What the original says of each picture (channel, size, size), one after the other."""
    batch = kind.batch if isinstance(kind.batch, int) else 1
    original, found = Foreign(looked.path), []
    for picture in fed:
        turned = picture.transpose(1, 2, 0) if kind.layout == "nhwc" else picture
        copies = np.stack([turned] * batch).astype(np.float16 if kind.type == TensorProto.FLOAT16 else np.float32)
        found.append({name: values[0].astype(np.float64) for name, values in original.run(copies).items()})
    return found


def as_exported(ours: Outputs, kind: Kind) -> NDArray[np.float64]:
    """Our logits, as the file said it."""
    logits = ours.logits.astype(np.float64)
    if kind.ends.startswith("one"):
        second = logits[:, 1:] - logits[:, :1]
        return np.asarray(second if kind.ends == "one logit" else 1 / (1 + np.exp(-second)))
    if kind.ends == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)))
    return shares(ours.logits) if kind.ends.startswith("softmax") else logits


def alike(kind: Kind, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    """Near each other; past the range of half precision one order of sums ends at inf and another just before it."""
    near, most = (2e-2, 6e4) if kind.type == TensorProto.FLOAT16 else (2e-3, np.inf)
    np.testing.assert_allclose(np.clip(ours, -most, most), np.clip(theirs, -most, most), rtol=near, atol=near)


@settings(max_examples=60, deadline=None)
@example(
    kind=Kind(size=240, channels=1, type=TensorProto.FLOAT16, map=True, labels=2), shown=Shown(255.0, (0.0,), (1.0,)), seed=5, slices=5
)
@given(kind=KINDS, shown=SHOWN, seed=st.integers(0, 1000), slices=st.integers(1, 6))
def test_wrapped_says_what_the_original_says(kind: Kind, shown: Shown, seed: int, slices: int) -> None:
    """For every way of exporting, several pictures at once get the answers and maps that the original gives them one by one."""
    grey = np.random.default_rng(seed).random((slices, kind.channels, kind.size, kind.size), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        looked, path = wrap(Path(folder), kind, shown)
        ours, answers = Session(path).run(grey), theirs(looked, kind, (grey * shown.scale - shown.mean[0]) / np.float32(shown.std[0]))
        wrapping.check(path, looked, shown, ours.logits.shape[1])

    said = {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
    alike(kind, as_exported(ours, kind), said["answer"])
    if ours.evidence is not None:
        alike(kind, ours.evidence.astype(np.float64), said["map"])
    assert (ours.evidence is not None) == (looked.given.map is not None)


def test_a_map_of_probabilities_gives_the_logits(tmp_path: Path) -> None:
    """Behind a Softmax or not: of each cell the same numbers against the absent label, so that the same finding is made."""
    found = []
    for kind in ("Softmax", "Identity"):
        model = network(Kind(map=True))
        model.graph.node.append(helper.make_node(kind, ["map"], ["evidence"], **({"axis": 1} if kind == "Softmax" else {})))
        model.graph.output.append(helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["batch", 4, None, None]))
        onnx.save(model, tmp_path / f"{kind}.onnx")
        looked = foreign.look(tmp_path / f"{kind}.onnx", 4, Told(output="answer"))
        onnx.save(wrapping.wrapped(looked, Shown(), LABELS, "x"), tmp_path / "ours.onnx")
        wrapping.check(tmp_path / "ours.onnx", looked, Shown(), 4)
        grey = np.random.default_rng(0).random((2, 3, 96, 96), np.float32)
        maps = Session(tmp_path / "ours.onnx").run(grey).evidence
        assert maps is not None
        found.append(maps - maps[:, 2:3])
    np.testing.assert_allclose(*found, atol=1e-3)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_other_answers(tmp_path: Path, wrong: float) -> None:
    """A wrapped file that answers nan where the original answers numbers is refused."""
    looked, path = wrap(tmp_path, Kind())
    model = onnx.load(path)
    (prior,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("prior")]
    prior.CopyFrom(numpy_helper.from_array(np.full(4, wrong, np.float32), prior.name))
    onnx.save(model, path)

    with pytest.raises(Unusable, match="get other answers than one by one"):
        wrapping.check(path, looked, Shown(), 4)


def test_it_is_compared_as_it_will_be_fed(tmp_path: Path) -> None:
    """A wrapped file that differs only for pictures from 0 to 255 is refused where the recipe feeds it such, and not otherwise."""
    looked, path = wrap(tmp_path, Kind())
    model = onnx.load(path)
    model.graph.node[0].output[0] = "uncut"
    model.graph.node.insert(1, helper.make_node("Clip", ["uncut", "", "most"], [wrapping.PREFIX + "image"]))
    model.graph.initializer.append(helper.make_tensor("most", TensorProto.FLOAT, [], [2.0]))
    onnx.save(model, path)

    wrapping.check(path, looked, Shown(), 4)
    with pytest.raises(Unusable, match="get other answers than one by one"):
        wrapping.check(path, looked, Shown(), 4, Recipe(size=96, mean=0.0, std=1 / 255))


def test_each_channel_is_shown_its_own_way(tmp_path: Path) -> None:
    """Mean and std of each channel are part of the graph, for a recipe has one of each."""
    shown, kind = Shown(255.0, (10.0, 20.0, 30.0), (100.0, 200.0, 300.0)), Kind(layout="nhwc")
    looked, path = wrap(tmp_path, kind, shown)
    grey = np.random.default_rng(5).random((2, 3, 96, 96), np.float32)

    fed = (grey * 255 - np.array(shown.mean, np.float32)[:, None, None]) / np.array(shown.std, np.float32)[:, None, None]

    expected = np.stack([said["answer"] for said in theirs(looked, kind, fed)])
    np.testing.assert_allclose(Session(path).run(grey).logits, expected, rtol=1e-3, atol=1e-3)


def test_it_says_of_itself_what_it_is(tmp_path: Path) -> None:
    """The wrapped file is one that onnx accepts, holds labels and recipe, and nothing that its outputs do not need."""
    _, path = wrap(tmp_path, Kind(ends="softmax"))
    model = onnx.load(path)

    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"labels": ",".join(LABELS), "recipe": "0123"}
    assert [entry.name for entry in model.graph.input] == ["image"]
    assert [entry.name for entry in model.graph.output] == ["logits"]
    assert "Softmax" not in {node.op_type for node in model.graph.node}


def test_old_files_with_weights_among_their_inputs(tmp_path: Path) -> None:
    """A file of the time when weights had to be inputs too is wrapped as any other."""
    model = network(Kind(opset=9))
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in model.graph.initializer
    )
    looked, path = wrap(tmp_path, Kind(opset=9), opened=model)

    wrapping.check(path, looked, Shown(), 4)
    onnx.checker.check_model(onnx.load(path))


def test_rows_that_hang_on_their_neighbours_are_refused(tmp_path: Path) -> None:
    """A network that answers otherwise for several slices at once is refused: studies differ in how many slices they have."""
    model = network(Kind())
    model.graph.node[-1].output[0] = "own"
    model.graph.node[-1].name = "own"
    model.graph.node.extend(
        [helper.make_node("ReduceMax", ["own"], ["most"], axes=[0]), helper.make_node("Sub", ["own", "most"], ["answer"])]
    )
    looked, path = wrap(tmp_path, Kind(), opened=model)

    with pytest.raises(Unusable, match="5 slices at once get other answers than one by one; export it with a free first axis"):
        wrapping.check(path, looked, Shown(), 4)


def test_a_batch_that_cannot_be_freed_is_refused(tmp_path: Path) -> None:
    """A file for one picture whose graph is built for one picture only is refused, and the message says what helps."""
    model = network(Kind(batch=1))
    model.graph.node[-1].output[0] = "own"
    squeeze = [helper.make_node("Squeeze", ["own", "first"], ["row"]), helper.make_node("Unsqueeze", ["row", "first"], ["answer"])]
    model.graph.node.extend(squeeze)
    model.graph.initializer.append(helper.make_tensor("first", TensorProto.INT64, [1], [0]))
    looked, path = wrap(tmp_path, Kind(), opened=model)

    with pytest.raises(Unusable, match="does not run on 5 slices at once; export it with a free first axis"):
        wrapping.check(path, looked, Shown(), 4)


def test_an_opset_that_nobody_can_bring_up_is_refused(tmp_path: Path) -> None:
    """A file whose operators cannot be brought to opset 13 is refused with its opset."""
    path = write(tmp_path / "net.onnx", Kind(opset=9))
    looked = foreign.look(path, 4, Told())
    looked.model.graph.node[0].op_type = "NoSuchOperator"

    with pytest.raises(Unusable, match="opset 9 cannot be brought to 13"):
        wrapping.wrapped(looked, Shown(), LABELS, "0123")
