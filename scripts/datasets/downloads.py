"""Public downloads as they are unpacked: BRISC 2025, Cheng's MATLAB files, a folder per class -> one Picture a file, still with its copies.

brisc2025_train_00001_gl_ax_t1.jpg, masks of the same name in a folder `masks`
1.mat ... 3064.mat
Training/glioma_tumor/gg (1).jpg
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.records import Pixels
from scripts.datasets import figshare, folders
from scripts.datasets.examples import BadFile, Classes, DataError
from scripts.datasets.pictures import grey

BRISC = re.compile(r"brisc2025_(train|test)_(\d+)_(gl|me|pi|no)_(ax|co|sa)_t1", re.IGNORECASE)
_LABELS = {"gl": "glioma", "me": "meningioma", "pi": "pituitary", "no": "notumor"}
_PLANES = {"ax": "axial", "co": "coronal", "sa": "sagittal"}


@dataclass(frozen=True)
class Picture:
    """One file of a download. Neighbours in a series are often one patient's, for collections are numbered patient by patient."""

    path: Path
    name: str  # that it will bear, without suffix; no two of a download have the same
    label: str
    plane: str
    source: str
    series: str  # a class and a plane
    place: float  # in its series, 0..1; public parts that were drawn from one series in order come to lie beside each other again
    mask: Path | None = None
    patient: str = ""  # a digest; empty where the download names none

    def pixels(self) -> Pixels:
        """(row, column), 0..255. Raises BadFile."""
        return as_grey(figshare.pixels_and_mask(self.path)[0]) if self.path.suffix == ".mat" else grey(self.path)

    def drawn(self) -> NDArray[np.bool_] | None:
        """(row, column), where a tumour was drawn. Raises BadFile."""
        if self.path.suffix == ".mat":
            return figshare.pixels_and_mask(self.path)[1]
        return grey(self.mask) > 127 if self.mask else None


def as_grey(pixels: Pixels) -> Pixels:
    """Any range to 0..255: a thousandth of the pixels may be white."""
    top = np.float32(np.percentile(pixels, 99.9) or 1.0)
    shown: Pixels = np.clip(pixels / top, 0, 1) * np.float32(255)
    return shown


def pictures(source: Path, classes: Classes) -> tuple[str, list[Picture], list[BadFile]]:
    """Name of the layout, its pictures in their original order, and files that cannot be read. Raises DataError."""
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; SOURCE is a download, unpacked")
    if found := _brisc(source):
        return "BRISC 2025", found, []
    if figshare.present(source, classes):
        return "Cheng's MATLAB files", *_matlab(source)
    if found := _folders(source, classes):
        return "a folder per class", found, []
    raise DataError(
        f"{source}: neither brisc2025_... pictures, nor 1.mat, 2.mat ..., nor a folder per class (glioma/, no_tumor/ ...); see docs/data.md"
    )


def _brisc(source: Path) -> list[Picture]:
    """Each number once, whether it lies in the classification task, the segmentation task or both."""
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in folders.SUFFIXES and BRISC.match(path.stem))
    masks = {path.stem: path for path in files if path.parent.name == "masks"}
    found = {path.stem: _brisc_picture(path, masks.get(path.stem)) for path in reversed(files) if path.parent.name != "masks"}
    return _placed([found[stem] for stem in sorted(found)], [BRISC.match(stem)[1] for stem in sorted(found)])  # type: ignore[index]


def _brisc_picture(path: Path, mask: Path | None) -> Picture:
    _, _, label, plane = BRISC.match(path.stem).groups()  # type: ignore[union-attr]
    return Picture(path, path.stem, _LABELS[label.lower()], _PLANES[plane.lower()], "brisc", f"{label}-{plane}".lower(), 0.0, mask)


def _placed(found: Sequence[Picture], parts: Sequence[str]) -> list[Picture]:
    """`found`, which is in order within each of the public `parts`, by series and place."""
    keys = [(picture.series, part) for picture, part in zip(found, parts, strict=True)]
    count, seen = Counter(keys), Counter[tuple[str, str]]()
    placed = []
    for picture, key in zip(found, keys, strict=True):
        placed.append(replace(picture, place=(seen[key] + 0.5) / count[key]))
        seen[key] += 1
    return sorted(placed, key=lambda picture: (picture.series, picture.place))


def _matlab(source: Path) -> tuple[list[Picture], list[BadFile]]:
    found, bad = [], []
    for path in tqdm(figshare.files(source), "patients"):
        try:
            head = figshare.head(path)
        except BadFile as error:
            bad.append(error)
            continue
        found.append(Picture(path, f"fig{path.stem:0>4}", head.label, "unknown", "figshare", head.label, 0.0, patient=head.patient))
    return _placed(found, [""] * len(found)), bad


def _folders(source: Path, classes: Classes) -> list[Picture]:
    found = []
    files = folders.files(source, classes) if folders.present(source, classes) else []
    for k, (path, label) in enumerate(files):
        mask = path.with_name(f"{path.stem}_mask.png")
        found.append(Picture(path, f"{label}_{k:05}", label, "unknown", "folder", label, 0.0, mask if mask.exists() else None))
    return _placed(found, [picture.path.parent.relative_to(source).as_posix() for picture in found])
