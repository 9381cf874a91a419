"""Every layout of a folder of data, on small generated files: what is read, in which fold, and what is said of what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nibabel", reason="needs the train extra")
pytest.importorskip("h5py", reason="needs the train extra")
pytestmark = pytest.mark.train

import h5py  # noqa: E402
import nibabel  # noqa: E402
from heads import ABSENT, LABELS, disc, head, write_picture, write_rows  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from objects import AXIAL, CORONAL, SAGITTAL, SECRET, dataset, pixels, write  # noqa: E402

from models.manifest import Recipe  # noqa: E402
from pipeline.decode import decode  # noqa: E402
from pipeline.prepare import prepare  # noqa: E402
from scripts.datasets import DataError, Examples, load  # noqa: E402
from scripts.datasets.dicom import series_at  # noqa: E402
from scripts.datasets.examples import Classes  # noqa: E402
from scripts.datasets.folds import folds  # noqa: E402


def read(folder: Path, **more: Any) -> Examples:
    return load(folder, Recipe(), LABELS, ABSENT, **more)


# a folder per class


@pytest.mark.parametrize(
    ("word", "label"),
    [
        *(("glioma", "glioma"), ("Glioma_Tumor", "glioma"), ("gliomas", "glioma"), ("meningioma tumour", "meningioma")),
        *(("pituitary_tumor", "pituitary"), ("Pituitary Adenoma", "pituitary"), ("notumor", "notumor"), ("no_tumor", "notumor")),
        *(("No Tumor", "notumor"), ("no", "notumor"), ("healthy", "notumor"), ("Normal", "notumor"), ("metastasis", None), ("tumor", None)),
    ],
)
def test_the_usual_words_for_a_class_are_known(word: str, label: str | None) -> None:
    """A folder's or a row's word means a label however people write it, and a word for something else means none."""
    assert Classes(LABELS, ABSENT).named(word) == label


def class_folders(folder: Path, each: int = 6) -> None:
    for k, name in enumerate(("Training/glioma_tumor", "Testing/no tumor", "Training/meningioma", "Training/pituitary")):
        for n in range(each):
            write_picture(folder / name / f"im ({n + 1}).png", head(100 * k + n))


def test_a_folder_per_class_is_read_below_training_and_testing(tmp_path: Path) -> None:
    """Every picture has the label that its folder's name means, and the public parts are one set."""
    class_folders(tmp_path)
    found = read(tmp_path)
    assert len(found) == 24 and [int((found.labels == k).sum()) for k in range(4)] == [6] * 4
    assert all(
        LABELS[label] == Classes(LABELS, ABSENT).named(name.split("/")[1]) for name, label in zip(found.names, found.labels, strict=True)
    )
    assert set(found.labels[found.sealed]) == set(found.labels[~found.sealed]) == {0, 1, 2, 3}


