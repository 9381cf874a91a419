"""`vitalcheck models import`: from somebody's ONNX file to a model that answers, with int8 judged; and what is refused leaves nothing."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pydicom
import pytest
import typer.main
from heads import write_picture
from networks import LABELS, Kind, network, write
from numpy.typing import NDArray
from onnx import TensorProto
from peers import Node, StoragePeer, push
from pydicom.uid import ExplicitVRLittleEndian

from listener import cli
from models import manifest as manifests
from models import quantise
from models.manifest import Label, Manifest
from models.record import read as read_record
from pipeline.aggregate import aggregate
from pipeline.records import Affine, Geometry, Prediction, Source
from scripts import example_ct

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "your-own-model.md"
NAMES = ",".join(LABELS)
TWO = ("glioma", "notumor")  # what the material shows


class Said(NamedTuple):
    status: int
    out: str
    err: str


def run(*arguments: str | Path) -> Said:
    """What `vitalcheck ARGUMENTS` says; in this process, which has loaded already what it needs."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    return Said(int(end.value.code or 0), out.getvalue(), err.getvalue())


def import_(file: Path, into: Path, *more: str | Path, name: str = "mine", labels: str = NAMES) -> Said:
    return run("models", "import", file, "--name", name, "--labels", labels, "--into", into, *more)


def slice_of(source: pydicom.Dataset, bright: bool) -> NDArray[np.uint16]:
    """A slice of the bundled study, without or with a bright square a third as wide as it."""
    pixels = source.pixel_array.copy()
    if bright:
        rows, columns = pixels.shape
        pixels[rows // 3 : 2 * rows // 3, columns // 3 : 2 * columns // 3] = int(pixels.max())
    return np.asarray(pixels, np.uint16)


def write_study(folder: Path, source: pydicom.Dataset, number: int, bright: bool) -> Path:
    """A study of one slice."""
    ds, uid = copy.deepcopy(source), f"1.2.826.0.1.{number}.{int(bright)}"
    del ds.PixelData  # which was encapsulated
    ds.add_new("PixelData", "OW", slice_of(source, bright).tobytes())
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = uid, f"{uid}.1", f"{uid}.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    folder.mkdir(parents=True, exist_ok=True)
    ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder / f"{number}.dcm"


@pytest.fixture(scope="module")
def slices(demo_study: Path) -> list[pydicom.Dataset]:
    """Slices in the middle of the bundled head."""
    return [pydicom.dcmread(path) for path in sorted(demo_study.glob("t1_*.dcm"))[6:18]]


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory, slices: list[pydicom.Dataset]) -> Path:
    """heads/glioma and heads/notumor: studies of one slice and pictures, bright and not."""
    folder = tmp_path_factory.mktemp("material") / "heads"
    for bright, label in ((True, "glioma"), (False, "notumor")):
        for number, source in enumerate(slices):
            write_study(folder / label, source, number, bright)
            shown = np.flipud(slice_of(source, bright))
            write_picture(folder / label / f"{number}.png", shown * (255 / shown.max()))
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, slices: list[pydicom.Dataset]) -> Path:
    """Two studies that are no material: one bright, one not."""
    folder = tmp_path_factory.mktemp("studies")
    for bright in (True, False):
        write_study(folder / str(bright), slices[5], 99, bright)
    return folder


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, heads: Path) -> Path:
    """The folder of an imported model, with int8; what the import said is in said.txt beside it."""
    into = tmp_path_factory.mktemp("imported")
    file = write(into / "net.onnx", Kind(layout="nhwc", ends="softmax", map=True, labels=2))
    said = import_(file, into, "--map", "map", "--calibration", heads, labels=",".join(TWO))
    assert said.status == 0, said.err
    (into / "said.txt").write_text(said.out)
    return into / "mine"


def answers(studies: Path, model: Path, out: Path, *more: str) -> dict[bool, dict[str, Any]]:
    """What a model says of the bright study and of the other."""
    said = run("analyze", studies, "--out", out, "--json", "--model", f"{model}/", *more)
    assert said.status == 0, said.err
    return {answer["study"].endswith(".1"): answer for answer in map(json.loads, said.out.splitlines())}


def texts(report: pydicom.Dataset) -> str:
    """Every sentence of an SR."""
    return " ".join(str(item.value) for item in report.iterall() if item.keyword == "TextValue")


