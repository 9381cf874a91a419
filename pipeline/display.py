"""display: how a slice is meant to be shown: rescale and window as its own header says, and the slice as grey values of a screen.

Asked for the one slice that a finding is seen best on, after decode has read it, so that a key image shows what the viewer shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset

from pipeline.attributes import capitals, item, items, number, numbers, value
from pipeline.part10 import HEADER, UNREADABLE, after_meta, encoding, inflated
from pipeline.records import Instance, Pixels
from pipeline.syntaxes import DEFLATED

_DARKEST, _BRIGHTEST = 1.0, 99.5  # percent of a slice's pixels below black, below white, where nobody chose a window
_ABSURD = 1e9  # no window is there
_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{k}" for k in (50, 51, 81))  # by their names; of others the header says it
_READ = [
    tag_for_keyword(keyword)
    for keyword in (
        *("PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "LossyImageCompression"),
        *("WindowCenter", "WindowWidth", "VOILUTFunction", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    )
]


class Window(NamedTuple):
    """PS3.3 C.11.2.1.2, in modality units."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True)
class Display:
    """What the header says. `window` is None where it says none that can be used."""

    window: Window | None = None
    rescale: tuple[float, float, str] | None = None  # slope, intercept, type; None: stored values are shown as they are
    inverse: bool = False  # MONOCHROME1: the smallest value is white (PS3.3 C.7.6.3.1.2)
    lut: bool = False  # a table leads to modality units instead of slope and intercept (PS3.3 C.11.1)
    lossy: bool = False


def read(instance: Instance, frame: int | None) -> Display:
    """Of one frame, counted from 1, or of the only one. A header that cannot be read says nothing."""
    try:
        ds = _header(instance)
        frames = items(ds, "PerFrameFunctionalGroupsSequence")
    except UNREADABLE:
        return Display()
    own = frames[frame - 1] if frame is not None and frame <= len(frames) else Dataset()
    places = [own, item(ds, "SharedFunctionalGroupsSequence") or Dataset()]
    return Display(
        window=_window(_group(places, "FrameVOILUTSequence") or ds),
        rescale=_rescale(_group(places, "PixelValueTransformationSequence") or ds),
        inverse=capitals(ds, "PhotometricInterpretation") == "MONOCHROME1",
        lut=value(ds, "ModalityLUTSequence") is not None,
        lossy=capitals(ds, "LossyImageCompression") == "01" or instance.transfer_syntax_uid in _LOSSY,
    )


def grey(picture: Pixels, display: Display) -> NDArray[np.uint8]:
    """A slice as decode gives it (more is brighter), black to white."""
    if display.window is not None and not display.inverse:  # decode turned MONOCHROME1 round, the window with it
        shown = _windowed(picture, display.window)
        if shown.min() < shown.max():
            return shown
    return _windowed(picture, usual(picture))


def usual(picture: Pixels) -> Window:
    """A window for a slice for which nobody chose one."""
    low, high = (float(v) for v in np.percentile(picture, (_DARKEST, _BRIGHTEST)))
    if low >= high:
        low, high = float(picture.min()), float(picture.max())
    return Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


def _windowed(picture: Pixels, window: Window) -> NDArray[np.uint8]:
    center, width, function = window
    if function == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (picture - center) / width, -50, 50)))
    elif function == "LINEAR_EXACT" or width <= 1:
        share = (picture - center) / width + 0.5
    else:
        share = (picture - (center - 0.5)) / (width - 1) + 0.5
    levels: NDArray[np.uint8] = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return levels


def _header(instance: Instance) -> Dataset:
    with instance.path.open("rb") as file:
        after_meta(file)
        stream: Any = BytesIO(inflated(file, HEADER)) if instance.transfer_syntax_uid == DEFLATED else file
        stop = lambda tag, _vr, _length: tag.group >= 0x7FE0  # noqa: E731 - as in inherited
        return read_dataset(stream, *encoding(instance.transfer_syntax_uid), stop_when=stop, specific_tags=_READ)


def _group(places: list[Dataset], keyword: str) -> Dataset | None:
    """The functional group of a frame: its own, else the shared one (PS3.3 C.7.6.16)."""
    return next((found for place in places if (found := item(place, keyword)) is not None), None)


def _window(said: Dataset) -> Window | None:
    """The first of those that the object offers."""
    center, width = (numbers(said, keyword, 1, more=True) for keyword in ("WindowCenter", "WindowWidth"))
    function = capitals(said, "VOILUTFunction") or "LINEAR"
    if center is None or width is None or function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return None
    narrowest = 1.0 if function == "LINEAR" else 1e-6
    return Window(center[0], width[0], function) if abs(center[0]) < _ABSURD and narrowest <= width[0] < _ABSURD else None


def _rescale(said: Dataset) -> tuple[float, float, str] | None:
    """As decode reads it: one of the two may be missing."""
    slope, intercept = number(said, "RescaleSlope"), number(said, "RescaleIntercept")
    if slope is None and intercept is None:
        return None
    return slope or 1.0, intercept or 0.0, "HU" if capitals(said, "RescaleType") == "HU" else "US"