@pytest.mark.parametrize(("name", "hint"), [("Testing/gliom", "is it glioma?"), ("Training/yes", "'yes' is none of")])
def test_a_folder_of_pictures_that_is_of_no_class_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    """A misspelt class folder is named, with the nearest class; without pictures it may be called anything."""
    class_folders(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    assert len(read(tmp_path)) == 24
    write_picture(tmp_path / name / "im (1).png", head(7))
    with pytest.raises(DataError, match=f"{name}: rename it, or move it out of .* holds pictures") as caught:
        read(tmp_path)
    assert hint in str(caught.value)


def test_a_mirrored_copy_is_in_the_fold_of_its_picture(tmp_path: Path) -> None:
    """Where no patient is known, what looks alike is one block and lies in one fold, also across Training and Testing."""
    class_folders(tmp_path)
    for n in range(6):
        write_picture(tmp_path / f"Testing/glioma_tumor/copy{n}.png", head(n)[:, ::-1])
    found = read(tmp_path)
    place = {name: (block, part) for name, block, part in zip(found.names, found.blocks, found.parts, strict=True)}
    for n in range(6):
        assert place[f"Testing/glioma_tumor/copy{n}.png"] == place[f"Training/glioma_tumor/im ({n + 1}).png"]


def test_a_mask_beside_its_picture_is_read(tmp_path: Path) -> None:
    """im_mask.png is the mask of im.png, and no picture."""
    write_picture(tmp_path / "glioma/im.png", head(1))
    write_picture(tmp_path / "glioma/im_mask.png", disc(96, 96, (48, 48), 10) * 255)
    found = read(tmp_path)
    assert len(found) == 1 and found.masks.any()


# Cheng's MATLAB files


def write_mat(path: Path, number: int, *, label: int, patient: str, mask: np.ndarray | None = None) -> None:
    """As MATLAB v7.3 stores it: columns first, text as numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey, drawn = head(number, 64).astype(np.int16) * 16, disc(64, 64, (20, 40), 6) if mask is None else mask
    with h5py.File(path, "w") as file:
        group = file.create_group("cjdata")
        group["image"], group["tumorMask"] = grey.T, drawn.T.astype(np.uint8)
        group["label"], group["PID"] = [[float(label)]], np.array([[ord(letter)] for letter in patient], np.uint16)
        group["tumorBorder"] = np.zeros((1, 8))


def matlab_files(folder: Path) -> None:
    for n in range(1, 13):
        write_mat(folder / f"part{n % 2}/{n}.mat", n, label=1 + n % 3, patient=f"MR19700101{n // 2}")


def test_matlab_files_are_read_with_masks_and_patients(tmp_path: Path) -> None:
    """1 is a meningioma, 2 a glioma, 3 a pituitary tumour; rows are rows; and no patient's number is told."""
    matlab_files(tmp_path)
    found = read(tmp_path)
    assert found.names[0] == "part1/1.mat" and found.names[9] == "part0/10.mat"  # by number, not by name
    assert [LABELS[k] for k in found.labels[:3]] == ["glioma", "pituitary", "meningioma"]
    row, column = (axis.mean() for axis in np.nonzero(found.masks[0]))
    assert row == pytest.approx(20.5 / 64 * 224, abs=2) and column == pytest.approx(40.5 / 64 * 224, abs=2)
    assert not any("1970" in text for text in (*found.blocks, *found.parts))


def test_a_patient_of_matlab_files_is_in_one_fold(tmp_path: Path) -> None:
    """Without cvind.mat folds are made by PID: no patient lies in two."""
    matlab_files(tmp_path)
    found = read(tmp_path)
    assert len(set(found.blocks)) == 7
    assert len(set(zip(found.blocks, found.parts, strict=True))) == 7 and found.sealed.any() and not found.sealed.all()


def test_the_collections_own_folds_are_believed(tmp_path: Path) -> None:
    """cvind.mat's fold 5 is our fold 4, slice by slice in the order of their numbers."""
    matlab_files(tmp_path)
    with h5py.File(tmp_path / "cvind.mat", "w") as file:
        file["cvind"] = [[float(1 + n % 5) for n in range(12)]]
    found = read(tmp_path)
    assert found.parts == tuple(str(n % 5) for n in range(12)) and found.sealed.tolist() == [n % 5 == 4 for n in range(12)]


def test_a_matlab_file_of_another_kind_is_named(tmp_path: Path) -> None:
    """A file that is no HDF5, and a label that Cheng does not have, end in one line with the file's name."""
    (tmp_path / "1.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"1\.mat: not a cjdata of MATLAB v7\.3"):
        read(tmp_path)
    write_mat(tmp_path / "1.mat", 1, label=7, patient="a")
    with pytest.raises(DataError, match=r"1\.mat: label 7; expected one of 1 meningioma"):
        read(tmp_path)


# DICOM


def write_series(
    folder: Path,
    count: int = 5,
    *,
    study: str = "1.2.3",
    orientation: tuple[float, ...] = AXIAL,
    spacing: tuple[float, float] = (2, 3),
    **more: Any,
) -> None:
    """Slices of 48 x 40 pixels, 5 mm apart."""
    right, down = np.array(orientation[:3]), np.array(orientation[3:])
    for k in range(count):
        place = np.array([-60.0, -48.0, 30.0]) + 5.0 * k * np.cross(right, down)
        ds = dataset(study, number=k + 1, ImageOrientationPatient=list(orientation), PixelSpacing=list(spacing), **more)
        ds.ImagePositionPatient = [round(float(x), 4) for x in place]
        pixels(ds, head(k, 48)[:, :40].astype(np.uint16))
        write(folder, ds)


def test_dicom_is_read_as_it_is_served(tmp_path: Path) -> None:
    """What is learnt of a series is, number by number, what decode and prepare give the network."""
    write_series(tmp_path / "healthy")
    write_rows(tmp_path / "dicom.csv", {"file": "healthy", "label": "normal"})
    found, recipe = read(tmp_path), Recipe()
    served = prepare(decode(series_at(tmp_path / "healthy")), recipe).tensor[:, 0] * recipe.std + recipe.mean  # type: ignore[arg-type]
    assert len(found) == 5 and set(found.planes) == {"axial"} and set(found.labels) == {3}
    np.testing.assert_array_equal(found.images, served.astype(np.float16))


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, (0.0, -1.0, 0.0, 1.0, 0.0, 0.0)])
def test_a_nifti_mask_is_placed_by_its_affine(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    """A mask drawn in the patient's space marks the slices, rows and columns that lie there, however the slices lie."""
    write_series(tmp_path / "tumour", orientation=orientation, spacing=(1.5, 2))
    right, down = np.array(orientation[:3]), np.array(orientation[3:])
    centre = np.array([-60.0, -48.0, 30.0]) + 10.0 * np.cross(right, down) + 20 * 1.5 * down + 10 * 2 * right  # slice 3, row 20, column 10
    grid = np.stack(np.meshgrid(*[np.arange(140)] * 3, indexing="ij"), -1) * 2.0 - 140 + 1  # mm to the right, front, top
    ball = (np.abs(grid * (-1, -1, 1) - centre) < 9).all(-1)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -139
    nibabel.Nifti1Image(ball.astype(np.uint8), affine).to_filename(tmp_path / "mask.nii.gz")
    write_rows(tmp_path / "dicom.csv", {"file": "tumour", "label": "glioma", "mask": "mask.nii.gz", "patient": "p1"})
    found = read(tmp_path)
    assert [LABELS[k] for k in found.labels] == ["notumor", "glioma", "glioma", "glioma", "notumor"]
    assert found.masks.any((1, 2)).tolist() == [label == 0 for label in found.labels]


def test_a_damaged_slice_of_a_series_is_told(tmp_path: Path) -> None:
    """A series of which an instance cannot be read is a bad file, named; what is no DICOM, and a DICOMDIR, are passed over."""
    write_series(tmp_path / "healthy")
    for name in ("notes.txt", "DICOMDIR"):
        (tmp_path / "healthy" / name).write_bytes(b"\0" * 128 + (b"DICM" if name == "DICOMDIR" else b""))
    write_rows(tmp_path / "dicom.csv", {"file": "healthy", "label": "normal"})
    assert len(read(tmp_path)) == 5
    hurt = next((tmp_path / "healthy").glob("*.3.dcm"))
    hurt.write_bytes(hurt.read_bytes()[:150])
    with pytest.raises(DataError, match=rf"{hurt.name}: .*--skip-bad"):
        read(tmp_path)


def test_a_nifti_mask_marks_the_pixels_that_it_was_drawn_on(tmp_path: Path) -> None:
    """In an axial slice, whose rows and columns need no turn, the mask's centre is where it was drawn."""
    write_series(tmp_path / "tumour")
    drawn = np.zeros((40, 48, 5), np.uint8)
    drawn[6:15, 16:25, 2] = 1  # columns 6-14, rows 16-24 of slice 3
    affine = np.array([[-3.0, 0, 0, 60], [0, -2.0, 0, 48], [0, 0, 5.0, 30], [0, 0, 0, 1]])
    nibabel.Nifti1Image(drawn, affine).to_filename(tmp_path / "mask.nii")
    write_rows(tmp_path / "dicom.csv", {"file": "tumour", "label": "glioma", "mask": "mask.nii"})
    found = read(tmp_path)
    marked = np.flatnonzero(found.masks.any((1, 2)))
    row, column = (axis.mean() for axis in np.nonzero(found.masks[2]))
    side = 120.0  # mm: 40 columns of 3, against 48 rows of 2
    assert marked.tolist() == [2]
    assert row == pytest.approx((12 + 20.5 * 2) / side * 224, abs=2) and column == pytest.approx(10.5 * 3 / side * 224, abs=2)


def test_a_patient_of_dicom_files_is_in_one_fold_and_is_not_named(tmp_path: Path) -> None:
    """Without a patient column the header's patient keeps series together; its name and number are nowhere in what was read."""
    for k in range(10):
        write_series(tmp_path / f"s{k}", 1, study=f"1.2.{k}", PatientID=f"{SECRET}{k // 2}")
    write_rows(tmp_path / "dicom.csv", *({"file": f"s{k}/1.2.{k}.1.1.dcm", "label": LABELS[k % 2], "mask": ""} for k in range(10)))
    found = read(tmp_path)
    assert len(set(found.parts)) == 5 and all(len(set(found.sealed[np.array(found.parts) == part])) == 1 for part in found.parts)
    assert 0 < found.sealed.sum() < 10 and SECRET not in str((found.parts, found.blocks))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"file": "two", "label": "glioma"}, "2 series in one folder"),
        ({"file": "one", "label": "glioma"}, "5 slices labelled glioma without a mask"),
        ({"file": "none", "label": "glioma"}, "no DICOM image"),
        ({"file": "one", "label": "gliom"}, "'gliom' is none of glioma, meningioma, pituitary, notumor; is it glioma?"),
        ({"file": "one", "label": "glioma", "mask": "far.nii"}, "lies outside of the series"),
        ({"file": "two/1.2.3.1.1.dcm", "label": "glioma", "mask": "small.png"}, "a mask of (9, 9) for a slice of (48, 40)"),
    ],
)
def test_a_row_of_dicom_that_cannot_be_read_is_named(tmp_path: Path, row: dict[str, str], says: str) -> None:
    """What is wrong with a row, where, and how to mend it, in one line; a typo is told the label next to it."""
    write_series(tmp_path / "one")
    for k in range(2):
        write_series(tmp_path / "two", 1, study=f"1.2.{3 + k}")
    affine = np.eye(4)
    affine[:3, 3] = 900
    nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), affine).to_filename(tmp_path / "far.nii")
    write_picture(tmp_path / "small.png", np.full((9, 9), 255))
    write_rows(tmp_path / "dicom.csv", row)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert row["file"] in str(caught.value) or row["mask"] in str(caught.value)


