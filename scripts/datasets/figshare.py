"""J. Cheng's collection (figshare 1512427): 1.mat ... 3064.mat, MATLAB v7.3, that is HDF5, and cvind.mat with its five folds of patients.

Each holds `cjdata`: image, label (1 meningioma, 2 glioma, 3 pituitary), PID, tumorMask, and tumorBorder, the outline that the mask fills.
MATLAB stores columns first, so what h5py reads is transposed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.manifest import Recipe
from pipeline.records import Pixels, Slices, Source
from scripts.datasets.examples import SEALED_FOLD, BadFile, Classes, DataError, Examples, Job, prepared
from scripts.datasets.folders import in_order
from scripts.datasets.folds import folds

LABELS = {1: "meningioma", 2: "glioma", 3: "pituitary"}
FOLDS_FILE = "cvind.mat"
_WRONG = (OSError, KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError)  # what h5py raises on other files


class Head(NamedTuple):
    label: str
    patient: str  # digest of PID: blocks are printed, and a PID may hold a date


def present(data: Path, _: Classes) -> bool:
    return next((path for path in data.rglob("*.mat") if path.name != FOLDS_FILE), None) is not None


def files(data: Path) -> list[Path]:
    """The slices in the order of their numbers; they may lie in folders (brainTumorDataPublic_1-766 ...)."""
    return sorted((path for path in data.rglob("*.mat") if path.name != FOLDS_FILE), key=lambda path: in_order(path.name))


def find(data: Path, recipe: Recipe, classes: Classes) -> list[Job]:
    """A job a slice, in the collection's own folds, else in folds that keep patients whole. Raises DataError."""
    paths = files(data)
    heads: list[Head | BadFile] = []
    for path in tqdm(paths, "patients"):
        try:
            heads.append(head(path))
        except BadFile as error:
            heads.append(error)
    known = [(found.patient, found.label) for found in heads if isinstance(found, Head)]
    made = folds([patient for patient, _ in known], [label for _, label in known])
    given = own_folds(data)
    jobs = []
    for path, found in zip(paths, heads, strict=True):
        name = path.relative_to(data).as_posix()
        if isinstance(found, BadFile):
            jobs.append(Job(name, lambda error=found: _raise(error)))  # type: ignore[misc]
        else:
            index, fold = classes.index(found.label, path), _fold(path, given) if given else made[found.patient]
            words = (name, found.patient, fold)
            jobs.append(Job(name, lambda path=path, words=words, index=index: _slice(path, words, index, recipe)))  # type: ignore[misc]
    return jobs


def _raise(error: BadFile) -> Examples:
    raise error


def head(path: Path) -> Head:
    """Label and patient, without the picture. Raises BadFile."""
    try:
        with h5py.File(path) as opened:
            number = int(np.ravel(opened["cjdata/label"])[0])
            patient = "".join(chr(int(letter)) for letter in np.ravel(opened["cjdata/PID"]))
    except _WRONG as error:
        raise BadFile(f"{path}: not a cjdata of MATLAB v7.3 that can be read ({error})") from error
    if number not in LABELS:
        raise BadFile(f"{path}: label {number}; expected one of {', '.join(f'{k} {word}' for k, word in LABELS.items())}")
    return Head(LABELS[number], f"pid-{hashlib.sha256(patient.encode()).hexdigest()[:8]}")


def pixels_and_mask(path: Path) -> tuple[Pixels, NDArray[np.bool_]]:
    """(row, column) each. Raises BadFile."""
    try:
        with h5py.File(path) as opened:
            image, mask = (np.asarray(opened[f"cjdata/{key}"]).T for key in ("image", "tumorMask"))
            return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(mask > 0)
    except _WRONG as error:
        raise BadFile(f"{path}: its cjdata holds no image and tumorMask that can be read ({error})") from error


def own_folds(data: Path) -> Sequence[str]:
    """Fold "0".."4" of slice k + 1, from cvind.mat, where it lies somewhere below `data`; else none. Raises DataError."""
    found = next(data.rglob(FOLDS_FILE), None)
    if found is None:
        return ()
    try:
        with h5py.File(found) as opened:
            return [str(int(fold) - 1) for fold in np.ravel(opened["cvind"])]
    except _WRONG as error:
        raise DataError(
            f"{found}: no cvind of MATLAB v7.3 that can be read ({error}); without this file, folds are made by patient"
        ) from error


def _fold(path: Path, given: Sequence[str]) -> str:
    number = int(path.stem) if path.stem.isdecimal() else 0
    if not 1 <= number <= len(given):
        raise DataError(
            f"{path}: {FOLDS_FILE} has folds for 1.mat to {len(given)}.mat; give the file its number back, or take {FOLDS_FILE} away"
        )
    return given[number - 1]


def _slice(path: Path, words: tuple[str, str, str], label: int, recipe: Recipe) -> Examples:
    pixels, mask = pixels_and_mask(path)
    name, patient, fold = words
    if mask.shape != pixels.shape:
        raise BadFile(f"{path}: a mask of {mask.shape} for a slice of {pixels.shape} pixels; they must have one size")
    images, masks = prepared(Slices((Source(name),), pixels[None]), mask[None], recipe, path)
    sealed = np.array([fold == SEALED_FOLD])
    return Examples(images, masks, np.array([label]), (name,), ("figshare",), ("unknown",), (fold,), (patient,), sealed)