def found(answer: dict[str, Any]) -> tuple[str, str]:
    return answer["finding"]["label"], answer["finding"]["call"]


def test_import_says_what_it_found_and_assumed(mine: Path) -> None:
    """The command says what the file takes and gives, what it assumed, how int8 was judged, and what to do next."""
    said = (mine.parent / "said.txt").read_text()

    for words in (
        "net.onnx: imported as mine 1.0.0",
        "Input image: nhwc, 3 channels, 96 x 96 pixels, any number at once.",
        "a last Softmax, which is taken off",
        "Output map: a map of 2 x 12 x 12; it decides the finding.",
        "grey from 0 to 1, the same in every channel (assumed;",
        "Reads: T1 MR of the head (assumed;",
        "its ranges are those of 24 slices (percentile)",
        "Judged on 24 slices of 24 studies and pictures, by fp32's own answers",
        "Each picture counted as independent of the others",
        "remark: accuracy: no difference seen; with 95 % confidence up to 11.7% of blocks could differ",
        "int8 is APPROVED.",
        "What it learnt from is unknown",
        f"vitalcheck analyze STUDY --out results --model {mine}",
        f'[models] enabled = ["{mine}"]',
    ):
        assert words in said, said


def test_imported_is_a_model_like_any_other(mine: Path) -> None:
    """`models list` and `models verify` find what they find of a model that was trained here; the gate's record names nobody."""
    assert sorted(path.name for path in mine.iterdir()) == [
        "gate.csv", "gate_studies.csv", "golden.npz", "manifest.toml", "model_fp32.onnx", "model_int8.onnx",
    ]  # fmt: skip
    assert re.search(r"^mine +1\.0\.0 +MR T1 head .*APPROVED", run("models", "list", f"{mine}/").out, re.M)
    verified = run("models", "verify", f"{mine}/")
    assert verified.status == 0, verified.out
    assert "missing" not in verified.out
    record = read_record(mine, TWO, "notumor")
    assert (len(record), len(record.studies)) == (24, 24)
    assert "1.2.826" not in (mine / "gate.csv").read_text() + (mine / "gate_studies.csv").read_text()
    assert mine.stat().st_mode & 0o777 == 0o777 & ~umask()


def umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_imported_answers(mine: Path, studies: Path, tmp_path: Path, variant: str) -> None:
    """Both variants call the bright study present, with a region on what is bright, and the other absent; reports name its limits."""
    said = answers(studies, mine, tmp_path, "--variant", variant)

    assert {bright: found(answer) for bright, answer in said.items()} == {True: ("glioma", "present"), False: ("notumor", "absent")}
    assert {answer["variant"] for answer in said.values()} == {variant}
    (path,) = (path for path in said[True]["reports"] if path.endswith("summary.dcm"))
    assert "imported from a file that others made" in texts(pydicom.dcmread(path))
    column, row = np.mean(said[True]["region"], axis=0)
    rows, columns = pydicom.dcmread(next((studies / "True").glob("*.dcm"))).pixel_array.shape
    assert 1 / 3 < row / rows < 2 / 3
    assert 1 / 3 < column / columns < 2 / 3


@pytest.mark.parametrize(
    ("kind", "labels", "more"),
    [
        (Kind(), NAMES, []),
        (Kind(layout="nhwc", size=240, ends="softmax"), NAMES, []),
        (Kind(ends="softmax, renamed", batch=1), NAMES, ["--gives", "softmax"]),
        (Kind(ends="sigmoid", labels=2), "glioma,notumor", []),
        (Kind(ends="one sigmoid"), "notumor,glioma", []),
        (Kind(ends="one logit", batch=3), "notumor,glioma", []),
        (Kind(type=TensorProto.FLOAT16, size=240), NAMES, []),
        (Kind(opset=11, channels=1), NAMES, []),
        (Kind(), NAMES, ["--scale", "1", "--mean", "0,0,0", "--std", "1,1,1"]),
    ],
)
def test_any_way_of_exporting(tmp_path: Path, studies: Path, kind: Kind, labels: str, more: list[str]) -> None:
    """Whatever way a network was exported, it answers for both studies; without calibration there is no int8 and fp32 does."""
    said = import_(write(tmp_path / "net.onnx", kind), tmp_path, *more, labels=labels)
    assert said.status == 0, said.err
    assert "There is no int8" in said.out

    told = answers(studies, tmp_path / "mine", tmp_path / "out")

    assert {bright: found(answer) for bright, answer in told.items()} == {True: ("glioma", "present"), False: ("notumor", "absent")}
    assert {answer["variant"] for answer in told.values()} == {"fp32"}