# NIfTI volumes


def write_head(folder: Path, name: str) -> None:
    volume, mask = np.zeros((40, 40, 6)), np.zeros((40, 40, 6))
    volume[5:35, 5:35, 1:], mask[10:20, 10:20, 3] = 500, 1
    for kind, array in (("t1", volume), ("mask", mask)):
        nibabel.Nifti1Image(array.astype(np.float32), np.eye(4)).to_filename(folder / f"{name}_{kind}.nii.gz")


def test_volumes_alone_are_a_layout_and_their_patients_stay_whole(tmp_path: Path) -> None:
    """volumes.csv needs no slices.csv beside it; a fifth of the patients, whole, is sealed; a volume is a block."""
    rows = []
    for k in range(10):
        write_head(tmp_path, f"v{k}")
        rows.append({"file": f"v{k}_t1.nii.gz", "mask": f"v{k}_mask.nii.gz", "label": "glioma", "patient": f"p{k // 2}"})
    write_rows(tmp_path / "volumes.csv", *rows)
    found = read(tmp_path)
    assert set(found.parts) == {f"p{k}" for k in range(5)} and set(found.blocks) == {f"v{k}_t1" for k in range(10)}
    assert len({part for part, sealed in zip(found.parts, found.sealed, strict=True) if sealed}) == 1
    assert len({(part, bool(sealed)) for part, sealed in zip(found.parts, found.sealed, strict=True)}) == 5


