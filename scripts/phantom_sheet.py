"""The contact sheet of docs/phantoms.md: T1 slices of phantoms as a scanner would store them.

    python -m scripts.phantom_sheet docs/phantoms.png        # needs the train extra: pillow

A row for each kind, the seeds side by side. Of each head axial, coronal and sagittal through the middle of the lesion, in a healthy head
through ventricles and sella. Around the lesions of every second head runs the edge of the mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from scripts.phantom.anatomy import GLAND
from scripts.phantom.paint import TUMOURS, Tumour, paint
from scripts.phantom.scan import FRAMES, Plane, Stack, cut, measure, pose

SIZE = 176  # pixels of one picture, square
BETWEEN = 2  # pixels between pictures
OUTLINE = (255, 208, 64)
HEALTHY: dict[Plane, tuple[float, float, float]] = {"axial": (90.0, 106.0, 82.0), "coronal": GLAND, "sagittal": GLAND}  # voxels

Picture = NDArray[np.uint8]


def sheet(seeds: int) -> Image.Image:
    """Three planes of `seeds` heads of each kind."""
    rows = [np.concatenate([_head(tumour, seed) for seed in range(1, seeds + 1)], 1) for tumour in TUMOURS]
    image = Image.fromarray(np.concatenate(rows, 0))
    draw = ImageDraw.Draw(image)
    for row, tumour in enumerate(TUMOURS):
        draw.text((6, row * (SIZE + BETWEEN) + 4), "no tumour" if tumour == "none" else tumour, fill=(255, 255, 255), font_size=13)
    return image


def _head(tumour: Tumour, seed: int) -> Picture:
    """(row, column, 3): the three planes of one head, side by side."""
    return np.concatenate([_picture(tumour, seed, plane) for plane in FRAMES], 1)


def _picture(tumour: Tumour, seed: int, plane: Plane) -> Picture:
    """(row, column, 3): one slice, dark to the right of it and below; with the edge of the mask where `seed` is even."""
    head, where = paint(tumour, seed), pose(seed)
    voxel = np.argwhere(head.lesion).mean(0) if head.lesion.any() else np.array(HEALTHY[plane])
    offset = float(FRAMES[plane].normal @ np.linalg.solve(where.matrix, voxel - where.offset))
    stack = Stack(plane, 1, offset, SIZE)
    stored = measure(cut(head.t1, where, stack), seed)[0]
    shown = np.clip(stored / np.percentile(stored, 99.0) * 230.0, 0, 255).astype(np.uint8)
    picture = np.repeat(shown[..., None], 3, axis=2)
    if seed % 2 == 0:
        inside = cut(head.lesion.astype(np.float32), where, stack)[0] > 0.5
        picture[ndimage.binary_dilation(inside) & ~inside] = OUTLINE
    return np.pad(picture, ((0, BETWEEN), (0, BETWEEN), (0, 0)))


def main(
    out: Annotated[Path, typer.Argument(help="the PNG to write")],
    seeds: Annotated[int, typer.Option(min=1, help="seeds 1 to this")] = 2,
) -> None:
    """Writes the sheet."""
    image = sheet(seeds).quantize(128)
    image.save(out, optimize=True)
    print(f"{out}: {image.width} x {image.height} pixels, {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    typer.run(main)
