"""Heads for tests of readers: made of numbers, none like another, and the files that hold them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LABELS, ABSENT = ("glioma", "meningioma", "pituitary", "notumor"), "notumor"


def disc(rows: int, columns: int, centre: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[:rows, :columns]
    return np.hypot(y - centre[0], x - centre[1]) < radius


def head(seed: int, size: int = 96) -> NDArray[np.uint8]:
    """A round head full of blobs; another `seed`, another head."""
    coarse = np.random.default_rng(seed).integers(60, 255, (6, 6)).astype(np.uint8)
    inside = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    return (inside * disc(size, size, (size / 2, size / 2), size * 0.45)).astype(np.uint8)


def write_rows(path: Path, *rows: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_picture(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