def test_a_fold_column_decides_which_patients_are_sealed(tmp_path: Path) -> None:
    """Fold 4 of volumes.csv is sealed, whatever the patient's name."""
    rows = []
    for k in range(2):
        write_head(tmp_path, f"v{k}")
        rows.append({"file": f"v{k}_t1.nii.gz", "mask": f"v{k}_mask.nii.gz", "label": "glioma", "patient": f"p{k}", "fold": "34"[k]})
    write_rows(tmp_path / "volumes.csv", *rows)
    found = read(tmp_path)
    assert {part for part, sealed in zip(found.parts, found.sealed, strict=True) if sealed} == {"p1"}


def test_a_volume_can_be_cut_in_the_plane_it_was_scanned_in(tmp_path: Path) -> None:
    """A plane column cuts the volume across another axis, mask and all; a plane that is none is named."""
    write_head(tmp_path, "v")
    row = {"file": "v_t1.nii.gz", "mask": "v_mask.nii.gz", "label": "glioma", "patient": "p", "plane": "sagittal"}
    write_rows(tmp_path / "volumes.csv", row)
    found = read(tmp_path)
    assert set(found.planes) == {"sagittal"} and len(found) == 20  # of 30, the 10 with a line of 10 voxels are neither
    write_rows(tmp_path / "volumes.csv", row | {"plane": "sideways"})
    with pytest.raises(DataError, match="the plane 'sideways'; expected one of sagittal, coronal, axial"):
        read(tmp_path)


