"""Studies and pictures on disk as material to set up and judge a model with: found, labelled, prepared as in service, named by digests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from heads import head, write_picture, write_rows
from objects import SECRET, dataset, write

from listener import material, trial
from listener.material import Block, NoMaterial
from models import registry
from models.manifest import Manifest, Recipe, Window
from pipeline import decode
from pipeline.records import Study

LABELS = ("glioma", "notumor")


def study(folder: Path, uid: str) -> None:
    """Three T1-weighted slices of a head."""
    for number in (1, 2, 3):
        ds = dataset(uid, number=number, SeriesDescription="T1 AX", BodyPartExamined="HEAD", SequenceName="tse", RepetitionTime="500")
        ds.EchoTime, ds.ScanningSequence, ds.MagneticFieldStrength = "10", "SE", "1.5"
        write(folder, ds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two studies, two pictures, and what is neither."""
    study(tmp_path / "a", "1.2.3.1")
    study(tmp_path / "b", "1.2.3.2")
    for k, name in enumerate(("c.png", "d.jpg")):
        write_picture(tmp_path / name, head(k))
    (tmp_path / "notes.txt").write_text("nothing")
    return tmp_path


def bundled() -> Manifest:
    return registry.read("brain_tumor_4class")


def test_studies_and_pictures_are_blocks(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A study is one block and a picture is one; what is neither is passed over aloud."""
    blocks = material.unlabelled(folder)

    assert [isinstance(block.what, Study) for block in blocks] == [True, True, False, False]
    assert {block.label for block in blocks} == {""}
    assert "skipped" in capfd.readouterr().err


def test_names_are_digests(folder: Path) -> None:
    """Neither a UID nor a file's name is in the name of a block, and the same block has the same name elsewhere."""
    blocks = material.unlabelled(folder)
    names = [block.name for block in blocks]

    assert len(set(names)) == 4
    assert not [name for name in names if "1.2.3" in name or "c.png" in name or SECRET in name]
    (folder / "c.png").rename(folder / "z.png")
    assert set(names) == {block.name for block in material.unlabelled(folder)}


def test_prepared_as_in_service(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every block gives slices of the recipe's shape; one that the model may not read is passed over with the reason."""
    study(folder / "knee", "1.2.3.9")
    for path in (folder / "knee").iterdir():
        path.unlink()
    write(folder / "knee", dataset("1.2.3.9", SeriesDescription="T2 knee", BodyPartExamined="KNEE"))
    found = dict(material.prepared(material.unlabelled(folder), bundled(), decode.decode, "judging"))

    assert sorted(batch.tensor.shape for batch in found.values()) == [(1, 1, 224, 224)] * 2 + [(3, 1, 224, 224)] * 2
    assert all(batch.tensor.dtype == np.float32 for batch in found.values())
    assert "skipped study 1.2.3.9: " in capfd.readouterr().err


@pytest.mark.parametrize("deep", [False, True])
def test_a_picture_is_prepared_whatever_its_depth(tmp_path: Path, deep: bool) -> None:
    """A picture of 16 bits is the same slice as the one of 8 bits."""
    from PIL import Image

    grey = head(3)
    write_picture(tmp_path / "8.png", grey)
    Image.fromarray(grey.astype(np.uint16) * 200).save(tmp_path / "16.png")
    tensors = [batch.tensor for _, batch in material.prepared(material.unlabelled(tmp_path), bundled(), decode.decode, "judging")]

    np.testing.assert_allclose(tensors[0], tensors[1], atol=0.02)


@pytest.mark.parametrize("content", ["damaged", "empty", "black"])
def test_pictures_that_show_nothing_are_passed_over(tmp_path: Path, content: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A damaged file, an empty one and a black one cost nothing but a warning."""
    write_picture(tmp_path / "good.png", head(1))
    write_picture(tmp_path / "bad.png", np.zeros((64, 64)))
    if content != "black":
        (tmp_path / "bad.png").write_bytes(b"\x89PNG nonsense" if content == "damaged" else b"")

    assert len(list(material.prepared(material.unlabelled(tmp_path), bundled(), decode.decode, "judging"))) == 1
    assert "bad.png" in capfd.readouterr().err


def test_pictures_have_no_hounsfield_units(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A model that reads windows of Hounsfield units is given no pictures."""
    write_picture(tmp_path / "a.png", head(1))
    model = bundled().model_copy(update={"recipe": Recipe(windows=(Window(40, 80),) * 3)})

    assert not list(material.prepared(material.unlabelled(tmp_path), model, decode.decode, "calibration"))
    assert "no Hounsfield units" in capfd.readouterr().err


def test_a_folder_for_each_label(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Folders named by labels, in any case, label what lies below them."""
    truth = tmp_path_factory.mktemp("truth")
    (folder / "a").rename(truth / "Glioma")
    (truth / "notumor").mkdir()
    (folder / "c.png").rename(truth / "notumor" / "c.png")

    assert [(block.label, isinstance(block.what, Study)) for block in material.labelled(truth, LABELS)] == [
        ("glioma", True),
        ("notumor", False),
    ]


def test_a_csv_names_pictures_and_folders(folder: Path) -> None:
    """Rows name files and folders of studies from the folder of the CSV."""
    write_rows(folder / "truth.csv", {"file": "a", "label": "glioma"}, {"file": "d.jpg", "label": "notumor"})

    assert [block.label for block in material.labelled(folder / "truth.csv", LABELS)] == ["glioma", "notumor"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"file": "a", "label": "Gliom"}, "line 2: label 'Gliom' is none of glioma, notumor"),
        ({"file": "nowhere.png", "label": "glioma"}, "nowhere.png does not exist; files are named from the CSV's folder"),
        ({"path": "a", "label": "glioma"}, "wants columns file and label"),
        ({"file": "", "label": "glioma"}, "line 2: its file is missing; each row has a file and its label"),
        ({"file": "a", "label": ""}, "line 2: its label is missing"),
    ],
)
def test_what_a_csv_says_wrong(folder: Path, row: dict[str, str], why: str) -> None:
    """A wrong row is named, with its line and what would be right."""
    write_rows(folder / "truth.csv", row)
    with pytest.raises(NoMaterial, match=r"truth\.csv") as caught:
        material.labelled(folder / "truth.csv", LABELS)
    assert why in str(caught.value)


def test_a_row_that_ends_early(folder: Path) -> None:
    """A row without its last columns is named as one."""
    (folder / "truth.csv").write_text("label,file\nglioma\n")
    with pytest.raises(NoMaterial, match=r"truth\.csv, line 2: its file is missing"):
        material.labelled(folder / "truth.csv", LABELS)


def test_a_picture_counts_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A copy of a picture under another name is passed over aloud: it would judge what its twin calibrated."""
    shutil.copy(folder / "c.png", folder / "copy.png")

    assert len(material.unlabelled(folder)) == 4
    assert "copy.png: the same picture as" in capfd.readouterr().err


def test_one_picture_with_two_labels(folder: Path) -> None:
    """Which of them is true nobody knows, so both files are named."""
    shutil.copy(folder / "c.png", folder / "copy.png")
    write_rows(folder / "truth.csv", {"file": "c.png", "label": "glioma"}, {"file": "copy.png", "label": "notumor"})
    with pytest.raises(NoMaterial, match=r"copy\.png: is notumor, and the same picture .*c\.png is glioma"):
        material.labelled(folder / "truth.csv", LABELS)


def test_what_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that nobody may open is no material, and the line names it and no other place."""

    def shut(self: Path, *more: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", shut)
    with pytest.raises(NoMaterial, match=r"c\.png: cannot be read \(Permission denied\)"):
        material.unlabelled(folder / "c.png")


@pytest.mark.parametrize(("blocks", "slices"), [(150, 2), (300, 1), (3, 100), (5, 3)])
def test_calibration_is_even(monkeypatch: pytest.MonkeyPatch, blocks: int, slices: int) -> None:
    """200 slices at most calibrate, and of whatever count of blocks the first and the last are among them and none is far from one."""
    made = [Block(Path(str(k))) for k in range(blocks)]

    def fed(some: list[Block], *more: object) -> Iterator[tuple[Block, Any]]:
        yield from ((block, SimpleNamespace(tensor=np.full((slices, 1, 1, 1), int(str(block.what))))) for block in some)

    monkeypatch.setattr(material, "prepared", fed)
    told = np.concatenate(trial.calibration(made, bundled(), decode.decode)).ravel()

    assert len(told) == min(200, blocks * slices)
    assert (told[0], told[-1]) == (0, blocks - 1)
    assert np.diff(told).max() <= 2


def test_folders_that_are_no_labels(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Folders of other names, and a folder without anything to read, are refused with what is wanted."""
    with pytest.raises(NoMaterial, match=r"a folder for each label is wanted \(glioma, notumor\), others there: a, b"):
        material.labelled(folder, LABELS)
    with pytest.raises(NoMaterial, match="no DICOM file and no picture"):
        material.unlabelled(tmp_path_factory.mktemp("empty"))
