"""The same head is the same head: however its slices are numbered, sent, wrapped, sampled, tilted or compressed, the finding stays.

The real network on a meningioma that it knows well (scripts/phantom_scores.py): a test of what comes before and after it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoders import LOSSLESS, LOSSY, Encoder
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from listener.headers import studies
from models import registry
from models.registry import Model
from pipeline.decode import decode
from pipeline.records import Finding, Slices, Source
from pipeline.run import analyze
from scripts.make_phantom import write_study
from scripts.phantom.scan import FRAMES

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BETWEEN = FRAMES["axial"].between  # mm from slice to slice
CELL = 240.0 / 14  # mm: what one cell of the network's evidence covers
Point = NDArray[np.float64]


def phantom(folder: Path, **options: Any) -> list[Path]:
    """The T1 series, 12 slices around the lesion."""
    return write_study(folder, **({"tumour": "meningioma", "seed": 7, "slices": 12, "series": ("t1",)} | options))


@dataclass(frozen=True)
class Answer:
    finding: Finding
    slices: Slices
    centre: Point  # of the region, in patient coordinates, mm
    normal: Point  # of the slices

    @property
    def probabilities(self) -> dict[str, float]:
        return dict(self.finding.probabilities)


@pytest.fixture(scope="module", params=["int8", "fp32"])
def model(request: pytest.FixtureRequest) -> Model:
    """The bundled network; skipped by name where this CPU may not run the variant."""
    return _model(request.param)


@pytest.fixture(scope="module")
def int8() -> Model:
    return _model("int8")


def _model(variant: Any) -> Model:
    loaded = registry.load("brain_tumor_4class", variant=variant, shadow_rate=0.0)
    if loaded.selector.variant != variant:
        pytest.skip(f"{variant} does not answer on this CPU")
    return loaded


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As a scanner would send it: numbered along the stack, uncompressed, 0.94 mm."""
    return phantom(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fewer of them, for the many encoders."""
    return phantom(tmp_path_factory.mktemp("few"), slices=6)


@pytest.fixture(scope="module")
def uncompressed(few: list[Path], int8: Model) -> Answer:
    return answer(few, int8)


@pytest.fixture(scope="module")
def reference(plain: list[Path], model: Model) -> Answer:
    return answer(plain, model)


def answer(paths: list[Path], model: Model) -> Answer:
    """What becomes of the study in `paths`."""
    [study] = studies(paths)
    report = analyze(study, [model], NOW)
    assert report.finding is not None and report.choice.series is not None, report.reason
    centre, normal = locate(report.finding, paths)
    return Answer(report.finding, decode(report.choice.series), centre, normal)


def locate(finding: Finding, paths: list[Path]) -> tuple[Point, Point]:
    """Where the middle of the region lies in the patient (PS3.3 C.7.6.2.1.1), and the normal of its slice; read by pydicom, not by us."""
    plane = next(plane for path in paths for plane in [_plane(dcmread(path), finding.key_sources[0])] if plane)
    position, orientation, spacing = (np.array([float(v) for v in value]) for value in plane)
    column, row = np.mean(finding.region[:-1], axis=0) - 0.5  # from the outer corner of the first pixel to its middle
    along_row, along_column = orientation[:3], orientation[3:]
    return position + column * spacing[1] * along_row + row * spacing[0] * along_column, np.cross(along_row, along_column)


def _plane(ds: Dataset, source: Source) -> tuple[Any, Any, Any] | None:
    if ds.SOPInstanceUID != source.sop_instance_uid:
        return None
    if source.frame is None:
        return ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing
    shared, own = ds.SharedFunctionalGroupsSequence[0], ds.PerFrameFunctionalGroupsSequence[source.frame - 1]
    return (
        own.PlanePositionSequence[0].ImagePositionPatient,
        shared.PlaneOrientationSequence[0].ImageOrientationPatient,
        shared.PixelMeasuresSequence[0].PixelSpacing,
    )


def same_finding(a: Finding, b: Finding) -> bool:
    return (a.label, a.call) == (b.label, b.call) == ("meningioma", "present")


# --- the same pixels --------------------------------------------------------------------------------------------------


def again_with_new_uids(folder: Path) -> list[Path]:
    """Each slice twice, as a workstation sends it back: a new SOP Instance UID, nothing else new."""
    paths = phantom(folder)
    for path in list(paths):
        ds = dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID[:-4]}99"
        paths.append(folder / f"copy_{path.name}")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def again_exactly(folder: Path) -> list[Path]:
    paths = phantom(folder)
    return [*paths, *(Path(shutil.copy(path, folder / f"copy_{path.name}")) for path in paths)]


SAME_PIXELS: dict[str, Callable[[Path], list[Path]]] = {
    "numbered backwards": lambda folder: phantom(folder, order="reversed"),
    "numbered at random": lambda folder: phantom(folder, order="shuffled"),
    "sent backwards": lambda folder: phantom(folder)[::-1],
    "each slice twice, new UIDs": again_with_new_uids,
    "each slice twice, same UIDs": again_exactly,
    "Enhanced": lambda folder: phantom(folder, enhanced=True),
    "Enhanced, frames backwards": lambda folder: phantom(folder, enhanced=True, order="reversed"),
    "Enhanced, frames at random": lambda folder: phantom(folder, enhanced=True, order="shuffled"),
}


@pytest.mark.parametrize("how", SAME_PIXELS)
def test_same_pixels_give_the_same_answer(how: str, reference: Answer, model: Model, tmp_path: Path) -> None:
    """Slices numbered, sent, repeated or wrapped in whatever way are the same stack: same probabilities, same place, same region."""
    got = answer(SAME_PIXELS[how](tmp_path), model)

    assert same_finding(got.finding, reference.finding)
    np.testing.assert_array_equal(got.slices.pixels, reference.slices.pixels)
    np.testing.assert_allclose(got.slices.positions, reference.slices.positions, atol=1e-3)
    assert got.probabilities == pytest.approx(reference.probabilities, abs=1e-6)
    np.testing.assert_allclose(got.centre, reference.centre, atol=1e-3)


# --- the same head, measured otherwise --------------------------------------------------------------------------------

MEASURED_OTHERWISE: dict[str, dict[str, Any]] = {
    "0.5 mm": {"size": 480},
    "1 mm": {"size": 240},
    "2 mm": {"size": 120},
    "15 degrees oblique": {"tilt": 15.0},
    "15 degrees oblique the other way": {"tilt": -15.0},
    "15 degrees turned in the plane": {"turn": 15.0},
    "oblique, 0.5 mm, numbered at random": {"tilt": 15.0, "size": 480, "order": "shuffled"},
    "oblique, Enhanced": {"tilt": 15.0, "enhanced": True},
}


@pytest.mark.parametrize("how", MEASURED_OTHERWISE)
def test_same_head_gives_the_same_finding_in_the_same_place(how: str, reference: Answer, model: Model, tmp_path: Path) -> None:
    """Other pixels of the same head, smaller, larger or oblique: same call and label, the key location within one slice and one cell."""
    got = answer(phantom(tmp_path, **MEASURED_OTHERWISE[how]), model)

    assert same_finding(got.finding, reference.finding)
    apart = got.centre - reference.centre
    assert abs(apart @ got.normal) <= BETWEEN + 0.01  # slices lie along it; along the other normal a step within the slice counts, too
    assert np.linalg.norm(apart) <= CELL


# --- the same head, compressed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", LOSSLESS, ids=lambda encoder: encoder.name)
def test_lossless_syntaxes_change_nothing(encoder: Encoder, few: list[Path], uncompressed: Answer, int8: Model, tmp_path: Path) -> None:
    """Every lossless transfer syntax gives the slices of the uncompressed series, pixel for pixel, and so the same finding."""
    want, got = uncompressed, answer(encoder(few, tmp_path), int8)

    np.testing.assert_array_equal(got.slices.pixels, want.slices.pixels)
    assert got.finding == want.finding


@pytest.mark.parametrize("encoder", LOSSY, ids=lambda encoder: encoder.name)
def test_lossy_syntaxes_do_not_change_the_finding(
    encoder: Encoder, few: list[Path], uncompressed: Answer, int8: Model, tmp_path: Path
) -> None:
    """Every lossy transfer syntax gives the call and the label of the uncompressed series, in the same place within one slice."""
    want, got = uncompressed, answer(encoder(few, tmp_path), int8)

    assert not np.array_equal(got.slices.pixels, want.slices.pixels)
    assert same_finding(got.finding, want.finding)
    assert abs((got.centre - want.centre) @ want.normal) <= BETWEEN + 0.01
