"""The key image: what a person sees on it, and what its header says of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from reports import REGION, parsed, result

from pipeline import picture
from pipeline.display import Display, Window, grey

MARKED = (255, 221, 0)
RAMP = np.arange(100, dtype=np.float32).reshape(10, 10)


def key_image(folder: Path, kind: str = "present", **more: Any) -> Any:
    (document,) = result(folder, kind, wanted=("key-image",), **more)[1]
    return parsed(document)


def marked(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (pixels == MARKED).all(-1)


def test_the_region_is_drawn_where_it_lies(tmp_path: Path) -> None:
    """The outline runs along the region's edges, twelve times enlarged as the slice of 64 pixels is, and nowhere else in the slice."""
    drawn = marked(key_image(tmp_path).pixel_array[:768])
    rows, columns = np.nonzero(drawn)
    (left, top), (right, bottom) = np.min(REGION, 0) * 12, np.max(REGION, 0) * 12
    assert abs(columns.min() - left) <= 2 and abs(columns.max() - right) <= 2
    assert abs(rows.min() - top) <= 2 and abs(rows.max() - bottom) <= 2
    assert not drawn[int(top) + 6 : int(bottom) - 6, int(left) + 6 : int(right) - 6].any()
    assert drawn[int(top) + 60, int(left) - 2 : int(left) + 3].any() and drawn[int(top) - 2 : int(top) + 3, int(left) + 60].any()


def test_words_stand_below_the_slice(tmp_path: Path) -> None:
    """A line in yellow, then lines in white, on a band of their own below the slice."""
    band = key_image(tmp_path).pixel_array[768:]
    assert marked(band[:45]).sum() > 100 and not marked(band[45:]).any()
    white = (band == 255).all(-1).any(1)
    assert (np.diff(white[45:].astype(int)) == 1).sum() >= 4  # lines: finding, place, outline, model


def test_what_a_result_replaces_costs_no_other_sentence(tmp_path: Path) -> None:
    """Where a sentence comes between what was found and where, the picture has a line more, and none less."""
    usual, more = (key_image(tmp_path / kind, kind).pixel_array.shape[0] for kind in ("present", "revised"))
    assert more > usual


def test_the_header_says_what_it_is(tmp_path: Path) -> None:
    """Derived, of a workstation, from the key slice; nothing burned in identifies the patient (PS3.3 C.7.6.1); not lossy."""
    ds = key_image(tmp_path, "frames")
    assert (list(ds.ImageType), ds.ConversionType, ds.BurnedInAnnotation) == (["DERIVED", "SECONDARY"], "WSD", "NO")
    (source,) = ds.SourceImageSequence
    assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == ("2.25.1.3.1", 2)
    assert [i.ReferencedFrameNumber for i in ds.ReferencedImageSequence] == [2, 3, 1]
    assert "not verified" in ds.DerivationDescription
    assert ds.LossyImageCompression == "00"
    assert list(ds.PatientOrientation) == ["L", "P"]


def test_once_lossy_always_lossy(tmp_path: Path) -> None:
    """A picture made of a lossy one says so."""
    assert key_image(tmp_path, LossyImageCompression="01").LossyImageCompression == "01"


def test_the_slice_is_shown_with_its_own_window(tmp_path: Path) -> None:
    """The window of the slice decides what is white, and without one the slice's own values do."""
    dim = key_image(tmp_path / "a", WindowCenter=4000, WindowWidth=8000).pixel_array
    plain = key_image(tmp_path / "b").pixel_array
    assert dim[384, 200, 0] == pytest.approx(255 * 1000 / 8000, abs=2)
    assert plain[384, 200, 0] > 100


@pytest.mark.parametrize(
    ("window", "low", "high"),
    [
        (Window(50, 101), 1, 254),
        (Window(50, 100, "LINEAR_EXACT"), 0, 252),
        (Window(50, 20, "SIGMOID"), 0, 255),
        (Window(5000, 1), 0, 255),  # shows nothing, so the slice's own values decide
        (None, 0, 255),
    ],
)
def test_windows(window: Window | None, low: int, high: int) -> None:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    shown = grey(RAMP, Display(window))
    assert (int(shown[0, 0]), int(shown[-1, -1])) == (pytest.approx(low, abs=1), pytest.approx(high, abs=1))


def test_monochrome1_is_shown_as_decode_turned_it() -> None:
    """Its window counts from the other end, so it is not used."""
    assert (grey(RAMP, Display(Window(90, 20), inverse=True)) == grey(RAMP, Display())).all()


@pytest.mark.parametrize(
    ("shape", "spacing", "shown"),
    [
        ((100, 100), (2.0, 1.0), (768, 384)),
        ((100, 100), (1.0, 2.0), (384, 768)),
        ((100, 100), (0.001, 1.0), (768, 768)),  # an error, and a bomb if it were believed
        ((3000, 6000), (1.0, 1.0), (1024, 2048)),
        ((512, 2), (1.0, 1.0), (768, 3)),
    ],
)
def test_pixels_are_square(shape: tuple[int, int], spacing: tuple[float, float], shown: tuple[int, int]) -> None:
    """A slice whose rows lie twice as far apart as its columns is shown twice as high; none too small to read or too large to hold."""
    painted = picture.paint(np.full(shape, 200, np.uint8), spacing, [], "t", [])
    rows, columns = np.nonzero((painted == 200).all(-1))
    assert (rows.max() + 1, columns.max() + 1) == (pytest.approx(shown[0], abs=40), pytest.approx(shown[1], abs=1))
    assert painted.shape[1] == max(shown[1], 768)


@pytest.mark.parametrize(("center", "width"), [("1e300", "1e300"), ("0", "0"), ("-1e38", "1"), ("40", "-80"), ("\\", "")])
def test_a_window_that_cannot_be_is_not_used(center: str, width: str, tmp_path: Path) -> None:
    """The slice is shown by its own values then."""
    odd = key_image(tmp_path / "a", WindowCenter=center, WindowWidth=width).pixel_array
    assert (odd == key_image(tmp_path / "b").pixel_array).all()