def test_rejected_int8_leaves_fp32_serving(tmp_path: Path, heads: Path, studies: Path) -> None:
    """int8 that was calibrated with easy cases only loses what is bright: it is REJECTED with reasons, kept, and fp32 answers."""
    file = write(tmp_path / "net.onnx", Kind())
    easy = tmp_path / "easy"
    easy.mkdir()
    for path in (heads / "notumor").glob("*.png"):
        pixels = np.random.default_rng(len(path.stem)).integers(20, 90, (96, 96))
        pixels[0, 0] = 255  # so that the rest is dark
        write_picture(easy / path.name, pixels)

    said = import_(file, tmp_path, "--calibration", easy, "--truth", heads)
    assert said.status == 0, said.err

    assert "by their labels" in said.out
    assert "int8 is REJECTED, for these reasons: fp32 answers." in said.out
    assert "recall_glioma: int8" in said.out
    assert "model_int8.onnx" in said.out
    told = answers(studies, tmp_path / "mine", tmp_path / "out")
    assert found(told[True]) == ("glioma", "present")
    assert {answer["variant"] for answer in told.values()} == {"fp32"}


def test_a_label_that_nobody_judged(tmp_path: Path, heads: Path) -> None:
    """int8 that was asked about two of four labels is REJECTED, and the remarks are said then, too."""
    said = import_(write(tmp_path / "net.onnx", Kind()), tmp_path, "--calibration", heads)

    assert "recall_meningioma: no slice of it was judged" in said.out
    assert "remark: recall_glioma: no difference seen" in said.out
    assert "int8 is REJECTED" in said.out


def test_a_map_that_says_otherwise(tmp_path: Path, heads: Path) -> None:
    """A map that would find what the logits deny is refused: it would decide, and the logits are judged."""
    model = network(Kind(map=True, labels=2))
    last = model.graph.node[-1]
    last.op_type = "Neg"
    onnx.save(model, tmp_path / "net.onnx")

    said = import_(tmp_path / "net.onnx", tmp_path, "--map", "map", "--truth", heads, labels=",".join(TWO))

    assert (said.status, said.err.count("vitalcheck: ")) == (1, 1), said.err
    assert "its map names another label than its logits on 48 of 48 slices" in said.err


