"""Phantom studies: valid DICOM, geometry that is true, the lesion where its mask says, the same bytes for the same options."""

import csv
import shutil
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from scripts import make_phantom, phantom_scores
from scripts.make_phantom import lesion_mask, write_study
from scripts.phantom.anatomy import GLAND, MIDLINE, WHITE, anatomy
from scripts.phantom.contrast import ATRIUM
from scripts.phantom.paint import TUMOURS, paint
from scripts.phantom.scan import FRAMES
from scripts.phantom_scores import Answer, Phantom
from scripts.syntaxes import SYNTAXES

SMALL = {"slices": 5, "size": 64}


def read(folder, **options) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in write_study(folder, **SMALL, **options)]


def contrast(instances: list[Dataset], mask: np.ndarray) -> float:
    """Mean of the lesion over mean of the head."""
    pixels = np.stack([ds.pixel_array for ds in instances]).astype(float)
    return float(pixels[mask].mean() / pixels[~mask & (pixels > 100)].mean())


def test_study_is_one_subject_in_one_frame_of_reference(tmp_path):
    """A study is a localizer of three planes, a T2 and a T1 series of one subject in one frame of reference, no UID used twice."""
    study = read(tmp_path)
    assert [ds.SeriesDescription for ds in study] == ["LOCALIZER"] * 3 + ["T2 TSE AX"] * 5 + ["T1 SE AX +C"] * 5
    assert len({ds.SOPInstanceUID for ds in study}) == 13
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({ds[keyword].value for ds in study}) == 1
    assert all(str(ds.PatientName).startswith("Phantom^") and ds.StudyInstanceUID.startswith("2.25.") for ds in study)


@pytest.mark.parametrize("plane", list(FRAMES))
def test_slices_are_parallel_and_evenly_spaced(tmp_path, plane):
    """Positions of neighbouring slices differ by the spacing along the normal, in the order of the instance numbers."""
    t1 = read(tmp_path, plane=plane, series=("t1",))
    along_row, along_column = np.array(t1[0].ImageOrientationPatient).reshape(2, 3)
    steps = np.diff([ds.ImagePositionPatient for ds in t1], axis=0)
    assert [ds.InstanceNumber for ds in t1] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(steps, np.tile(np.cross(along_row, along_column) * FRAMES[plane].between, (4, 1)), atol=1e-3)


# --- heads --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tumour", TUMOURS)
def test_same_seed_gives_the_same_head(tumour):
    """A head painted again is the same voxel by voxel, and another seed gives another one."""
    first, again, other = (paint.__wrapped__(tumour, seed) for seed in (3, 3, 4))
    assert first.t1.shape == first.lesion.shape == (181, 217, 181) and first.t1.dtype == np.float32
    for name in ("t1", "t2", "lesion"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.t1, other.t1)
    assert first.lesion.any() == (tumour != "none")


