"""curate: downloads with copies, mirrored and in two classes -> each picture once, in folds that keep what belongs together."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nibabel", reason="needs the train extra")
pytest.importorskip("h5py", reason="needs the train extra")
pytestmark = pytest.mark.train

import h5py  # noqa: E402
from heads import ABSENT, LABELS, disc, head, write_picture  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.manifest import Recipe  # noqa: E402
from scripts.curate import app, curate  # noqa: E402
from scripts.datasets import DataError, load  # noqa: E402
from scripts.datasets.audit import audited  # noqa: E402

SHORT = {"glioma": "gl", "meningioma": "me", "pituitary": "pi", "no_tumor": "no"}
EACH = 10


def brisc(folder: Path) -> Path:
    """Ten axial slices of each class as BRISC has them: by task, by public part, with masks of the tumours."""
    for k, (label, short) in enumerate(SHORT.items()):
        for n in range(EACH):
            part = "test" if n % 5 == 0 else "train"
            name = f"brisc2025_{part}_{100 * k + n:05}_{short}_ax_t1"
            write_picture(folder / f"classification_task/{part}/{label}/{name}.png", head(100 * k + n))
            if label != "no_tumor":
                write_picture(folder / f"segmentation_task/{part}/images/{name}.png", head(100 * k + n))
                write_picture(folder / f"segmentation_task/{part}/masks/{name}.png", disc(96, 96, (40, 40), 8) * 255)
    return folder


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "slices.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_picture_is_kept_once_with_its_mask(tmp_path: Path) -> None:
    """A picture of both tasks is one row; label, plane and mask are those of its name; every file that is named is there."""
    summary = curate(brisc(tmp_path / "brisc"), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 4 * EACH and "BRISC 2025: 40 pictures read" in summary and "0 copies left out" in summary
    for row in rows:
        assert (tmp_path / "out" / row["file"]).is_file() and row["plane"] == "axial" and (row["width"], row["height"]) == ("96", "96")
        assert row["mask"] == ("" if row["label"] == ABSENT else f"masks/{Path(row['file']).stem}.png")
        assert not row["mask"] or (tmp_path / "out" / row["mask"]).is_file()


def test_public_parts_that_were_drawn_from_one_series_lie_beside_each_other_again(tmp_path: Path) -> None:
    """The slices of the test part come between the train slices that they were drawn from, so a block holds neighbours of both."""
    curate(brisc(tmp_path / "brisc"), tmp_path / "out")
    gliomas = [int(row["file"].split("_")[2]) for row in rows_of(tmp_path / "out") if row["label"] == "glioma"]
    assert gliomas == [1, 2, 0, 3, 4, 6, 7, 5, 8, 9]  # 0 and 5 are the test part


def test_a_mirrored_copy_is_found_and_the_one_with_a_mask_is_kept(tmp_path: Path) -> None:
    """Of a picture and its mirrored, turned copies in the other public part one stays: that with a mask."""
    source = brisc(tmp_path / "brisc")
    for number, turned in ((900, head(9)[:, ::-1]), (901, np.rot90(head(9)))):  # before number 9 in the order that is made
        write_picture(source / f"classification_task/test/glioma/brisc2025_test_{number:05}_gl_ax_t1.png", turned)
    summary = curate(source, tmp_path / "out")
    names = {Path(row["file"]).stem for row in rows_of(tmp_path / "out")}
    assert "brisc2025_train_00009_gl_ax_t1" in names and len(names) == 4 * EACH
    assert "2 copies left out; of 3 pairs of copies 3 are mirrored or turned" in summary


def test_a_picture_in_two_classes_is_left_out(tmp_path: Path) -> None:
    """Nobody knows which of its labels is right, so neither is learnt, and both files are named."""
    source = brisc(tmp_path / "brisc")
    write_picture(source / "classification_task/train/no_tumor/brisc2025_train_00950_no_ax_t1.png", head(3))
    summary = curate(source, tmp_path / "out")
    assert "2 pictures left out because the same picture stands in two classes" in summary
    assert "brisc2025_train_00003_gl_ax_t1.png | brisc2025_train_00950_no_ax_t1.png" in summary
    assert len(rows_of(tmp_path / "out")) == 4 * EACH - 1


def test_what_was_curated_passes_the_audit_of_training(tmp_path: Path) -> None:
    """Slices of one head stay in one fold, so nothing leaks; every class is learnt and sealed; blocks do not straddle folds."""
    source = brisc(tmp_path / "brisc")
    for n in range(EACH):  # the next slice of the same head: alike, and no copy
        near = head(n).astype(float) * 0.65 + head(1000 + n) * 0.35
        write_picture(source / f"classification_task/test/glioma/brisc2025_test_{500 + n:05}_gl_ax_t1.png", near)
    curate(source, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    by_number = {int(row["file"].split("_")[2]): row for row in rows if row["label"] == "glioma"}
    assert all(by_number[n]["group"] == by_number[500 + n]["group"] for n in range(EACH)) and len(rows) == 5 * EACH
    assert len({(row["block"], row["fold"]) for row in rows}) == len({row["block"] for row in rows})
    assert len(audited(load(tmp_path / "out", Recipe(), LABELS, ABSENT), LABELS)[0]) == 5 * EACH


def cheng(folder: Path, numbers: range) -> Path:
    """Gliomas as MATLAB files, two slices a patient: the pictures that `brisc` has as its first class."""
    folder.mkdir()
    for n in numbers:
        with h5py.File(folder / f"{n + 1}.mat", "w") as file:
            group = file.create_group("cjdata")
            group["image"], group["tumorMask"] = head(n).T.astype(np.int16) * 9, disc(96, 96, (40, 40), 8).T.astype(np.uint8)
            group["label"], group["PID"] = [[2.0]], np.array([[ord(letter)] for letter in f"patient{n // 2}"], np.uint16)
    return folder


def test_patients_are_found_again_through_their_pictures(tmp_path: Path) -> None:
    """With Cheng's files at hand, a copy of one of his pictures gets his patient as block, and a patient has one fold."""
    curate(brisc(tmp_path / "brisc"), tmp_path / "out", cheng(tmp_path / "cheng", range(EACH)))
    gliomas = [row for row in rows_of(tmp_path / "out") if row["label"] == "glioma"]
    assert {row["source"] for row in gliomas} == {"figshare"} and len({row["block"] for row in gliomas}) == EACH // 2
    assert len({(row["block"], row["fold"]) for row in gliomas}) == EACH // 2
    assert {row["source"] for row in rows_of(tmp_path / "out") if row["label"] != "glioma"} == {"brisc"}