# all of them


def test_a_folder_of_no_layout_teaches_all_five(tmp_path: Path) -> None:
    """A folder with nothing that we know gets an error that says what would be read."""
    (tmp_path / "notes.txt").write_text("?")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    for word in ("slices.csv", "volumes.csv", "dicom.csv", "1.mat", "a folder per class", "docs/data.md"):
        assert word in str(caught.value)


def test_bad_files_are_listed_and_stop_the_reading_unless_they_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every unreadable file is named with its reason; --skip-bad goes on with the others and still names them."""
    class_folders(tmp_path)
    for name in ("Training/glioma_tumor/bad1.png", "Training/meningioma/bad2.png"):
        (tmp_path / name).write_bytes(b"\x89PNG but no more")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert all(word in str(caught.value) for word in ("bad1.png", "bad2.png", "2 files cannot be read", "--skip-bad"))
    assert len(read(tmp_path, skip_bad=True)) == 24
    assert "bad1.png" in (said := capsys.readouterr().err) and "bad2.png" in said and "2 files left out" in said


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(LABELS)), min_size=1, max_size=120))
def test_folds_keep_groups_whole(rows: list[tuple[int, str]]) -> None:
    """Every group has one of five folds, and a class of five groups or more of one size is in all of them."""
    groups, labels = [str(group) for group, _ in rows], [label for _, label in rows]
    made = folds(groups, labels)
    assert set(made) == set(groups) and set(made.values()) <= set("01234")
    assert set(folds([str(k) for k in range(10)], ["glioma"] * 10).values()) == set("01234")