def test_int8_that_cannot_be_opened(tmp_path: Path, heads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An int8 that ONNX Runtime makes and cannot load is none: that is said, no file of it is left, and fp32 answers."""

    def made(fp32: Path, int8: Path, *more: object, **named: object) -> None:
        int8.write_bytes(b"not a network")

    monkeypatch.setattr(quantise, "quantise", made)
    said = import_(write(tmp_path / "net.onnx", Kind()), tmp_path, "--calibration", heads)

    assert said.status == 0, said.err
    assert "There is no int8: " in said.out
    assert "model_int8.onnx: ONNX Runtime cannot load it" in said.out
    assert not (tmp_path / "mine" / "model_int8.onnx").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "/tmp/x"), MemoryError()])
def test_what_the_machine_lacks(tmp_path: Path, heads: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A disk or a memory that is full is one line about that, and not about --into."""

    def made(*more: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(quantise, "quantise", made)
    said = import_(write(tmp_path / "net.onnx", Kind()), tmp_path / "new", "--calibration", heads)

    assert (said.status, said.err.count("vitalcheck: ")) == (1, 1), said.err
    assert "/tmp/x: No space left" in said.err or "memory does not suffice" in said.err
    assert "--into" not in said.err
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    """--into below a file is refused, and the line says what to do."""
    (tmp_path / "file").write_text("")
    said = import_(write(tmp_path / "net.onnx", Kind()), tmp_path / "file" / "new")

    assert (said.status, len(said.err.splitlines())) == (1, 1), said.err
    assert "cannot be written to" in said.err and "give another --into" in said.err


def test_limits_say_what_is_true(mine: Path, tmp_path: Path) -> None:
    """That int8 was judged by fp32, that a map decides and that feeding was assumed stand there where it is so, and nowhere else."""
    own = " ".join(manifests.read(mine / "manifest.toml").limits)
    assert import_(write(tmp_path / "net.onnx", Kind()), tmp_path, "--scale", "255").status == 0
    fp32 = " ".join(manifests.read(tmp_path / "mine" / "manifest.toml").limits)

    for words in ("Its int8 was judged by", "Its findings are made of its map", "was assumed, for nobody told"):
        assert words in own and words not in fp32


def test_one_variant_is_not_called_two(tmp_path: Path, studies: Path) -> None:
    """Without --calibration there is fp32 alone, and the Summary does not speak of a comparison that never was."""
    assert import_(write(tmp_path / "net.onnx", Kind(map=True)), tmp_path, "--map", "map").status == 0
    folder = tmp_path / "mine"
    assert "variants" not in " ".join(manifests.read(folder / "manifest.toml").limits)
    (path,) = (path for path in answers(studies, folder, tmp_path)[True]["reports"] if path.endswith("summary.dcm"))
    text = texts(pydicom.dcmread(path))
    assert "The model has one variant, fp32 (full precision)" in text and "two variants" not in text


def test_a_network_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    """Finite for noise and not for plain pictures: it could never be loaded, so nothing of it is kept."""
    model = network(Kind())
    model.graph.node[-1].output[0] = "before"  # times 0 / 0 where the picture holds no white at all
    node, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    model.graph.initializer.extend([constant(np.array([1], np.int64), "second"), constant(np.float32(0.95), "white")])
    model.graph.node.extend([
        node("ReduceMax", ["image"], ["most"], axes=[1, 2, 3], keepdims=0), node("Sub", ["most", "white"], ["more"]),
        node("Relu", ["more"], ["none"]), node("Div", ["none", "none"], ["one"]), node("Unsqueeze", ["one", "second"], ["column"]),
        node("Mul", ["before", "column"], ["answer"]),
    ])  # fmt: skip
    onnx.save(model, tmp_path / "net.onnx")
    said = import_(tmp_path / "net.onnx", tmp_path / "new")
    assert said.status == 1 and "not finite" in said.err, said
    assert not (tmp_path / "new").exists()


def test_a_region_on_a_map_that_is_no_square(tmp_path: Path) -> None:
    """Rows and columns of a map have each their own size in pixels, so that a region lies where the cell does."""
    labels = [Label(name=name, value="1", scheme="SCT", meaning=name) for name in TWO]
    maps = np.zeros((1, 2, 10, 20), np.float32)
    maps[0, 0] = -5.0
    maps[0, 0, 7:9, 3:5] = 9.0
    where = {"head_area": np.ones(1, np.float32), "to_source": Affine(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 224, 224), "geometry": Geometry()}
    told = {"variant": "fp32", "agreement": "not compared", "sources": (Source("1"),), "logits": np.zeros((1, 2), np.float32)}

    finding = aggregate(Prediction(evidence=maps, **told, **where), Manifest(name="m", version="1", labels=labels))

    column, row = np.mean(finding.region[:-1], axis=0)
    assert abs(row - 8 * 22.4) < 22.4
    assert abs(column - 4 * 11.2) < 11.2


def test_too_little_to_prove_anything(tmp_path: Path, studies: Path) -> None:
    """Two studies calibrate and judge, and prove nothing: int8 is REJECTED for that reason."""
    said = import_(write(tmp_path / "net.onnx", Kind()), tmp_path, "--calibration", studies)

    assert "are too few to prove" in said.out
    assert "REJECTED" in said.out


def test_truth_alone_measures_fp32(tmp_path: Path, heads: Path) -> None:
    """With labels and without calibration it is said how often fp32 is right."""
    said = import_(write(tmp_path / "net.onnx", Kind()), tmp_path, "--truth", heads)

    assert "fp32 is right on 48 of 48 slices." in said.out


def test_words_and_codes_of_another_disease(tmp_path: Path) -> None:
    """A network for CT gets its windows, labels and words from --recipe and --label, and is the model of the worked example."""
    onnx.save(example_ct.network(), tmp_path / "ct.onnx")
    (tmp_path / "ct.toml").write_text(
        'modality = "CT"\nsequence = ""\n[recipe]\nwindows = [[40, 80], [80, 200], [600, 2800]]\nmean = 0.0\nstd = 1.0\n'
        '[words]\nfinding = "an intracranial haemorrhage"\nabsent = "no haemorrhage"\n'
    )
    codes = [f"{label.name}={label.value}:{label.scheme}:{label.meaning}" for label in example_ct.LABELS]
    more = ["--absent", "none", "--recipe", tmp_path / "ct.toml", "--label", codes[0], "--label", codes[1]]
    said = import_(tmp_path / "ct.onnx", tmp_path, *more, labels="haemorrhage,none")
    assert said.status == 0, said.err

    manifest = manifests.read(tmp_path / "mine" / "manifest.toml")

    assert manifest.recipe_id == example_ct.RECIPE.id
    assert list(manifest.labels) == example_ct.LABELS
    assert "Fed: windows of Hounsfield units" in said.out
    assert "Reads: CT of the head (as --recipe says)." in said.out


def test_what_it_learnt_from_is_told(tmp_path: Path) -> None:
    """--learned-from stands in the manifest, and nothing says that it is unknown."""
    told = ["--learned-from", "Set A|CC BY 4.0|A. Uthor, 2024", "--version", "2.1"]
    said = import_(write(tmp_path / "net.onnx"), tmp_path, *told)

    manifest = manifests.read(tmp_path / "mine" / "manifest.toml")

    assert [(source.name, source.licence, source.citation) for source in manifest.learned_from] == [
        ("Set A", "CC BY 4.0", "A. Uthor, 2024")
    ]
    assert manifest.version == "2.1"
    assert "unknown" not in said.out


CT = 'modality = "CT"\n'


@pytest.mark.parametrize(
    ("more", "status", "why"),
    [
        (["--labels", "glioma,meningioma"], 1, "has 4 numbers, --labels names 2"),
        (["--labels", f"{NAMES},wart"], 2, "no code for wart"),
        (["--labels", "glioma,meningioma,pituitary,glioma"], 1, "labels: two at least, each with its own name"),
        (["--absent", "healthy"], 1, "'healthy' is none of the labels"),
        (["--label", "wart"], 2, "written as NAME=CODE:SCHEME:MEANING"),
        (["--label", "wart=a\\b:SCT:Wart"], 2, "value: 'a\\\\b': a code holds 1 to 16 characters"),
        (["--recipe", "rule.toml"], 1, "rule.temperature: Input should be greater than 0"),
        (["--labels", "wart,meningioma,notumor,pituitary", "--label", "wart=1:99X:Wart"], 2, "reports would speak of brain tumours"),
        (["--name", "../up"], 2, "letters, digits"),
        (["--mean", "a"], 2, "--mean 'a': a number"),
        (["--std", "0"], 2, "above 0"),
        (["--mean", "0.1,0.2"], 1, "2 numbers for 3 channels; give one, or one for each channel"),
        (["--size", "224"], 1, "--size 224, but its input says 96"),
        (["--layout", "nhwc"], 1, "it is nchw"),
        (["--gives", "softmax"], 1, "does not sum to 1"),
        (["--output", "other"], 1, "no output of that name; it has answer"),
        (["--learned-from", "Set A"], 2, "NAME|LICENCE|CITATION"),
        (["--version", "one two"], 1, "version: "),
        (["--recipe", "no.toml"], 2, "no.toml"),
        (["--recipe", "bad.toml"], 2, "it is TOML like a manifest's"),
        (["--recipe", "flat.toml"], 2, "recipe is a table"),
        (["--recipe", "ours.toml"], 1, "name cannot be said there"),
        (["--recipe", "key.toml"], 1, "recipe: sise"),
        (["--recipe", "ct.toml"], 1, "CT is read through windows"),
        (["--recipe", "twice.toml", "--mean", "0.5"], 1, "leave one of them out"),
        (["--calibration", "nothing"], 1, "no DICOM file and no picture"),
        (["--calibration", "one"], 1, "half of them calibrate, the others judge; give more"),
        (["--calibration", "unreadable"], 1, "none of the calibration material can be read by the model"),
        (["--truth", "nothing"], 1, "a folder for each label is wanted"),
        (["--truth", "nowhere"], 2, "'nowhere' does not exist"),
        (["--calibration", "nowhere"], 2, "'nowhere' does not exist"),
        (["--label", "wart=1:99X:Wart"], 2, "--label wart: --labels (glioma,meningioma,notumor,pituitary) does not name it"),
        (["--recipe", "text.toml"], 1, "recipe: size: "),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    tmp_path: Path, slices: list[pydicom.Dataset], monkeypatch: pytest.MonkeyPatch, more: Sequence[str], status: int, why: str
) -> None:
    """Each says what is wrong and how to mend it, in one line; no folder, no part of one and not --into itself is left."""
    monkeypatch.chdir(tmp_path)
    texts = {"bad": "[", "flat": "recipe = 3", "ours": 'name = "x"', "key": "[recipe]\nsise = 3", "ct": CT, "twice": "[recipe]\nmean = 0.5"}
    texts["rule"] = "[rule]\ntemperature = -1.0"
    texts["text"] = '[recipe]\nsize = "large"'
    for name, text in texts.items():
        Path(f"{name}.toml").write_text(text)
    Path("nothing").mkdir()
    write_study(Path("one"), slices[0], 1, True)
    for number in range(4):
        write_picture(Path("unreadable") / f"{number}.png", np.full((8, 8), number))
    before = sorted(tmp_path.rglob("*"))

    said = import_(write(tmp_path / "net.onnx"), tmp_path / "new" / "place", *more)

    lines = [line for line in said.err.splitlines() if line.startswith("vitalcheck: ") and not line.startswith("vitalcheck: skipped")]
    assert (said.status, said.out, len(lines)) == (status, "", 1), said
    assert why in lines[0]
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "net.onnx"])


def test_a_model_that_is_there_is_not_written_over(mine: Path) -> None:
    """A second import of the same name is refused before anything is done, and the first stays as it was."""
    before = {path: path.stat().st_mtime_ns for path in mine.iterdir()}

    said = import_(mine.parent / "net.onnx", mine.parent)

    assert said.status == 1
    assert "is there already; give another --name or --into, or remove it" in said.err
    assert {path: path.stat().st_mtime_ns for path in mine.iterdir()} == before


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    """What is no ONNX file, or one with an operator that ONNX Runtime does not have, ends as one line."""
    (tmp_path / "net.onnx").write_bytes(b"nonsense")
    assert "not an ONNX file" in import_(tmp_path / "net.onnx", tmp_path).err
    model = network(Kind())
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    model.graph.node[1].domain, model.graph.node[1].op_type = "com.example", "Secret"
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())

    said = import_(tmp_path / "net.onnx", tmp_path)

    assert (said.status, len(said.err.splitlines())) == (1, 1), said.err
    assert "Secret" in said.err


