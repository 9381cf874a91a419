"""material: studies and pictures on disk -> blocks of slices, each prepared as in service; to set up and to judge a model that is imported.

    FOLDER                          DICOM and pictures, somewhere below it; nobody says what they show
    FOLDER/glioma, FOLDER/notumor   the same, by label
    FILE.csv                        file,label in each row; a file of one picture or slice, or the folder of a study

A block is what may not be divided between two purposes: a study, or a picture. Its name is a digest: files and UIDs may name a patient.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from listener import headers
from listener.errors import VitalCheckError
from pipeline.records import Batch, Series, Slices, Source, Study

if TYPE_CHECKING:
    from models.manifest import Manifest

PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
Decoder = Callable[[Series], Slices]


class NoMaterial(VitalCheckError):
    """Nothing to calibrate or to judge with, or labels that are not the model's."""


class Unfit(Exception):
    """A block that the model may not or cannot read; the others go on."""


@dataclass(frozen=True)
class Block:
    what: Study | Path  # a study, or a picture
    label: str = ""  # of all its slices; empty where nobody says

    @property
    def name(self) -> str:
        if isinstance(self.what, Study):
            return f"study-{hashlib.sha256(self.what.uid.encode()).hexdigest()[:12]}"
        with self.what.open("rb") as stream:
            return f"picture-{hashlib.file_digest(stream, 'sha256').hexdigest()[:12]}"


def unlabelled(folder: Path) -> list[Block]:
    """Every study and picture below `folder`. Raises NoMaterial."""
    with _reading(folder):
        return _some(_below(folder), folder)


def labelled(path: Path, labels: Sequence[str]) -> list[Block]:
    """Those of a CSV, or of a folder with one folder for each label. Raises NoMaterial."""
    with _reading(path):
        return _some(_of_csv(path, labels) if path.suffix.lower() == ".csv" else _of_folders(path, labels), path)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoMaterial(
            f"{error.filename or path}: cannot be read ({error.strerror or error}); give a right to it, or leave it out"
        ) from error


def _some(found: list[Block], path: Path) -> list[Block]:
    if not found:
        raise NoMaterial(f"{path}: no DICOM file and no picture ({', '.join(sorted(PICTURES))}) that can be read")
    return list(_once(found))


def _once(blocks: Sequence[Block]) -> Iterator[Block]:
    """Each picture once, however many files hold it: a copy would judge what its twin calibrated. Studies are whole already."""
    seen: dict[str, Block] = {}
    for block in blocks:
        first = seen.setdefault(block.name, block) if isinstance(block.what, Path) else block
        if first.label != block.label:
            raise NoMaterial(f"{block.what}: is {block.label}, and the same picture {first.what} is {first.label}; leave one of them out")
        if first is block:
            yield block
        else:
            _skipped(f"{block.what}: the same picture as {first.what}")


def _of_folders(folder: Path, labels: Sequence[str]) -> list[Block]:
    known = {label.lower(): label for label in labels}
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    other = [path.name for path in inside if path.name.lower() not in known]
    if other or not inside:
        found = ", ".join(other) or "none"
        raise NoMaterial(f"{folder}: a folder for each label is wanted ({', '.join(labels)}), others there: {found}; or give a CSV")
    return [block for path in inside for block in _below(path, known[path.name.lower()])]


def _of_csv(path: Path, labels: Sequence[str]) -> list[Block]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise NoMaterial(f"{path}: cannot be read ({error})") from error
    if not rows or not {"file", "label"} <= rows[0].keys():
        raise NoMaterial(f"{path}: wants columns file and label, and a row for each; has {', '.join(rows[0]) if rows else 'no rows'}")
    blocks = []
    for number, row in enumerate(rows, 2):
        if not row["file"] or not row["label"]:
            raise NoMaterial(
                f"{path}, line {number}: its {'label' if row['file'] else 'file'} is missing; each row has a file and its label"
            )
        if row["label"] not in labels:
            raise NoMaterial(f"{path}, line {number}: label {row['label']!r} is none of {', '.join(labels)}")
        if not (path.parent / row["file"]).exists():
            raise NoMaterial(f"{path}, line {number}: {path.parent / row['file']} does not exist; files are named from the CSV's folder")
        blocks += _below(path.parent / row["file"], row["label"])
    return blocks


def _below(path: Path, label: str = "") -> list[Block]:
    """Studies, then pictures, each in the order of their names. What is neither is passed over with a warning."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    pictures = [file for file in files if file.suffix.lower() in PICTURES]
    rest = [file for file in files if file.suffix.lower() not in PICTURES]
    studies = headers.studies(rest, skipped=lambda error: _skipped(str(error)))
    return [*(Block(study, label) for study in studies), *(Block(picture, label) for picture in pictures)]


def _skipped(why: str) -> None:
    tqdm.write(f"vitalcheck: skipped {why}", file=sys.stderr)


def prepared(blocks: Sequence[Block], manifest: Manifest, decoder: Decoder, purpose: str) -> Iterator[tuple[Block, Batch]]:
    """What the network would be fed in service, block by block; those that it may not read are passed over, with a warning."""
    for block in tqdm(blocks, purpose, unit="block", file=sys.stderr, leave=False):
        try:
            yield block, _prepared(block, manifest, decoder)
        except Unfit as error:
            _skipped(str(error))


def _prepared(block: Block, manifest: Manifest, decoder: Decoder) -> Batch:
    """Raises Unfit."""
    from pipeline.choose import choose
    from pipeline.decode import Undecodable
    from pipeline.prepare import prepare

    if isinstance(block.what, Path):
        return prepare(_picture(block.what, manifest), manifest.recipe)
    choice = choose(block.what, manifest)
    if choice.series is None:
        raise Unfit(f"study {block.what.uid}: {choice.reason}")
    try:
        return prepare(decoder(choice.series), manifest.recipe)
    except Undecodable as error:
        raise Unfit(f"study {block.what.uid}: {error}") from error


def _picture(path: Path, manifest: Manifest) -> Slices:
    """A picture as a series of one slice. Raises Unfit."""
    from PIL import Image, UnidentifiedImageError

    if manifest.recipe.windows:
        raise Unfit(f"{path}: a picture has no Hounsfield units, which this model's windows want; give DICOM")
    try:
        with Image.open(path) as opened:
            deep = opened.mode[0] in "IF"  # 16 bits and more; as "L" they would be cut off at 255
            grey = np.asarray(opened if deep else opened.convert("L"), np.float32)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise Unfit(f"{path}: not a picture that can be read ({type(error).__name__})") from error
    if grey.min() == grey.max():
        raise Unfit(f"{path}: shows nothing, all pixels are alike")
    return Slices((Source(path.name),), grey[None])
