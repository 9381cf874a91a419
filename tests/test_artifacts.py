"""The shipped artifacts, as bytes on this CPU. Which variant is faster or chosen here is the CPU's to say, so nothing asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models.manifest import Manifest, read, sha256
from models.record import VARIANTS
from models.record import read as read_record
from models.runtime import Session

FOLDER = Path(__file__).parent.parent / "models" / "zoo" / "brain_tumor_4class"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read(FOLDER / "manifest.toml")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "golden.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def optimised(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The int8 graph as ONNX Runtime runs it."""
    options, path = onnxruntime.SessionOptions(), tmp_path_factory.mktemp("graph") / "optimised.onnx"
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    onnxruntime.InferenceSession(FOLDER / "model_int8.onnx", options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def test_every_convolution_of_the_optimised_int8_graph_is_an_integer_one(optimised: onnx.ModelProto) -> None:
    """int8 means that no convolution and no sum was left in floating point."""
    count = Counter(node.op_type for node in optimised.graph.node)
    assert count["QLinearConv"] == 48
    assert not {"Conv", "FusedConv", "NhwcFusedConv", "Add"} & count.keys()


def test_nothing_goes_back_to_float_on_the_way(optimised: onnx.ModelProto) -> None:
    """No Clip stands between integer nodes, and floats become integers once, at the door."""
    count = Counter(node.op_type for node in optimised.graph.node)
    assert "Clip" not in count
    assert count["QuantizeLinear"] == 1


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_batch_size_does_not_change_a_label(variant: str, golden: dict[str, np.ndarray]) -> None:
    """Batches of 1, 2 and 4 name the same label for every slice."""
    session, image = Session(FOLDER / f"model_{variant}.onnx"), golden["image"]
    labels = [np.concatenate([session.run(image[k : k + n]).logits.argmax(1) for k in range(0, len(image), n)]) for n in (1, 2, 4)]
    assert (labels[0] == labels[1]).all() and (labels[0] == labels[2]).all()


def test_the_manifest_names_these_bytes(manifest: Manifest) -> None:
    """Every digest and size in the manifest is that of the file beside it, and the gate judged these bytes."""
    for artifact in manifest.artifacts.values():
        assert sha256(FOLDER / artifact.file) == artifact.sha256
        assert (FOLDER / artifact.file).stat().st_size == artifact.bytes
    assert manifest.golden is not None and sha256(FOLDER / manifest.golden.file) == manifest.golden.sha256
    assert manifest.approved


def test_both_files_together_are_small(manifest: Manifest) -> None:
    """The two networks take less than 30 MB."""
    assert sum(artifact.bytes for artifact in manifest.artifacts.values()) < 30e6


def test_fp32_replays_its_golden_vectors(manifest: Manifest, golden: dict[str, np.ndarray]) -> None:
    """fp32 gives on this CPU the logits that it gave at the gate."""
    assert manifest.golden is not None
    found = Session(FOLDER / "model_fp32.onnx").run(golden["image"]).logits
    assert np.abs(found - golden["fp32"]).max() <= manifest.golden.tolerance


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_logits_are_the_evidence_pooled(variant: str, manifest: Manifest, golden: dict[str, np.ndarray]) -> None:
    """A slice's logits are the means of each label's strongest cells, and the label for no tumour is 0 in every cell."""
    logits, evidence = Session(FOLDER / f"model_{variant}.onnx").run(golden["image"])
    assert evidence is not None and evidence.shape == (len(logits), len(manifest.labels), 14, 14)
    assert not evidence[:, manifest.label_names.index(manifest.absent)].any()
    pooled = np.sort(evidence.reshape(*logits.shape, -1), axis=2)[:, :, -manifest.rule.strongest_cells :].mean(2)
    assert np.allclose(pooled, logits, atol=1e-4)


def test_the_gate_can_be_judged_again_from_what_is_shipped(manifest: Manifest) -> None:
    """gate.csv holds as many slices as the verdict counts, and their accuracy is the verdict's."""
    assert manifest.gate is not None
    record = read_record(FOLDER, manifest.label_names, manifest.absent)
    assert len(record) == manifest.gate.metrics["slices"] and len(record.studies) == manifest.gate.metrics["studies"]
    for variant in VARIANTS:
        right = (record.logits[variant].argmax(1) == record.truth).mean()
        assert right == pytest.approx(manifest.gate.metrics[f"{variant}_accuracy"], abs=1e-6)


def test_fp32_is_as_good_as_the_rehearsal(manifest: Manifest) -> None:
    """fp32 names at least 94 of 100 of fold 4's slices right; less is a bug of the training."""
    record = read_record(FOLDER, manifest.label_names, manifest.absent)
    fold4 = record.take(np.array(record.words["part"]) == "4")
    assert len(fold4) and (fold4.logits["fp32"].argmax(1) == fold4.truth).mean() >= 0.94
