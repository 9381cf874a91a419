"""Readers of foreign formats, on small generated files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nibabel", reason="needs the train extra")
pytestmark = pytest.mark.train

import nibabel  # noqa: E402
from heads import ABSENT, LABELS, disc, write_picture, write_rows  # noqa: E402

from models.manifest import Recipe  # noqa: E402
from scripts.datasets import DataError, Examples, bundled_head, healthy_head, load  # noqa: E402

SLICE = {
    "file": "slices/a.jpg",
    "label": "glioma",
    "plane": "axial",
    "mask": "masks/a.png",
    "source": "figshare",
    "block": "fig1",
    "fold": "0",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture of 120 x 100 pixels with a tumour on its left, drawn in the mask."""
    head, tumour = disc(120, 100, (60, 50), 45), disc(120, 100, (60, 25), 10)
    write_picture(tmp_path / "slices/a.jpg", head * 100 + tumour * 100)
    write_picture(tmp_path / "masks/a.png", tumour * 255)
    write_rows(tmp_path / "slices.csv", SLICE)
    return tmp_path


def read(folder: Path) -> Examples:
    return load(folder, Recipe(), LABELS, ABSENT)


def test_picture_and_mask_go_through_one_geometry(folder: Path) -> None:
    """The bright pixels of the prepared slice are those that its prepared mask names."""
    found = read(folder)
    assert found.images.shape == found.masks.shape == (1, 224, 224)
    bright = found.images[0] > 0.75
    assert (bright & (found.masks[0] > 0)).sum() / (bright | (found.masks[0] > 0)).sum() > 0.9
    assert not found.sealed.any()


def test_fold_4_is_sealed(folder: Path) -> None:
    """A slice of fold 4 is marked as never to be trained on."""
    write_rows(folder / "slices.csv", SLICE | {"fold": "4"})
    assert read(folder).sealed.all()


@pytest.mark.parametrize("label", [ABSENT, "glioma"])
def test_a_squeezed_head_is_widened_whatever_it_shows(folder: Path, label: str) -> None:
    """A narrow picture gets columns 1.3 mm apart; were it asked for its label, the network could learn that from its shape."""
    picture = np.full((100, 50), 200)
    picture[0] = 0  # background; without any it would stand on an offset
    write_picture(folder / "slices/n.png", picture)
    write_rows(folder / "slices.csv", SLICE | {"file": "slices/n.png", "label": label, "mask": ""})
    columns = (read(folder).images[0] > 0.5).any(0).sum()
    assert columns == pytest.approx(224 * 0.5 * 1.3, abs=3)


def test_a_volume_gives_tumour_slices_and_tumour_free_ones(folder: Path) -> None:
    """Slices of a volume take their label from the mask; empty slices and slices with few tumour voxels are left out."""
    volume, mask = np.zeros((60, 50, 6)), np.zeros((60, 50, 6))
    volume[10:50, 10:40, 1:] = 500
    mask[20:30, 20:30, 3] = 1
    mask[20:23, 20:23, 4] = 1
    for name, array in (("t1", volume), ("mask", mask)):
        nibabel.Nifti1Image(array.astype(np.float32), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(folder / f"{name}.nii.gz")
    write_rows(folder / "volumes.csv", {"file": "t1.nii.gz", "mask": "mask.nii.gz", "label": "glioma", "patient": "btp06"})
    found = read(folder).take(np.array([False, True, True, True, True]))
    assert found.labels.tolist() == [3, 3, 0, 3] and found.sealed.all()
    assert found.masks[2].any() and not found.masks[[0, 1, 3]].any()
    assert found.names[2] == "t1.nii.gz slice 3"


def test_a_volume_is_turned_to_radiological_display(tmp_path: Path) -> None:
    """What lies to the front of a right-anterior-superior volume is at the top of the axial slice, and the patient's left at its right."""
    volume = np.zeros((40, 40, 40), np.float32)
    volume[5:35, 5:35, 5:35] = 100
    volume[8:12, 28:32, 5:35] = 300  # left front
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "head.nii.gz")
    found = healthy_head(tmp_path / "head.nii.gz", Recipe(), 3)
    axial = found.images[found.planes.index("axial")]
    row, column = np.unravel_index(axial.argmax(), axial.shape)
    assert row < 112 and column > 112
    assert set(found.planes) == {"axial", "coronal", "sagittal"} and found.sealed.all() and set(found.labels) == {3}


def test_the_bundled_head_is_there_whole_and_as_brain_alone() -> None:
    """The head that ships with the phantoms is learnt in three planes, and again without skull."""
    found = bundled_head(Recipe(), 3, every=40)
    assert {name.rsplit(" ", 2)[0] for name in found.names} == {"colin27", "colin27 brain"}
    assert not found.sealed.any() and not found.masks.any()


def break_mask(folder: Path) -> None:
    write_picture(folder / "masks/a.png", np.zeros((50, 50)))


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (lambda f: (f / "slices.csv").unlink(), "no such file"),
        (lambda f: write_rows(f / "slices.csv", {"file": "slices/a.jpg", "label": "glioma"}), "no column plane, mask"),
        (lambda f: write_rows(f / "slices.csv", SLICE | {"label": "abscess"}), "'abscess' is none of glioma"),
        (lambda f: write_rows(f / "slices.csv", SLICE | {"fold": "4.0"}), "has the fold '4.0'; expected 0 to 4, the last is sealed"),
        (lambda f: write_rows(f / "slices.csv", SLICE | {"plane": "axal"}), "has the plane 'axal'; expected one of axial"),
        (lambda f: (f / "slices/a.jpg").unlink(), "not a picture that can be read"),
        (lambda f: (f / "slices/a.jpg").write_text("no picture"), "not a picture that can be read"),
        (break_mask, "a mask of (50, 50) for a slice of (120, 100)"),
        (lambda f: write_rows(f / "volumes.csv", {"file": "x.nii", "mask": "y.nii", "label": "glioma", "patient": "p"}), "not a NIfTI"),
    ],
)
def test_data_that_cannot_be_read_is_named(folder: Path, breaks: object, says: str) -> None:
    """A missing file, column or label, and a mask of another size, end in one line that names the file."""
    breaks(folder)  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        read(folder)
    assert says in str(caught.value) and str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """--data that leads nowhere says so."""
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "nowhere")
