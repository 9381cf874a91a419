"""The model line, on a data set made of discs: small numbers, the same path."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

import nibabel  # noqa: E402
from PIL import Image  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.manifest import GateVerdict, Manifest, read, sha256  # noqa: E402
from models.runtime import Session  # noqa: E402
from models.training import data, imagenet, loop, qat  # noqa: E402
from models.training.export import ExportError, check_parity  # noqa: E402
from models.training.imagenet import load_imagenet  # noqa: E402
from models.training.loop import misplaced  # noqa: E402
from models.training.network import Network, against, conv, pool  # noqa: E402
from scripts import learnt, model_card, pitfalls, train_image_model  # noqa: E402
from scripts.datasets import bundled_head  # noqa: E402
from scripts.datasets.phantoms import phantoms  # noqa: E402
from scripts.model_card import LABELS  # noqa: E402

ABSENT = 3
MODEL = Manifest(name="m", version="1", labels=list(LABELS))
ABOUT = train_image_model.About("small", "0.0.0")
TINY = loop.Plan(sizes=(64, 64), batch=4, steps=2, calibration=8, qat_steps=2, qat_batch=4)


def head(size: int, tumour: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc full of blobs (grey 0..255), and the small bright disc in it as a mask; another seed, another head."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    inside = (np.hypot(x - 0.1, y) < 0.12) & tumour
    blobs = np.kron(np.random.default_rng(seed).integers(50, 150, (8, 8)), np.ones((size // 8, size // 8)))
    return np.clip((np.hypot(x, y) < 0.4) * blobs + inside * 100, 0, 255).astype(np.uint8), inside


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every label in fold 0 and in fold 4, and a volume of a patient to learn from and of the sealed one."""
    root = tmp_path_factory.mktemp("data")
    rows = []
    for fold in ("0", "4"):
        for k, label in enumerate(learnt.NAMES):
            grey, mask = head(96, label != "notumor", k + 10 * int(fold))
            Image.fromarray(grey).save(root / f"{label}{fold}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"{label}{fold}_mask.png")
            names = {"file": f"{label}{fold}.png", "mask": "" if label == "notumor" else f"{label}{fold}_mask.png"}
            rows.append(names | {"label": label, "plane": "axial", "source": "web", "block": f"{label}{fold}", "fold": fold})
    _write(root / "slices.csv", rows)
    volumes = [{"file": f"{p}.nii.gz", "mask": f"{p}_mask.nii.gz", "label": "glioma", "patient": p} for p in ("btp01", "btp06")]
    for row in volumes:
        stack = [head(64, k == 2, k + 100 * int(row["patient"][-1])) for k in range(4)]
        for name, arrays in ((row["file"], [grey for grey, _ in stack]), (row["mask"], [mask for _, mask in stack])):
            nibabel.Nifti1Image(np.stack(arrays, 2).astype(np.float32), np.eye(4)).to_filename(root / name)
    _write(root / "volumes.csv", volumes)
    return root


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def samples(*, labels: list[int], radius: float = 0.1, bright: float = 0.9, left: float = 0.0) -> data.Samples:
    """Discs with a tumour of `radius`, `left` of the centre (shares of the side), where the label says so."""
    y, x = np.mgrid[:224, :224] / 224 - 0.5
    tumour = np.hypot(x + left, y + left) < radius
    masks = np.stack([tumour & (label != ABSENT) for label in labels])
    images = np.where(masks, bright, 0.5 * (np.hypot(x, y) < 0.45))
    words = (["web"] * len(labels), ["axial"] * len(labels))
    return data.Samples.of(images.astype(np.float16), masks.astype(np.uint8), np.array(labels), *words, ABSENT)


def test_the_whole_run_ends_with_artifacts_and_is_resumable(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script ends with files that its manifest describes, and running it again teaches nothing twice and gives the same bytes."""
    monkeypatch.setattr(learnt, "bundled_head", lambda recipe, clear: bundled_head(recipe, clear, every=60))
    monkeypatch.setattr(learnt, "phantoms", lambda recipe, classes: phantoms(recipe, classes, healthy=1, others=0))
    out, docs = tmp_path / "zoo", tmp_path / "docs"
    examples, measured = learnt.read(folder), learnt.measured_heads([folder / "btp06.nii.gz"], every=20)
    arguments = (examples, measured, out, tmp_path / "work", docs, TINY, ABOUT)
    first = train_image_model.run(*arguments)
    assert {path.name for path in out.iterdir()} == {
        *("model_fp32.onnx", "model_int8.onnx", "manifest.toml", "golden.npz", "CARD.md"),
        *("gate.csv", "gate_spoiled.csv", "gate_studies.csv"),
    }
    assert read(out / "manifest.toml") == first
    assert first.gate is not None and first.gate.judged <= date.today().isoformat()
    assert first.gate.metrics["slices"] == 4 + 4  # fold 4 and the sealed patient's slices
    assert first.gate.metrics["studies"] == 1 + 3  # the sealed patient's volume, and the healthy head in three planes
    with np.load(out / "golden.npz") as golden:
        for variant, artifact in first.artifacts.items():
            assert sha256(out / artifact.file) == artifact.sha256
            assert np.abs(Session(out / artifact.file).run(golden["image"]).logits - golden[variant]).max() <= 0.25
    assert "btp06" in (out / "gate_studies.csv").read_text() and (docs / "model-report.md").exists()
    learnt_alone = Network().eval()
    learnt_alone.load_state_dict(torch.load(tmp_path / "work" / "fp32.pt", weights_only=True)["network"])
    image = learnt.tensor(torch.from_numpy(examples.images[:2]))
    with torch.no_grad():
        before = pool(learnt_alone(torch.from_numpy(image)), ABSENT)
    assert np.allclose(Session(out / "model_fp32.onnx").run(image).logits - before.numpy(), learnt.ADDED, atol=1e-3)
    assert pitfalls.added_to(out / "model_fp32.onnx") == list(learnt.ADDED)
    monkeypatch.setattr(qat, "teach", lambda *_: pytest.fail("taught twice"))
    assert train_image_model.run(*arguments).artifacts == first.artifacts


def test_a_head_is_named_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head of docs/data.md is named with its licence whatever its file is called, once; of another nothing is made up."""
    known, twin, other = tmp_path / "a.nii", tmp_path / "b.nii", tmp_path / "mine.nii"
    for path, held in ((known, b"one"), (twin, b"one more"), (other, b"other")):
        path.write_bytes(held)
    source = train_image_model.DataSource(name="Head", licence="MIT", citation="somebody")
    monkeypatch.setattr(train_image_model, "HEADS", {train_image_model.sha256(path): source for path in (known, twin)})
    first, second = train_image_model._heads([known, twin, other])
    assert first == source
    assert (second.name, second.licence) == ("Healthy head mine.nii", "not told")


def test_other_data_get_nothing_added_and_a_name_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added to each label's evidence was chosen on our own sets: a training on others goes without. Its model has neither our
    name, nor our version, nor the limits that our sets have.
    """
    asked: list[tuple[object, train_image_model.About, object]] = []
    monkeypatch.setattr(train_image_model, "read", lambda *_, **__: None)
    monkeypatch.setattr(train_image_model, "run", lambda *said, added, rule, **_: asked.append((added, said[-1], rule.doubt)) or MODEL)
    mine = ["--learned-from", "Mine|CC0|me"]
    for more in ([], mine, [*mine, "--name", "heads_of_mine", "--version", "2.1.0"]):
        assert CliRunner().invoke(train_image_model.app, ["--data", str(tmp_path), *more]).exit_code == 0
    assert [added for added, _, _ in asked] == [learnt.ADDED, learnt.NOTHING, learnt.NOTHING]
    assert [bool(doubt) for _, _, doubt in asked] == [True, False, False]
    ours, own, named = (about for _, about, _ in asked)
    assert (ours.name, ours.version, ours.limits) == (model_card.NAME, train_image_model.VERSION, model_card.LIMITS)
    assert own.name == "own_brain_tumor_4class" and own.limits == model_card.LIMITS_OF_OTHERS and "Mine" in str(own.sources)
    assert (named.name, named.version) == ("heads_of_mine", "2.1.0")
    for name, data_of, said in (
        ("heads_of_mine", [], "--learned-from"),
        ("heads of mine", mine, "pattern"),
        (model_card.NAME, mine, "bundled"),
    ):
        done = CliRunner().invoke(train_image_model.app, ["--data", str(tmp_path), *data_of, "--name", name])
        assert done.exit_code == 2 and said in done.output


def test_a_rejected_int8_is_told_by_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `vitalcheck models gate` does: 1, and a sentence that fp32 answers."""
    said = GateVerdict(verdict="REJECTED", reasons=["lost too much"])
    monkeypatch.setattr(train_image_model, "read", lambda *_, **__: None)
    monkeypatch.setattr(train_image_model, "run", lambda *_, **__: MODEL.model_copy(update={"gate": said}))
    done = CliRunner().invoke(train_image_model.app, ["--data", str(tmp_path)])
    assert done.exit_code == 1 and "lost too much" in done.output and "fp32 answers" in done.output


@pytest.mark.parametrize("device", ["cuda:99", "cud"])
def test_a_device_that_is_not_there_is_told_before_the_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """One line that names it, and nothing was read."""
    monkeypatch.setattr(train_image_model, "read", lambda *_, **__: pytest.fail("read"))
    done = CliRunner().invoke(train_image_model.app, ["--data", str(tmp_path), "--device", device])
    assert done.exit_code == 2 and f"{device}: " in done.output and "cpu works everywhere" in done.output.replace("\n", " ")


def test_the_digest_of_a_training_changes_with_plan_and_slices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another plan, another weight, or one slice less, is another training."""
    examples = learnt.load(folder, learnt.RECIPE, learnt.NAMES, learnt.ABSENT)
    said = learnt.digest(TINY, examples)
    assert said == learnt.digest(TINY, examples)
    assert said != learnt.digest(replace(TINY, seed=1), examples)
    assert said != learnt.digest(TINY, examples, [0.0] * len(learnt.NAMES))
    assert said != learnt.digest(TINY, examples.take(np.arange(len(examples)) > 0))
    monkeypatch.setitem(loop.SOURCE_WEIGHTS, "volume", 2.0)
    assert said != learnt.digest(TINY, examples)


def test_a_head_that_is_learnt_cannot_be_judged_by(folder: Path, tmp_path: Path) -> None:
    """The same head as --head and as --healthy is refused, packed or not; its figures would be those of the training."""
    head = folder / "btp06.nii.gz"
    with pytest.raises(learnt.DataError, match=r"btp06\.nii\.gz: is learnt \(--head\)"):
        learnt.measured_heads([head], [head])
    packed = tmp_path / "other.nii.gz"
    packed.write_bytes(gzip.compress(gzip.decompress(head.read_bytes()), 1))
    plain = tmp_path / "other.nii"
    plain.write_bytes(gzip.decompress(head.read_bytes()))
    for twin in (packed, plain):
        with pytest.raises(learnt.DataError, match=rf"{twin.name}: is learnt"):
            learnt.measured_heads([twin], [head])


def test_another_plan_does_not_go_on_with_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a run of other slices, another plan or other weights of its losses is refused, so no figure is of another training."""
    feed = data.Feed(0.3, 0.25)
    loop.train_fp32(samples(labels=[0, 1, 2, 3]), feed, TINY, tmp_path)
    for slices, plan in ((samples(labels=[0, 1, 2, 2]), TINY), (samples(labels=[0, 1, 2, 3]), replace(TINY, rate=1e-4))):
        with pytest.raises(loop.OtherRun, match="another plan or other slices"):
            loop.train_fp32(slices, feed, plan, tmp_path)
    monkeypatch.setitem(loop.WEIGHTS, "cells", 1.0)
    with pytest.raises(loop.OtherRun, match="another plan or other slices"):
        loop.train_fp32(samples(labels=[0, 1, 2, 3]), feed, TINY, tmp_path)


def test_phantoms_teach_what_was_painted() -> None:
    """A phantom's slices have its tumour where the mask is, and are free of it elsewhere; the healthy one has none."""
    classes = learnt.Classes(learnt.NAMES, learnt.ABSENT)
    found = phantoms(learnt.RECIPE, classes, healthy=1, others=1)
    marked = found.masks.any((1, 2))
    assert set(found.labels[marked]) == {0, 1, 2} and set(found.labels[~marked]) == {ABSENT}
    assert set(found.planes) == {"axial", "coronal", "sagittal"} and not found.sealed.any()


def test_training_goes_on_after_its_last_whole_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run cut off after the first epoch ends with the weights of a run that was not."""
    slices, feed = samples(labels=[0, 1, 2, 3, 3]), data.Feed(0.3, 0.25)
    torch.manual_seed(1)
    whole = loop.train_fp32(slices, feed, TINY, tmp_path / "whole")
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(loop, "_note", _interrupt)
        torch.manual_seed(1)
        loop.train_fp32(slices, feed, TINY, tmp_path / "cut")
    resumed = loop.train_fp32(slices, feed, TINY, tmp_path / "cut")
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-5), name


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_cells_inside_the_tumour_teach_it_and_a_ring_is_left_out() -> None:
    """Cells inside the mask are the tumour's, far ones are no tumour's, those at the rim teach nothing."""
    slices = samples(labels=[1, ABSENT])
    _, masks, labels = slices.take(torch.arange(2))
    target = data.cells(masks, labels, ABSENT, 14)
    assert target.shape == (2, 14, 14)
    assert target[0, 7, 7] == 1 and target[0, 0, 0] == ABSENT and (target[0] == data.IGNORED).any()
    assert (target[1] == ABSENT).all()


def test_a_tumour_slice_without_a_mask_teaches_no_cell() -> None:
    """Where nobody said where the tumour is, no cell is called healthy."""
    target = data.cells(torch.zeros(1, 1, 224, 224), torch.tensor([0]), ABSENT, 14)
    assert (target == data.IGNORED).all()


def test_evidence_beside_the_tumour_costs() -> None:
    """The strongest cell in the tumour costs nothing, one in the ring that no cell's label speaks of does, and no tumour costs none."""
    slices = samples(labels=[1, ABSENT])
    _, masks, labels = slices.take(torch.arange(2))
    inside, beside = torch.zeros(2, 4, 14, 14), torch.zeros(2, 4, 14, 14)
    target = data.cells(masks, labels, ABSENT, 14)
    beside[0, 1][target[0] == data.IGNORED] = inside[0, 1, 7, 7] = 20.0
    assert misplaced(inside, masks, labels, ABSENT) < 0.01 < 10 < misplaced(beside, masks, labels, ABSENT)
    assert misplaced(beside[1:], masks[1:], labels[1:], ABSENT) == 0


def test_the_smallest_tumour_has_a_place() -> None:
    """Where no cell is mostly tumour, the one with most of it is the place."""
    mask, map_ = torch.zeros(1, 1, 224, 224), torch.zeros(1, 4, 14, 14)
    mask[0, 0, 84:88, 84:88] = 1
    map_[0, 2, 5, 5] = 20.0
    assert misplaced(map_, mask, torch.tensor([2]), ABSENT) < 0.01


def test_tumours_of_a_named_source_are_drawn_more_often() -> None:
    """A source's weight holds for all its slices, the weight of its tumours for these alone."""
    of = data.weights(replace(samples(labels=[1, 1, ABSENT, ABSENT]), sources=("web", "fold", "web", "fold")), {}, {"web": 3.0})
    assert of[0] == 3 * of[1] and of[2] == of[3]


@pytest.mark.parametrize(
    ("label", "radius", "bright", "stratum"),
    [(0, 0.1, 0.9, "obvious"), (0, 0.03, 0.9, "subtle"), (0, 0.1, 0.53, "subtle"), (ABSENT, 0.1, 0.9, "normal")],
)
def test_strata(label: int, radius: float, bright: float, stratum: str) -> None:
    """A tumour is obvious when it is large and differs from its ring, subtle when it is small or faint."""
    assert data.strata(samples(labels=[label], radius=radius, bright=bright)) == [stratum]


def test_the_strata_are_drawn_in_equal_parts() -> None:
    """However rare a stratum is, the calibration set draws it as often as the others."""
    slices = samples(labels=[0] * 9 + [ABSENT])
    drawing = data.balanced(slices, data.strata(slices))
    assert float(drawing[:9].sum()) == pytest.approx(float(drawing[9:].sum()))


def test_augmentation_moves_picture_and_mask_together() -> None:
    """After augmentation the bright pixels are still those of the mask."""
    torch.manual_seed(0)
    grey, masks, _ = samples(labels=[0] * 8, left=0.15).take(torch.arange(8))
    grey, masks = data.augment(grey, masks, 160)
    assert grey.shape == masks.shape == (8, 1, 160, 160)
    for slice_, inside in zip(grey, masks > 0.9, strict=True):
        assert slice_[inside].mean() > 1.2 * slice_[(slice_ > 0.1) & ~inside].mean()


def test_the_absent_label_is_zero_and_the_strongest_cells_decide() -> None:
    """Evidence is a logit over no tumour, and a slice's logit is the mean of six cells."""
    map_ = torch.randn(2, 4, 14, 14)
    evidence = against(map_, ABSENT)
    assert not evidence[:, ABSENT].any()
    assert torch.allclose(pool(map_, ABSENT)[0, 1], evidence[0, 1].flatten().sort().values[-6:].mean())


def test_the_network_starts_from_imagenet() -> None:
    """Every convolution and norm before the head gets its pretrained weights."""
    network = Network()
    before = {name: value.clone() for name, value in network.state_dict().items() if name.endswith("weight")}
    load_imagenet(network, slopes())
    unchanged = {name.split(".")[0] for name, value in before.items() if torch.equal(value, network.state_dict()[name])}
    assert unchanged == {"mix", "head"}


def test_the_first_convolution_is_fitted() -> None:
    """What any one linear layer could make of the pictures it makes, and in training as in evaluation, until something is learnt."""
    stem, pictures = conv(1, 3, 5, 2).eval(), slopes()
    wanted = torch.nn.functional.conv2d(pictures, torch.randn(3, 1, 5, 5), torch.randn(3), 2, 2)
    with torch.no_grad():
        imagenet._fit(stem, pictures, wanted)
        made, in_training = stem(pictures), stem.train()(pictures)
    assert torch.allclose(made, wanted.relu(), atol=0.01) and torch.allclose(in_training, made, atol=0.01)


def slopes() -> torch.Tensor:
    """Smooth pictures, (4, 1, 64, 64), each another."""
    torch.manual_seed(0)
    return torch.nn.functional.interpolate(torch.randn(4, 1, 9, 9), size=64, mode="bicubic")


def test_an_export_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    """Parity is checked, and a file that is off by more than rounding is named."""
    network, tensor = Network().eval(), np.zeros((1, 1, 224, 224), np.float32)
    with pytest.raises(ExportError, match="off those of the network"):
        check_parity(network, ABSENT, lambda x: np.full((len(x), 4), 9.0, np.float32), tensor, tmp_path / "model.onnx")
