"""The gate: int8 may answer only where it is proven that it is not worse than fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import pytest
from heads_of_noise import heads
from onnx import numpy_helper

from models import gate, registry
from models.gate import Batched, Batches
from models.manifest import Artifact, GateVerdict, Label, Manifest
from models.quantise import quantise
from models.record import Call, Record, StudyRow
from models.runtime import Floats, Session

LABELS = ("glioma", "meningioma", "pituitary", "notumor")
TRUTH = np.repeat(np.arange(4), 200)
MODEL = "brain_tumor_4class"
FOLDER = registry.ZOO / MODEL


def logits(wrong: int = 0, label: int = 0) -> Floats:
    """Right answers but for the first `wrong` slices of `label`."""
    return missing(np.flatnonzero(label == TRUTH)[:wrong])


def missing(rows: Sequence[int] | np.ndarray, truth: np.ndarray = TRUTH) -> Floats:
    """Right answers but for these slices."""
    answers = truth.copy()
    answers[rows] = (answers[rows] + 1) % 4
    return np.eye(4, dtype=np.float32)[answers]


def each(first: int, count: int) -> list[int]:
    """`count` slices of every label, from its slice `first` on."""
    return [label * 200 + k for label in range(4) for k in range(first, first + count)]


def record(fp32: Floats, int8: Floats, truth: np.ndarray = TRUTH, words: Mapping[str, Sequence[str]] | None = None) -> Record:
    return Record(LABELS, "notumor", truth, {"fp32": fp32, "int8": int8}, words or {})


def judge(found: Record, batches: Batches | None = None) -> GateVerdict:
    return gate.judge(found, digests=("a", "b"), on=date(2026, 11, 23), batches=batches)


def verdict(fp32: Floats, int8: Floats) -> GateVerdict:
    return judge(record(fp32, int8))


def numbers(found: GateVerdict) -> list[str]:
    """What the reasons are about."""
    return [reason.split(":")[0] for reason in found.reasons]


def test_equal() -> None:
    """int8 that answers as fp32 does is approved, with its numbers."""
    found = verdict(logits(8), logits(8))

    assert (found.verdict, found.reasons) == ("APPROVED", [])
    assert found.metrics["int8_accuracy"] == 0.99
    assert found.metrics["int8_recall_glioma"] == 0.96
    assert found.metrics["agreement"] == 1.0
    assert (found.metrics["slices"], found.metrics["drop_accuracy_upper"]) == (800, 0)
    assert found.metrics["fp32_accuracy_low"] < 0.99 < found.metrics["fp32_accuracy_high"]


def test_exactly_one_percent() -> None:
    """A recall that falls by exactly 1 % passes."""
    assert verdict(logits(0), logits(2)).verdict == "APPROVED"


def test_recall() -> None:
    """One label's recall falling by more than 1 % rejects, even where accuracy hardly moves, and the reason names it."""
    found = verdict(logits(0), logits(3, label=2))

    assert found.verdict == "REJECTED"
    assert numbers(found) == ["recall_pituitary"]


def test_more_than_one_percent() -> None:
    """An accuracy that falls by 1.1 % is rejected, and the reason says how much was lost and how much may be."""
    truth = np.repeat(np.arange(4), 1000)
    found = judge(record(missing([], truth), missing(np.arange(44) * 90, truth), truth))

    assert found.metrics["drop_accuracy"] == pytest.approx(0.011)
    assert found.verdict == "REJECTED"
    assert found.reasons[0].startswith("accuracy: int8 0.9890 against fp32 1.0000, 1.10% lost, at most 1% is allowed")


def test_not_proven() -> None:
    """A drop of 0.5 % where the variants differ often is rejected for what it may be with other patients, and the reason says so."""
    found = verdict(missing(each(0, 2)), missing(each(2, 3)))

    assert found.metrics["drop_accuracy"] == pytest.approx(0.005)
    assert found.verdict == "REJECTED"
    assert numbers(found) == ["accuracy"]
    assert "0.50% lost and up to 1." in found.reasons[0] and "with 95 % confidence, at most 1% is allowed" in found.reasons[0]