def test_unknown_tumour_is_an_error_that_names_the_known():
    """A tumour that nobody can paint raises ValueError."""
    with pytest.raises(ValueError, match="'metastasis'; there are glioma, meningioma, pituitary, none"):
        paint("metastasis", 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_glioma_has_a_dark_core_and_a_bright_rim_in_oedema(seed):
    """A glioma lies in one hemisphere, darker than white matter inside, brighter at its border, with bright T2 around it."""
    head, healthy = paint("glioma", seed), paint("none", seed)
    core = np.median(head.t1[head.lesion & (head.t2 > 180)])
    rim = np.percentile(head.t1[head.lesion], 90)
    assert core < 0.8 * WHITE < 1.15 * WHITE < rim
    assert abs(np.argwhere(head.lesion)[:, 0].mean() - MIDLINE) > 15
    assert (~head.lesion & (head.t2 > healthy.t2 + 40)).sum() > 0.3 * head.lesion.sum()


@pytest.mark.parametrize("seed", [1, 2, 3, 8])
def test_meningioma_is_bright_and_on_a_dura(seed):
    """A meningioma is brighter than white matter throughout, and reaches the inner table or the falx."""
    head, plain = paint("meningioma", seed), anatomy()
    assert np.percentile(head.t1[head.lesion], 5) > 1.1 * WHITE
    across = np.argwhere(head.lesion)[:, 0]
    assert plain.vault[head.lesion].min() < -2.5 or abs(across - MIDLINE).min() <= 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pituitary_tumour_fills_the_sella_and_rises(seed):
    """A pituitary tumour holds the place of the gland, on the midline, brighter than white matter, and grows higher than it."""
    head = paint("pituitary", seed)
    places = np.argwhere(head.lesion)
    assert head.lesion[tuple(int(x) for x in GLAND)]
    assert abs(places[:, 0].mean() - MIDLINE) < 5
    assert places[:, 2].max() > GLAND[2] + 8
    assert np.median(head.t1[head.lesion]) > 1.1 * WHITE


def test_healthy_head_enhances_where_every_head_does():
    """Sagittal sinus, gland and choroid plexus are brighter than white matter in a head without a tumour."""
    t1 = paint("none", 2).t1
    for x, y, z in ((90, 30, 80), GLAND, ATRIUM):
        i, j, k = int(x), int(y), int(z)
        assert t1[i - 3 : i + 4, j - 6 : j + 7, k - 3 : k + 4].max() > 1.15 * WHITE


# --- masks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", list(FRAMES))
@pytest.mark.parametrize(("tumour", "brighter"), [("meningioma", 1.3), ("pituitary", 1.2)])
def test_mask_lies_on_the_lesion(tmp_path, tumour, brighter, plane):
    """Inside the mask of a solid tumour T1 after contrast is brighter than the rest of the head, in every plane."""
    t1 = read(tmp_path, tumour=tumour, plane=plane, series=("t1",))
    mask = lesion_mask(tumour=tumour, seed=1, plane=plane, **SMALL)
    assert mask.shape == (5, 64, 64)
    assert contrast(t1, mask) > brighter


def test_mask_of_a_glioma_is_what_differs_from_the_same_head_before_it(tmp_path):
    """Its rim makes the brightest part of the mask brighter than nearly all of the head, its core the darkest darker than brain."""
    pixels = np.stack([ds.pixel_array for ds in read(tmp_path, tumour="glioma", series=("t1",))]).astype(float)
    mask = lesion_mask(tumour="glioma", seed=1, **SMALL)
    brain = np.median(pixels[pixels > 200])
    assert np.percentile(pixels[mask], 90) > 1.15 * brain
    assert np.percentile(pixels[mask], 10) < 0.85 * brain


def test_healthy_head_has_no_lesion():
    """Nothing is painted where no tumour was asked for."""
    assert not lesion_mask(tumour="none", seed=3, **SMALL).any()


def test_lesion_is_at_the_same_place_in_all_planes():
    """Masks of axial and sagittal stacks agree on where the lesion lies in the patient."""
    centres = []
    for plane, frame in FRAMES.items():
        mask = lesion_mask(tumour="pituitary", seed=2, plane=plane, slices=24, size=128)
        k, row, column = np.argwhere(mask).mean(0)
        where, head = make_phantom.pose(2), paint("pituitary", 2)
        stack = make_phantom.stack_for(head, where, plane, 24, 128)
        origin = stack.origin(float(stack.offsets[0] + k * frame.between))
        centres.append(origin + stack.spacing * (column * np.array(frame.along_row) + row * np.array(frame.along_column)))
    np.testing.assert_allclose(centres, [centres[0]] * 3, atol=3.0)


def test_same_options_give_the_same_bytes(tmp_path):
    """Writing a study twice gives the same bytes; another seed gives other UIDs and other pixels."""
    first, second = (write_study(tmp_path / name, tumour="none", **SMALL) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    other = pydicom.dcmread(write_study(tmp_path / "c", tumour="none", seed=2, **SMALL)[-1])
    same = pydicom.dcmread(first[-1])
    assert other.SOPInstanceUID != same.SOPInstanceUID and other.PixelData != same.PixelData


def test_demo_study_is_what_the_generator_writes(tmp_path, demo_study):
    """The bundled study is the default one: the same headers, pixels that differ by rounding of this CPU at most."""
    for path in write_study(tmp_path, syntax="jpegls", series=("localizer", "t1")):
        ds, bundled = pydicom.dcmread(path), pydicom.dcmread(demo_study / path.name)
        np.testing.assert_allclose(ds.pixel_array.astype(int), bundled.pixel_array.astype(int), atol=1)
        del ds.PixelData, bundled.PixelData
        assert ds == bundled


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_carries_the_same_study(tmp_path, syntax):
    """Every transfer syntax carries the same instances with the same pixels; lossy ones nearly, and they say that they are lossy."""
    plain = read(tmp_path / "plain", series=("t1",))
    packed = read(tmp_path / syntax, series=("t1",), syntax=syntax)
    lossy = syntax in ("jpegls-near", "jpeg2000-lossy")
    assert [ds.SOPInstanceUID for ds in plain] == [ds.SOPInstanceUID for ds in packed]
    differences = [np.abs(a.pixel_array.astype(int) - b.pixel_array.astype(int)).mean() for a, b in zip(plain, packed, strict=True)]
    assert max(differences) < 30 and (max(differences) > 0) == lossy
    assert all(ds.file_meta.TransferSyntaxUID == SYNTAXES[syntax] for ds in packed)
    assert all((ds.get("LossyImageCompression") == "01") == lossy for ds in packed)


def test_tilted_slices_show_the_same_head(tmp_path):
    """Tilted and turned slices are at right angles, as far apart as straight ones, and show the lesion at its place in the patient."""
    options = {"tumour": "meningioma", "slices": 24, "size": 128}
    centres = []
    for number, oblique in enumerate(({}, {"tilt": 15.0}, {"tilt": -20.0, "turn": 10.0})):
        mask = lesion_mask(seed=7, **options, **oblique)
        t1 = [pydicom.dcmread(path) for path in write_study(tmp_path / str(number), seed=7, series=("t1",), **options, **oblique)]
        along_row, along_column = np.array(t1[0].ImageOrientationPatient, float).reshape(2, 3)
        np.testing.assert_allclose([along_row @ along_row, along_column @ along_column, along_row @ along_column], [1, 1, 0], atol=1e-6)
        origins = np.array([ds.ImagePositionPatient for ds in t1], float)
        np.testing.assert_allclose(np.diff(origins, axis=0) @ np.cross(along_row, along_column), 6.0, atol=1e-3)
        assert contrast(t1, mask) > 1.3
        k, row, column = np.argwhere(mask).T
        spacing = float(t1[0].PixelSpacing[0])
        centres.append((origins[k] + spacing * (column[:, None] * along_row + row[:, None] * along_column)).mean(0))
    np.testing.assert_allclose(centres, [centres[0]] * 3, atol=3.0)


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_numbers_say_nothing_of_place(tmp_path, order):
    """Slices numbered backwards or at random are the slices of the default study, and the mask follows the numbers."""
    plain, other = read(tmp_path / "plain", series=("t1",)), read(tmp_path / order, series=("t1",), order=order)
    places = [ds.SliceLocation for ds in other]
    assert [ds.InstanceNumber for ds in other] == [1, 2, 3, 4, 5] and places != sorted(places)
    assert {ds.SliceLocation: ds.PixelData for ds in plain} == {ds.SliceLocation: ds.PixelData for ds in other}
    masks = [lesion_mask(tumour="glioma", seed=1, order=kind, **SMALL) for kind in ("normal", order)]
    np.testing.assert_array_equal(masks[1], masks[0][np.argsort(np.argsort(places))])


def test_enhanced_object_holds_the_same_slices(tmp_path):
    """The Enhanced MR object has the pixels and positions of the classic series, frame by frame."""
    classic = read(tmp_path / "classic", series=("t1",))
    (enhanced,) = read(tmp_path / "enhanced", series=("t1",), enhanced=True)
    assert np.array_equal(enhanced.pixel_array, np.stack([ds.pixel_array for ds in classic]))
    frames = enhanced.PerFrameFunctionalGroupsSequence
    assert [f.PlanePositionSequence[0].ImagePositionPatient for f in frames] == [ds.ImagePositionPatient for ds in classic]


def test_dimension_indices_follow_the_place(tmp_path):
    """Frames in any order say in their dimension indices where they lie in the stack."""
    (enhanced,) = read(tmp_path, series=("t1",), enhanced=True, order="shuffled")
    frames = enhanced.PerFrameFunctionalGroupsSequence
    depths = [f.PlanePositionSequence[0].ImagePositionPatient[2] for f in frames]
    positions = [f.FrameContentSequence[0].DimensionIndexValues[1] for f in frames]
    assert depths != sorted(depths)
    assert positions == [sorted(depths).index(depth) + 1 for depth in depths]
    assert [f.FrameContentSequence[0].InStackPositionNumber for f in frames] == positions


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian package dicom3tools)")
def test_objects_are_valid(tmp_path):
    """dciodvfy finds no error in any kind of object, classic or enhanced, plain or compressed."""
    paths = write_study(tmp_path / "a", **SMALL) + write_study(tmp_path / "b", series=("t1",), enhanced=True, syntax="jpegls", **SMALL)
    for path in (paths[0], paths[3], paths[8], paths[-1]):
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
        assert "Error" not in said, f"{path.name}: {said}"


def test_making_phantoms_needs_no_training_library():
    """The generator imports neither torch nor what else only training needs."""
    said = "import sys; import scripts.make_phantom; print(*{'torch', 'matplotlib', 'onnxruntime'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout.strip() == ""


# --- scores -------------------------------------------------------------------------------------------------------------


def test_a_hundred_phantoms_are_scored():
    """By default 25 of each kind, 36 axial and 32 in either other plane; all planes of a head follow each other."""
    every = list(phantom_scores.phantoms(9, 8))
    assert len(set(every)) == 100
    assert [sum(phantom.plane == plane for phantom in every) for plane in FRAMES] == [36, 32, 32]
    heads = [(phantom.tumour, phantom.seed) for phantom in every]
    assert sum(a != b for a, b in pairwise(heads)) == len(set(heads)) - 1


@pytest.mark.parametrize(
    ("tumour", "label", "call", "right"),
    [
        ("glioma", "glioma", "present", 1),
        ("glioma", "meningioma", "present", 0),
        ("glioma", "glioma", "unsure", 0),
        ("none", "notumor", "absent", 1),
        ("none", "glioma", "present", 0),
    ],
)
def test_right_is_the_painted_tumour_present_or_none_absent(tumour, label, call, right):
    """Another tumour, or unsure, is wrong."""
    finding = SimpleNamespace(label=label, call=call, probability=0.75)
    assert phantom_scores._answer(Phantom(tumour, "axial", 1), "int8", finding).right == right


def test_scores_as_table_and_as_csv(tmp_path):
    """A declined study counts as wrong; the table's last row counts all; the CSV has one line for each answer."""
    seen = SimpleNamespace(label="glioma", call="present", probability=0.75)
    found = [phantom_scores._answer(Phantom("glioma", "axial", seed), "fp32", finding) for seed, finding in ((1, seen), (2, None))]
    assert phantom_scores.table(found).splitlines()[2:] == ["| axial | glioma | 1/2 |", "| all |  | 1/2 (50%) |"]
    phantom_scores.write(found, tmp_path / "measured" / "phantoms.csv")
    with (tmp_path / "measured" / "phantoms.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert tuple(lines[0]) == Answer._fields == ("tumour", "plane", "seed", "variant", "call", "label", "probability", "right")
    assert [tuple(line.values()) for line in lines] == [
        ("glioma", "axial", "1", "fp32", "present", "glioma", "0.7500", "1"),
        ("glioma", "axial", "2", "fp32", "", "", "", "0"),
    ]


def test_command_line_writes_study_and_mask(tmp_path):
    """The command writes the study to its folder and the mask beside it, not into it."""
    app = make_phantom.typer.Typer()
    app.command()(make_phantom.main)
    options = ["--tumour", "meningioma", "--seed", "4", "--plane", "coronal", "--slices", "3", "--pixel", "4", "--mask"]
    result = CliRunner().invoke(app, [str(tmp_path / "study"), *options, str(tmp_path / "mask.npy")])
    assert result.exit_code == 0, result.output
    assert {path.suffix for path in (tmp_path / "study").iterdir()} == {".dcm"}
    assert np.load(tmp_path / "mask.npy").shape == (3, 60, 60)  # of 4 mm: the field of view stays
