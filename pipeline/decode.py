"""decode: a Series of files -> Slices: pixels in modality units, ordered along the normal of the slices.

    layout (what the headers say) > stack (which frames, in which order) > frames (only these are decoded, one at a time)

These and what they need lie in `pixels/`: what a file says is believed there only within limits, and codecs are known nowhere else.
A plain function. What codecs do to a process - memory, time, crashes - is bounded by whoever runs it in one of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydicom.errors import InvalidDicomError

from pipeline.language import Said, said
from pipeline.pixels.frames import fill
from pipeline.pixels.layout import Layout, read
from pipeline.pixels.limits import Limits, NoSlice, Unreadable
from pipeline.pixels.stack import Stack, arranged
from pipeline.records import Instance, Pixels, Series, Slices


class Undecodable(Exception):
    """Pixels that cannot be read; the message names the instance, never what it says of a patient.

    `cause` says what, where and how to mend it, to a technologist.
    """

    def __init__(self, sop_instance_uid: str, cause: str) -> None:
        super().__init__(sop_instance_uid, cause)
        self.sop_instance_uid = sop_instance_uid
        self.cause = cause

    def __str__(self) -> str:
        return f"instance {self.sop_instance_uid}: {self.cause}"


def decode(series: Series, limits: Limits = Limits()) -> Slices:  # noqa: B008 - frozen
    """The slices of `series` that lie in one orientation, ordered, one for each place; (slice, row, column) float32. Raises Undecodable.

    Pixels that are padding (PS3.3 C.7.5.1.1.2) or no number become background: the smallest value of the others, 0 at most.
    """
    layouts, remarks = _layouts(series, limits)
    with _named(layouts[0].instance):
        limits.check(0, 0, sum(len(layout.planes) for layout in layouts))
        stack = arranged([plane for layout in layouts for plane in layout.planes])
        limits.check(*stack.planes[0].shape, len(stack.planes))
    pixels, rows_of = _decoded(layouts, stack)
    with _named(layouts[0].instance):
        remarks += _completed(pixels, layouts, rows_of)
    return Slices(
        sources=tuple(plane.source for plane in stack.planes),
        pixels=pixels,
        spacing=stack.planes[0].spacing or (1.0, 1.0),
        between=stack.between,
        orientation=stack.orientation,
        positions=stack.positions,
        remarks=(*stack.remarks, *remarks),
    )


@contextmanager
def _named(instance: Instance) -> Iterator[None]:
    """Whatever goes wrong with an instance bears its UID and a sentence."""
    try:
        yield
    except Undecodable:
        raise
    except Unreadable as error:
        raise Undecodable(instance.sop_instance_uid, str(error)) from error
    except MemoryError as error:
        raise Undecodable(instance.sop_instance_uid, "its pixels take more memory than this process may use; raise the limit") from error
    except RecursionError as error:
        raise Undecodable(instance.sop_instance_uid, "its sequences are nested too deeply; send it without private ones") from error
    except InvalidDicomError as error:
        raise Undecodable(instance.sop_instance_uid, "it is no DICOM file any more; send it again") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Undecodable(instance.sop_instance_uid, f"its file cannot be read ({reason}); check the disk, then send it again") from error
    except Exception as error:
        cause = f"its pixels cannot be read: damaged or sent incompletely ({type(error).__name__}); send it again"
        raise Undecodable(instance.sop_instance_uid, cause) from error


def _layouts(series: Series, limits: Limits) -> tuple[list[Layout], list[Said]]:
    """The layouts of all instances that hold slices, each instance once; and what a reader must know of them."""
    instances = {instance.sop_instance_uid: instance for instance in series.instances}
    layouts: list[Layout] = []
    without: list[tuple[Instance, NoSlice]] = []
    for instance in instances.values():
        with _named(instance):
            try:
                layouts.append(read(instance, limits))
            except NoSlice as error:
                without.append((instance, error))
    if not layouts:
        instance, reason = without[0]
        raise Undecodable(instance.sop_instance_uid, str(reason))
    remarks = Counter(remark for layout in layouts for remark in layout.remarks)
    told = [said(remark, count=count, total=len(instances)) for remark, count in remarks.items()]
    if without:
        told.append(said("remarks.no_pictures", count=len(without), total=len(instances)))
    return layouts, told


def _decoded(layouts: Sequence[Layout], stack: Stack) -> tuple[Pixels, list[list[int]]]:
    """(slice, row, column), and which slices came from each layout. Frames that are in no slice are never decoded."""
    row_of = {plane.source: row for row, plane in enumerate(stack.planes)}
    pixels = np.empty((len(stack.planes), *stack.planes[0].shape), np.float32)
    rows_of = []
    for layout in layouts:
        wanted = [(frame, row_of[plane.source]) for frame, plane in enumerate(layout.planes) if plane.source in row_of]
        if wanted:
            with _named(layout.instance):
                fill(layout, wanted, pixels)
        rows_of.append([row for _, row in wanted])
    return pixels, rows_of


def _completed(pixels: Pixels, layouts: Sequence[Layout], rows_of: Sequence[list[int]]) -> list[Said]:
    """MONOCHROME1 turned round, so that more is brighter, for the series as a whole; then background where no pixel is. In place."""
    low, high = float(pixels.min()), float(pixels.max())  # NaN where there is one
    nowhere: Any = None
    if not np.isfinite([low, high]).all():
        nowhere = ~np.isfinite(pixels)
        if nowhere.all():
            raise Unreadable("none of its pixels holds a number or all are padding; send it again from the scanner")
        low, high = (float(reduce(pixels, where=~nowhere, initial=start)) for reduce, start in ((np.min, np.inf), (np.max, -np.inf)))
    dark = [row for layout, rows in zip(layouts, rows_of, strict=True) if layout.more_is_darker for row in rows]
    for row in dark:
        np.subtract(high + low, pixels[row], out=pixels[row])
    if nowhere is None:
        return []
    pixels[nowhere] = min(low, 0.0)  # 0: no signal, where all tissue is brighter
    numberless = sum(layout.samples.floating and bool(nowhere[rows].any()) for layout, rows in zip(layouts, rows_of, strict=True))
    return [said("remarks.no_numbers", count=numberless, total=len(layouts))] if numberless else []