def test_proven() -> None:
    """The same drop where they differ on nothing else is approved: both are asked about the same slices, and it is paired."""
    both = [label * 200 + k for label in range(4) for k in range(100, 140)]
    found = verdict(missing(both), missing([*both, 0, 200, 400]))

    assert found.metrics["int8_accuracy_high"] - found.metrics["int8_accuracy_low"] > 0.04
    assert found.verdict == "APPROVED", found.reasons


def test_whole_blocks_are_drawn() -> None:
    """What single slices would prove is not proven where the slices that int8 loses are all of one patient."""
    lost = [0, 200, 400]
    alone = judge(record(missing([]), missing(lost)))
    patients = [f"p{k // 8}" if k not in lost else "one" for k in range(800)]
    together = judge(record(missing([]), missing(lost), words={"block": patients}))

    assert alone.verdict == "APPROVED"
    assert (together.verdict, numbers(together)) == ("REJECTED", ["accuracy"])
    assert together.metrics["drop_accuracy"] == alone.metrics["drop_accuracy"]


def test_better_int8() -> None:
    """int8 that is better than fp32 passes."""
    assert verdict(logits(20), logits(0)).verdict == "APPROVED"


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_not_finite(wrong: float) -> None:
    """Logits that are not finite are rejected whatever they say."""
    broken = logits()
    broken[0, 0] = wrong
    found = verdict(logits(), broken)

    assert found.verdict == "REJECTED"
    assert "logits: int8's are not finite on 1 of 800 slices" in found.reasons


def test_few_blocks_prove_nothing() -> None:
    """An int8 that answers as fp32 does on the slices of 19 studies is not approved, for they are too few, and on those of 20 it is."""
    for count, said in ((19, "REJECTED"), (20, "APPROVED")):
        words = {"block": [str(k % count) for k in range(800)]}
        found = judge(record(logits(), logits(), words=words))
        assert found.verdict == said
        assert numbers(found) == (["blocks"] if said == "REJECTED" else [])


def test_nothing_to_judge() -> None:
    """Without a slice int8 is not approved."""
    nothing = np.zeros((0, 4), np.float32)
    found = judge(record(nothing, nothing, np.zeros(0, np.int64)))
    assert (numbers(found), found.remarks) == (["blocks", *(f"recall_{label}" for label in LABELS)], [])


def test_a_label_that_never_occurs() -> None:
    """int8 may lose it wholly, and is rejected; it has no numbers, the others are those of the labels that occur."""
    truth = np.repeat([0, 1, 3], 100)
    found = judge(record(missing([0], truth), missing([0], truth), truth))

    assert found.verdict == "REJECTED"
    assert found.reasons == ["recall_pituitary: no slice of it was judged"]
    assert "int8_recall_pituitary" not in found.metrics
    assert found.metrics["int8_balanced_accuracy"] == pytest.approx((0.99 + 1 + 1) / 3, abs=1e-6)


def test_no_difference_proves_no_more_than_its_blocks() -> None:
    """Where the variants differ nowhere the bound is 0, and a remark says how many of other blocks could differ all the same."""
    words = {"block": [f"{k // 200}-{k % 30}" for k in range(800)]}
    found = judge(record(logits(), logits(0), words=words))
    lost = judge(record(logits(), logits(1), words=words))

    assert found.metrics["drop_recall_glioma_upper"] == 0
    assert found.remarks[0] == "accuracy: no difference seen; with 95 % confidence up to 2.5% of blocks could differ"
    assert found.remarks[1] == "recall_glioma: no difference seen; with 95 % confidence up to 9.5% of blocks could differ"
    assert [remark.split(":")[0] for remark in lost.remarks] == ["recall_meningioma", "recall_pituitary", "recall_notumor"]