def test_matlab_files_become_pictures_and_masks(tmp_path: Path) -> None:
    """Each .mat is a PNG of its image with its mask beside it, rows as rows."""
    curate(cheng(tmp_path / "cheng", range(6)), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    found = load(tmp_path / "out", Recipe(), LABELS, ABSENT)
    assert [row["file"] for row in rows] == [f"slices/fig{n:04}.png" for n in range(1, 7)]
    row, column = (axis.mean() for axis in np.nonzero(found.masks[0]))
    assert row == pytest.approx(40.5 / 96 * 224, abs=2) == column


def test_a_folder_per_class_is_curated(tmp_path: Path) -> None:
    """Kaggle's Training and Testing become one set under new names; spaces and brackets are gone."""
    for k, name in enumerate(("Training/glioma_tumor", "Testing/no tumor")):
        for n in range(5):
            write_picture(tmp_path / "kaggle" / name / f"image({n}).jpg", head(50 * k + n))
    curate(tmp_path / "kaggle", tmp_path / "out")
    assert {row["label"] for row in rows_of(tmp_path / "out")} == {"glioma", "notumor"}
    assert all(row["file"].startswith(f"slices/{row['label']}_0000") for row in rows_of(tmp_path / "out"))


def test_a_folder_with_something_in_it_is_not_overwritten(tmp_path: Path) -> None:
    """OUT that holds anything is refused; --replace replaces what curate made and nothing else; the result is the same again."""
    source, out = brisc(tmp_path / "brisc"), tmp_path / "out"
    curate(source, out)
    first = rows_of(out)
    with pytest.raises(DataError, match="not empty; give another OUT, or --replace"):
        curate(source, out)
    curate(source, out, replace_old=True)
    assert rows_of(out) == first
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.txt").write_text("mine")
    (out / "volumes").mkdir()  # a data set that somebody joined with what curate made
    for theirs in (tmp_path / "thesis", out):
        with pytest.raises(DataError, match="not only this command made it"):
            curate(source, theirs, replace_old=True)
    with pytest.raises(DataError, match="must lie beside each other"):
        curate(source, source / "out")
    assert (tmp_path / "thesis/chapter1.txt").read_text() == "mine" and (out / "volumes").is_dir()


def test_bad_pictures_are_listed_and_can_be_skipped(tmp_path: Path) -> None:
    """A broken picture and a mask of another size stop curate with exit status 2 and no OUT, unless --skip-bad."""
    source = brisc(tmp_path / "brisc")
    (source / "classification_task/train/no_tumor/brisc2025_train_00301_no_ax_t1.png").write_bytes(b"none")
    write_picture(source / "segmentation_task/train/masks/brisc2025_train_00001_gl_ax_t1.png", np.zeros((9, 9)))
    run = CliRunner().invoke(app, [str(source), str(tmp_path / "out")])
    assert run.exit_code == 2 and not (tmp_path / "out").exists()
    assert "brisc2025_train_00301_no_ax_t1.png: not a picture" in run.output and "a mask of (9, 9)" in run.output
    run = CliRunner().invoke(app, [str(source), str(tmp_path / "out"), "--skip-bad"])
    assert run.exit_code == 0 and len(rows_of(tmp_path / "out")) == 4 * EACH - 2


def test_a_download_that_is_none_is_told_what_would_be_read(tmp_path: Path) -> None:
    """A folder without any known collection names the three that are."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither brisc2025_\.\.\. pictures, nor 1\.mat, 2\.mat \.\.\., nor a folder per class"):
        curate(tmp_path / "empty", tmp_path / "out")