@pytest.fixture(scope="module")
def node(mine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, StoragePeer]]:
    """The real service with the imported model alone, by a path relative to its configuration."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "mine").symlink_to(mine)
    with StoragePeer() as pacs, Node(folder, pacs.port, stand_in=None, models={"enabled": ["./mine"]}) as made:
        yield made, pacs


def test_imported_is_served(node: tuple[Node, StoragePeer], studies: Path) -> None:
    """A study that a scanner pushes is answered by the imported model, and its reports are in the PACS."""
    served, pacs = node
    instance = pydicom.dcmread(next((studies / "True").glob("*.dcm")))
    assert push(served.port, [instance]) == [0]

    told = served.wait_for_state(instance.StudyInstanceUID, "delivered", "declined", "quarantined", seconds=60)

    assert told["state"] == "delivered", told
    assert '"mine' in json.dumps(told)
    assert len(pacs.received) == 2
    assert {str(ds.StudyInstanceUID) for ds in pacs.received} == {instance.StudyInstanceUID}
    assert any("imported from a file that others made" in texts(ds) for ds in pacs.received)


def test_who_serves_never_loads_what_imports() -> None:
    """The command line and the worker load neither onnx nor torch; the import loads no torch."""
    code = (
        "import sys; import listener.cli, listener.worker; a = set(sys.modules); import listener.importer; print(*a); print(*sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    ).stdout.splitlines()
    serving, importing = (set(line.split()) for line in told)

    assert "listener.cli_import" in serving
    assert not {"onnx", "torch", "onnxruntime.quantization"} & serving
    assert "onnx" in importing
    assert "torch" not in importing


def test_page_names_every_option() -> None:
    """docs/your-own-model.md explains each option of the command, and shows none that there is not."""
    group: Any = typer.main.get_command(cli.app)
    options = {name for option in group.commands["models"].commands["import"].params for name in option.opts if name.startswith("--")}
    page = PAGE.read_text()
    rows = set(re.findall(r"^\| `(--[a-z-]+)", page, re.M))

    assert rows == options - {"--help"}
    for command in re.findall(r"^\$ \.venv/bin/vitalcheck models import (.*?)(?<!\\)$", page, re.M | re.S):
        assert set(re.findall(r"--[a-z-]+", command)) <= options
