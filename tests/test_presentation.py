"""The presentation state: the region over the slice itself, and the slice as it is meant to be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from reports import REGION, parsed, result, tool, written

WANTED = ("presentation",)


def presentation(folder: Path, kind: str = "present", **more: Any) -> Any:
    (document,) = result(folder, kind, wanted=WANTED, **more)[1]
    return parsed(document)


@pytest.mark.parametrize(("kind", "uid", "frame"), [("present", "2.25.1.3.2", None), ("frames", "2.25.1.3.1", 2)])
def test_the_region_is_drawn_on_the_key_slice(kind: str, uid: str, frame: int | None, tmp_path: Path) -> None:
    """One closed line in pixels of the key slice, or of its frame, with words below it; every reference is to that slice."""
    ds = presentation(tmp_path, kind)
    (annotation,) = ds.GraphicAnnotationSequence
    (line,), (text,) = annotation.GraphicObjectSequence, annotation.TextObjectSequence
    np.testing.assert_allclose(np.array(line.GraphicData).reshape(-1, 2), [*REGION, REGION[0]])
    assert (line.GraphicType, line.GraphicAnnotationUnits, line.NumberOfGraphicPoints) == ("POLYLINE", "PIXEL", 5)
    assert text.UnformattedTextValue.startswith("AI Result, Not Verified\r\nBrain tumour found, certainty high (99%)")
    (series,) = ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "2.25.1.3"
    for holder in (series, annotation, *ds.DisplayedAreaSelectionSequence):
        (reference,) = holder.ReferencedImageSequence
        assert (reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")) == (uid, frame)


def test_the_slice_keeps_its_window(tmp_path: Path) -> None:
    """Window, rescale and its units are the slice's, for without them a presentation shows stored values (PS3.4 N.2)."""
    ds = presentation(tmp_path, "ct", WindowCenter=[40, 300], WindowWidth=[80, 1500])
    (window,) = ds.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth, window.VOILUTFunction) == (40, 80, "LINEAR")
    assert (ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType) == (1, -1024, "HU")
    assert ds.PresentationLUTShape == "IDENTITY"


def test_a_window_that_cannot_be_is_not_handed_on(tmp_path: Path) -> None:
    """Where the slice names none that shows anything, one is made of its own values."""
    (window,) = presentation(tmp_path, WindowCenter="1e300", WindowWidth="100").SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth, window.VOILUTFunction) == (1000, 2000, "LINEAR_EXACT")


def test_frames_have_windows_of_their_own(tmp_path: Path) -> None:
    """The window of an Enhanced object's frame is that frame's, else the shared one."""
    (one, other), window = (Dataset(), Dataset()), Dataset()
    window.WindowCenter, window.WindowWidth = 300, 700
    other.FrameVOILUTSequence = [window]
    ds = presentation(tmp_path, "frames", PerFrameFunctionalGroupsSequence=[one, other])
    assert ds.SoftcopyVOILUTSequence[0].WindowCenter == 300
    shared = Dataset()
    shared.FrameVOILUTSequence = [window]
    ds = presentation(tmp_path / "b", "frames", SharedFunctionalGroupsSequence=[shared])
    assert ds.SoftcopyVOILUTSequence[0].WindowWidth == 700


def test_monochrome1_is_turned_round(tmp_path: Path) -> None:
    """Where the smallest value is white the presentation says so, for it stands above the photometric interpretation."""
    ds = presentation(tmp_path, PhotometricInterpretation="MONOCHROME1")
    assert ds.PresentationLUTShape == "INVERSE"
    assert "SoftcopyVOILUTSequence" not in ds


def test_none_over_a_modality_lut(tmp_path: Path) -> None:
    """A slice whose units come from a table gets no presentation: without the table it would be shown wrong."""
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData, lut.ModalityLUTType = [4, 0, 16], bytes(range(8)), "US"
    assert result(tmp_path, "present", wanted=WANTED, ModalityLUTSequence=[lut])[1] == ()


@pytest.mark.parametrize("kind", ["present", "frames", "ct"])
def test_dcmtk_shows_it(kind: str, tmp_path: Path) -> None:
    """DCMTK renders the slice under the presentation: the head is grey, what is bright in it is white, air is black."""
    of, documents = result(tmp_path, kind, wanted=WANTED)
    (path,) = written(documents, tmp_path)
    uid = parsed(documents[0]).ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
    image = next(i.path for i in of.instances if i.sop_instance_uid == uid)
    frame = ("--frame", "2") if kind == "frames" else ()
    tool("dcmp2pgm", "-p", path, *frame, image, tmp_path / "shown.pgm")
    shown = np.asarray(Image.open(tmp_path / "shown.pgm"))
    assert shown.shape == (64, 64)
    assert shown[0, 0] == 0 and 80 < shown[40, 40] < 180 and shown[33, 27] == 255
