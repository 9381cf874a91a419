"""Whole DICOM head studies for demo and tests: a localizer, a T2 and a T1 series after contrast, with a tumour painted in or none.

    python -m scripts.make_phantom OUT --tumour glioma --seed 1 --plane axial --slices 24 --syntax jpegls
    python -m scripts.make_phantom OUT --tumour none --enhanced --mask mask.npy
    python -m scripts.make_phantom OUT --tumour meningioma --pixel 0.5 --tilt 15 --order shuffled

The same options give the same bytes; all UIDs are derived from them under 2.25 (PS3.5 B.2), and not from the transfer syntax,
so the same study can be written in several. Every object says that it is a phantom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from scripts.phantom.enhanced import to_enhanced
from scripts.phantom.mr_image import PROTOCOLS, Case, Order, SeriesName, mr_image
from scripts.phantom.paint import Tumour, paint
from scripts.phantom.scan import FIELD_OF_VIEW, FRAMES, Plane, Stack, cut, measure, pose, stack_for
from scripts.syntaxes import Syntax, save


def write_study(
    out: Path,
    *,
    tumour: Tumour = "glioma",
    seed: int = 1,
    plane: Plane = "axial",
    slices: int = 24,
    size: int = 256,
    syntax: Syntax = "explicit",
    enhanced: bool = False,
    series: Sequence[SeriesName] = ("localizer", "t2", "t1"),
    tilt: float = 0.0,
    turn: float = 0.0,
    order: Order = "normal",
) -> list[Path]:
    """Writes a study into the folder `out` and returns its files, in the order of their instance numbers.

    `slices` counts those of T2 and T1; few of them lie around the lesion. `enhanced` makes the T1 series one Enhanced MR object.
    `tilt` and `turn` (degrees) make T2 and T1 oblique, `order` is that of their instance numbers, and of an Enhanced object's frames.
    """
    case = Case(tumour, seed, plane, slices, size, tilt, turn, order)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in series:
        instances = make_series(case, name)
        if enhanced and name == "t1":
            instances = [_enhanced(case, instances)]
        for ds in instances:
            path = out / f"{name}_{ds.InstanceNumber:03d}.dcm"
            save(ds, path, syntax)
            paths.append(path)
    return paths


def lesion_mask(
    *,
    tumour: Tumour,
    seed: int,
    plane: Plane = "axial",
    slices: int = 24,
    size: int = 256,
    tilt: float = 0.0,
    turn: float = 0.0,
    order: Order = "normal",
) -> NDArray[np.bool_]:
    """(slice, row, column): where the T1 series of the same options shows the lesion, in the order of its instance numbers."""
    case = Case(tumour, seed, plane, slices, size, tilt, turn, order)
    (stack,) = _stacks(case, "t1")
    mask = cut(paint(tumour, seed).lesion.astype(np.float32), pose(seed), stack) > 0.5
    return np.asarray(mask[np.argsort(case.numbers(slices))], dtype=np.bool_)


def make_series(case: Case, name: SeriesName) -> list[Dataset]:
    """The instances of one series, uncompressed, by instance number."""
    head, where = paint(case.tumour, case.seed), pose(case.seed)
    noise_seed = case.seed * 10 + PROTOCOLS[name].number
    slices = [
        (stack, float(offset), pixels)
        for stack in _stacks(case, name)
        for offset, pixels in zip(stack.offsets, measure(cut(head.t2 if name == "t2" else head.t1, where, stack), noise_seed), strict=True)
    ]
    numbers = list(range(1, len(slices) + 1)) if name == "localizer" else case.numbers(len(slices))
    instances = [
        mr_image(case, name, stack, offset, number, pixels) for number, (stack, offset, pixels) in zip(numbers, slices, strict=True)
    ]
    return sorted(instances, key=lambda ds: int(ds.InstanceNumber))


def _enhanced(case: Case, instances: Sequence[Dataset]) -> Dataset:
    series_uid, sop_instance_uid, dimensions_uid = (case.uid("t1 enhanced", part) for part in ("series", 1, "dimensions"))
    return to_enhanced(instances, series_uid=series_uid, sop_instance_uid=sop_instance_uid, dimensions_uid=dimensions_uid)


def _stacks(case: Case, name: SeriesName) -> list[Stack]:
    """One stack, or for the localizer one slice through the middle in each plane."""
    if name == "localizer":
        return [Stack(plane, 1, size=case.size, thickness=PROTOCOLS[name].thickness) for plane in FRAMES]
    head = paint(case.tumour, case.seed)
    return [stack_for(head, pose(case.seed), case.plane, case.slices, case.size, case.tilt, case.turn)]


def main(
    out: Annotated[Path, typer.Argument(help="folder for the DICOM files; made if missing")],
    tumour: Annotated[Tumour, typer.Option(help="what to paint")] = "glioma",
    seed: Annotated[int, typer.Option(min=0, help="place, shape, pose and noise hang on it")] = 1,
    plane: Annotated[Plane, typer.Option(help="of the T1 and T2 series")] = "axial",
    slices: Annotated[int, typer.Option(min=1, help="in each of T1 and T2; few of them lie around the tumour")] = 24,
    size: Annotated[int, typer.Option(min=32, max=512, help="rows and columns")] = 256,
    pixel: Annotated[float | None, typer.Option(min=0.5, max=7.5, help="mm between pixels, in place of --size")] = None,
    tilt: Annotated[float, typer.Option(min=-45, max=45, help="degrees that T1 and T2 tilt about the left-right axis")] = 0.0,
    turn: Annotated[float, typer.Option(min=-45, max=45, help="degrees that T1 and T2 turn in their own plane")] = 0.0,
    order: Annotated[Order, typer.Option(help="of the instance numbers along the stack, or of an Enhanced object's frames")] = "normal",
    syntax: Annotated[Syntax, typer.Option(help="transfer syntax; jpegls-near and jpeg2000-lossy are lossy")] = "explicit",
    enhanced: Annotated[bool, typer.Option("--enhanced", help="T1 as one Enhanced MR object")] = False,
    mask: Annotated[Path | None, typer.Option(help="also write the lesion as bool (slice, row, column) to this .npy, outside OUT")] = None,
) -> None:
    """Writes one generated head MR study: localizer, T2, and T1 after contrast."""
    size = round(FIELD_OF_VIEW / pixel) if pixel else size
    case = Case(tumour, seed, plane, slices, size, tilt, turn, order)
    paths = write_study(out, syntax=syntax, enhanced=enhanced, **asdict(case))
    if mask is not None:
        np.save(mask, lesion_mask(**asdict(case)))
    print(f"{len(paths)} instances, {sum(path.stat().st_size for path in paths) / 1e6:.2f} MB in {out.resolve()}")


if __name__ == "__main__":
    typer.run(main)