def test_a_label_of_few_blocks() -> None:
    """A recall of fewer than 20 blocks is remarked."""
    words = {"block": [f"g{k % 19}" if k < 200 else str(k) for k in range(800)]}
    found = judge(record(logits(), logits(1), words=words))

    assert "recall_glioma: 19 blocks only, its bound promises little" in found.remarks


def test_findings_that_change() -> None:
    """Where every block was called as a study, int8 is rejected for findings that are not fp32's, whatever slices say; 1 % may change."""

    def called(others: int, blocks: int) -> GateVerdict:
        base = record(logits(), logits(), words={"block": [str(k % 200) for k in range(800)]})
        right, other = Call("present", "glioma", 0.9), Call("unsure", "glioma", 0.6)
        rows = [StudyRow(str(k), "glioma", 4, {"fp32": right, "int8": other if k < others else right}) for k in range(blocks)]
        return judge(Record(base.labels, base.absent, base.truth, base.logits, base.words, tuple(rows)))

    assert called(3, 200).reasons == ["findings: int8 finds otherwise than fp32 in 3 of 200, at most 1% is allowed"]
    assert called(2, 200).verdict == "APPROVED"
    assert called(3, 14).verdict == "APPROVED"


def test_a_group_that_loses() -> None:
    """A scanner on which int8 loses more than 3 % is remarked, even where accuracy as a whole may fall so far."""
    words = {"source": ["other" if k % 8 == 0 else "own" for k in range(800)]}
    lost = [0, 200, 400, 600]
    found = judge(record(missing([]), missing(lost), words=words))

    assert found.remarks == ["source other: int8 loses 4.00% of accuracy on its 100 slices"]


def test_studies_that_are_called_otherwise() -> None:
    """A study that fp32 calls right and int8 does not is named."""
    right, unsure = Call("present", "glioma", 0.9), Call("unsure", "glioma", 0.5)
    nothing = Call("absent", "notumor", 0.1)
    studies = (
        StudyRow("s1", "glioma", 20, {"fp32": right, "int8": unsure}),
        StudyRow("s2", "notumor", 20, {"fp32": nothing, "int8": nothing}),
    )
    base = record(logits(), logits())
    found = judge(Record(base.labels, base.absent, base.truth, base.logits, studies=studies))

    assert (found.metrics["studies"], found.metrics["fp32_studies_right"], found.metrics["int8_studies_right"]) == (2, 2, 1)
    assert found.remarks[-1] == "studies: int8 calls 1 of 2 wrong that fp32 calls right: s1 (glioma: unsure glioma)"


@pytest.mark.parametrize("wrong", [Batched(0.3, 1.0), Batched(0.1, 0.9), Batched(np.nan, 1.0)])
def test_batch(wrong: Batched) -> None:
    """An int8 whose logits or labels depend on how many slices are asked about at once is rejected, and the reason names how many."""
    fine = {1: Batched(0.0, 1.0), 24: Batched(0.2, 1.0)}
    assert judge(record(logits(), logits()), {"fp32": fine, "int8": fine}).verdict == "APPROVED"
    found = judge(record(logits(), logits()), {"fp32": fine, "int8": {**fine, 24: wrong}})

    assert numbers(found) == ["batch"]
    assert "24 slices at once" in found.reasons[0]
    assert found.metrics["fp32_batch_24_off"] == 0.2


def test_tables_of_groups() -> None:
    """The first table is of all slices, then one of every stratum, plane and source, and one of the spoiled slices."""
    words = {"stratum": ["obvious", "normal"] * 400, "plane": ["axial"] * 800}
    base = record(logits(), logits(8), words=words)
    spoiled = record(logits(), logits(80))
    found = gate.tables(Record(base.labels, base.absent, base.truth, base.logits, words, spoiled=spoiled))

    assert [(table.by, table.word, table.slices) for table in found] == [
        ("all", "", 800), ("stratum", "normal", 400), ("stratum", "obvious", 400), ("stratum", "artifact", 800), ("plane", "axial", 800),
    ]  # fmt: skip
    assert [table.lines["accuracy"].int8.value for table in found] == pytest.approx([0.99, 0.99, 0.99, 0.9, 0.99])


