"""DICOM that a dicom.csv names: file (one file, or the folder of one series) and label; mask, patient and fold if need be.

    headers (as `vitalcheck analyze` reads them) | decode | mask into the slices' places | prepare

So a slice looks to training as it will look when a scanner sends it. A data set ends here; what goes on is arrays, and names of the csv.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from tqdm import tqdm

from listener import headers
from listener.errors import NotDicom
from models.manifest import Recipe
from pipeline.decode import Undecodable, decode
from pipeline.orientation import normal, plane
from pipeline.records import Series, Slices
from scripts.datasets.examples import SEALED_FOLD, BadFile, Classes, DataError, Examples, Job, prepared
from scripts.datasets.folds import folds
from scripts.datasets.pictures import grey
from scripts.datasets.tables import rows_of
from scripts.datasets.volumes import of_head

TABLE = "dicom.csv"
COLUMNS = ("file", "label")
Row = dict[str, str]


def find(data: Path, recipe: Recipe, classes: Classes) -> list[Job]:
    """A job a row, in the csv's folds, else in folds that keep patients whole. Raises DataError."""
    rows = rows_of(data / TABLE, COLUMNS)
    for row in rows:
        classes.index(row["label"], data / row["file"])
    found = [(row, series_at(data / row["file"])) for row in tqdm(rows, "headers")]
    known = [(_patient(row, series), row["label"]) for row, series in found if isinstance(series, Series)]
    made = folds([patient for patient, _ in known], [label for _, label in known])
    given = any(row.get("fold") for row in rows)
    jobs = []
    for row, series in found:
        if isinstance(series, BadFile):
            jobs.append(Job(row["file"], lambda error=series: _raise(error)))  # type: ignore[misc]
        else:
            patient = _patient(row, series)
            sealed = (row["fold"] if given else made[patient]) == SEALED_FOLD
            words = (row["file"], "dicom", "", patient, f"series-{_digest(series.uid)}")
            jobs.append(Job(row["file"], lambda r=row, s=series, w=words, e=sealed: _read(data, r, s, recipe, classes, w, e)))  # type: ignore[misc]
    return jobs


def _raise(error: BadFile) -> Examples:
    raise error


def series_at(path: Path) -> Series | BadFile:
    """The one series at `path`, whole. Files that are no DICOM are passed over, for masks and notes may lie among them."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    refused: list[NotDicom] = []
    found = [series for study in headers.studies(files, skipped=refused.append) for series in study.series]
    if damaged := [error for error in refused if _dicom(error.path)]:
        return BadFile(f"{damaged[0]}{f', and {len(damaged) - 1} more of its series' if len(damaged) > 1 else ''}")
    if not found:
        return BadFile(f"{path}: no DICOM image that can be read")
    if len(found) > 1:
        raise DataError(
            f"{path}: {len(found)} series in one folder; give each its own folder and its own row of {TABLE}, or name single files"
        )
    return found[0]


def _dicom(path: Path) -> bool:
    """Whether it was written as an instance (PS3.10 7.1), readable or not; a DICOMDIR is none."""
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM" or path.suffix.lower() == ".dcm"
    except OSError:
        return True


def _patient(row: Row, series: Series) -> str:
    """As the csv names them, else a digest: what is printed and kept names nobody."""
    return row.get("patient") or f"patient-{_digest(series.instances[0].headers.patient)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read(data: Path, row: Row, series: Series, recipe: Recipe, classes: Classes, words: tuple[str, ...], sealed: bool) -> Examples:
    path, label = data / row["file"], classes.index(row["label"], data / row["file"])
    try:
        slices = decode(series)
    except Undecodable as error:
        raise BadFile(f"{path}: {error.cause}") from error
    inside = _mask(data / row["mask"], slices, series) if row.get("mask") else np.zeros(slices.pixels.shape, bool)
    file, source, _, patient, block = words
    lies = plane(slices.orientation)
    if len(slices.pixels) > 1:
        if label != classes.clear and not row.get("mask"):
            raise DataError(
                f"{path}: {len(slices.pixels)} slices labelled {row['label']} without a mask; name one, or only the files that show it"
            )
        where = data / (row.get("mask") or row["file"])
        return of_head(slices, inside, recipe, where, (label, classes.clear), (file, source, lies, patient, block), sealed)
    images, masks = prepared(slices, inside, recipe, path)
    return Examples(images, masks, np.array([label]), (file,), (source,), (lies,), (patient,), (block,), np.array([sealed]))


def _mask(path: Path, slices: Slices, series: Series) -> NDArray[np.bool_]:
    """(slice, row, column): a NIfTI mask lies where its affine says; a picture is the mask of one slice. Raises BadFile."""
    if not path.name.endswith((".nii", ".nii.gz")):
        return (grey(path) > 127)[None]
    try:
        image = nibabel.load(path)
        drawn = np.asarray(image.dataobj) > 0
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise BadFile(f"{path}: not a NIfTI mask that can be read ({error})") from error
    found = placed(drawn, np.linalg.inv(image.affine), slices, _corners(slices, series, path))
    if drawn.any() and not found.any():
        raise BadFile(f"{path}: what it marks lies outside of the series; draw it on this series, or resample it to it")
    return found


def _corners(slices: Slices, series: Series, where: Path) -> NDArray[np.float64]:
    """(slice, 3): mm, the centre of each slice's first pixel. Raises BadFile where the headers do not say where slices lie."""
    said = {instance.sop_instance_uid: instance.headers.image_position_patient for instance in series.instances}
    known = {k: said[s.sop_instance_uid] for k, s in enumerate(slices.sources) if s.frame in (None, 1) and said[s.sop_instance_uid]}
    across = normal(slices.orientation)
    if not known or across is None or not slices.positions:
        raise BadFile(f"{where}: its series does not say where its slices lie in the patient, so a NIfTI mask cannot be placed")
    first = next(iter(known))  # frames of one object hang on this one; they lie along the normal
    steps = np.array(slices.positions) - slices.positions[first]
    return np.array([known.get(k) or tuple(np.array(known[first]) + step * np.array(across)) for k, step in enumerate(steps)], np.float64)


def placed(drawn: NDArray[np.bool_], from_world: NDArray[np.float64], slices: Slices, corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`drawn` (voxels of a NIfTI) as (slice, row, column) of `slices`: for each pixel the nearest voxel.

    `from_world`: 4 x 4, mm to the right, front and top -> voxel. DICOM counts mm to the left, the back and the top.
    """
    assert slices.orientation is not None
    along_row, along_column = np.array(slices.orientation[:3]), np.array(slices.orientation[3:])
    count, rows, columns = slices.pixels.shape
    down = np.arange(rows)[:, None, None] * slices.spacing[0] * along_column
    across = np.arange(columns)[None, :, None] * slices.spacing[1] * along_row
    found = np.zeros((count, rows, columns), bool)
    for k, corner in enumerate(corners):
        world = (corner + down + across) * (-1, -1, 1)
        voxel = np.rint(world @ from_world[:3, :3].T + from_world[:3, 3]).astype(np.intp)
        inside = ((voxel >= 0) & (voxel < drawn.shape)).all(2)
        found[k][inside] = drawn[tuple(voxel[inside].T)]
    return found