def test_tables_of_studies() -> None:
    """Studies are counted by their true label, what was called and whether it is right; few have a wide interval."""
    calls = [
        Call("present", "glioma", 0.9),
        Call("present", "meningioma", 0.9),
        Call("unsure", "glioma", 0.5),
        Call("absent", "notumor", 0.1),
    ]
    studies = tuple(StudyRow(str(k), "glioma", 1, {"fp32": calls[0], "int8": call}) for k, call in enumerate(calls))
    base = record(logits(), logits())
    every, gliomas = gate.studies(Record(base.labels, base.absent, base.truth, base.logits, studies=studies))

    assert (every.truth, gliomas.truth, gliomas.studies, gliomas.same) == ("all", "glioma", 4, 1)
    assert (gliomas.int8.right.value, gliomas.int8.present, gliomas.int8.unsure, gliomas.int8.absent) == (0.25, 2, 1, 1)
    assert gliomas.fp32.right == pytest.approx((1.0, 0.5101, 1.0), abs=1e-4)  # Wilson's interval of 4 of 4


def test_other_bytes() -> None:
    """A verdict holds for the bytes it was given for, and for no others."""
    files = {"fp32": Artifact(file="f", sha256="a", bytes=1), "int8": Artifact(file="i", sha256="b", bytes=1)}
    labels = [Label(name=name, value="1", scheme="SCT", meaning=name) for name in LABELS]
    manifest = Manifest(name="m", version="1", labels=labels, artifacts=files, gate=verdict(logits(), logits()))

    assert manifest.approved
    assert not manifest.model_copy(update={"artifacts": files | {"int8": Artifact(file="i", sha256="c", bytes=1)}}).approved


@pytest.fixture(scope="module")
def pictures() -> Floats:
    """Slices that the bundled fp32 calls this and that, as far as generated ones go."""
    return heads(registry.read(MODEL).recipe, 48)


@pytest.fixture(scope="module")
def said(pictures: Floats) -> Floats:
    return Session(FOLDER / "model_fp32.onnx").run(pictures).logits


def against_fp32(said: Floats, path: Path, pictures: Floats) -> GateVerdict:
    """The verdict on a file, by fp32's own answers."""
    return judge(record(said, Session(path).run(pictures).logits, np.asarray(said.argmax(1), np.int64)))


def test_biased_calibration(said: Floats, pictures: Floats, tmp_path: Path) -> None:
    """The bundled fp32, quantised with pictures that are nearly black, is rejected; fp32 in its own place loses nothing."""
    recipe = registry.read(MODEL).recipe
    dark = (np.random.default_rng(0).random((8, recipe.channels, recipe.size, recipe.size)) * 0.02 - recipe.mean) / recipe.std
    quantise(FOLDER / "model_fp32.onnx", tmp_path / "int8.onnx", [dark.astype(np.float32)], "minmax")
    found = against_fp32(said, tmp_path / "int8.onnx", pictures)

    own = against_fp32(said, FOLDER / "model_fp32.onnx", pictures)
    assert not [reason for reason in own.reasons if "no slice of it was judged" not in reason]
    assert found.verdict == "REJECTED"
    assert "accuracy" in numbers(found)
    assert found.metrics["drop_accuracy"] > 0.1


def test_truncated_weights(said: Floats, pictures: Floats, tmp_path: Path) -> None:
    """The bundled int8 with weights cut to their upper three bits is rejected, and loses more than it does whole."""
    model = onnx.load(FOLDER / "model_int8.onnx")
    constants = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) & np.int8(-32), tensor.name))
    onnx.save(model, tmp_path / "int8.onnx")
    whole, cut = (against_fp32(said, path, pictures) for path in (FOLDER / "model_int8.onnx", tmp_path / "int8.onnx"))

    assert cut.verdict == "REJECTED"
    assert "accuracy" in numbers(cut)
    assert cut.metrics["drop_accuracy"] > 0.1 > whole.metrics["drop_accuracy"]
