"""stack: planes in any order become one ordered stack, and what is odd about it is said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from objects import AXIAL, CORONAL, SAGITTAL

from pipeline.pixels.stack import Plane, Stack, arranged
from pipeline.records import Source


def plane(number: int, depth: float, **more: object) -> Plane:
    made = Plane(Source(f"1.{number}"), (number, 1), (16, 16), (1.0, 1.0), AXIAL, (0.0, 0.0, depth))
    return replace(made, **more)  # type: ignore[arg-type]


def axial(*depths: float) -> list[Plane]:
    return [plane(k, depth) for k, depth in enumerate(depths, 1)]


def order(stack: Stack) -> list[int]:
    return [plane.number[0] for plane in stack.planes]


def test_order() -> None:
    """Planes come in the order in which they lie along their normal, with their places in mm."""
    stack = arranged(axial(20, -10, 5))

    assert (order(stack), stack.positions, stack.between, stack.remarks) == ([2, 3, 1], (-10.0, 5.0, 20.0), 15.0, ())


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([AXIAL, SAGITTAL]), st.integers(0, 2)), min_size=1, max_size=12), st.randoms())
def test_any_order_of_arrival(drawn: list[tuple[int, tuple[float, ...], int]], random: object) -> None:
    """Any order of arrival, with planes of other turns and several in one place, gives the same stack with growing places."""
    planes = [plane(k, 0, orientation=turn, position=(5.0 * d, 0.0, 5.0 * d), kind=(kind,)) for k, (d, turn, kind) in enumerate(drawn)]
    shuffled = list(planes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    stack = arranged(planes)

    assert arranged(shuffled) == stack
    assert all(np.diff(stack.positions) > 0)
    assert len({p.orientation for p in stack.planes}) == 1


def test_oblique() -> None:
    """Oblique slices are ordered along their own normal."""
    c, s = math.cos(math.radians(15)), math.sin(math.radians(15))
    planes = [plane(k, 0, orientation=(1, 0, 0, 0, c, s), position=(0.0, -s * d, c * d)) for k, d in enumerate((10.0, 0.0, 5.0))]

    stack = arranged(planes)

    assert (order(stack), stack.positions, stack.between) == ([1, 2, 0], (0.0, 5.0, 10.0), 5.0)
    assert stack.remarks == ()


def test_gantry_tilt() -> None:
    """A stack that leans against its normal says so; its distances are those along the normal."""
    lean = math.tan(math.radians(20))
    stack = arranged([plane(k, 0, position=(0.0, 5 * k * lean, 5.0 * k)) for k in range(10)])

    assert stack.between == 5.0
    assert stack.remarks == ("The slices are stacked at 20 degrees to their normal (gantry tilt); they were read as they are.",)


def test_gap() -> None:
    """Slices that are missing are counted, and how wide their gaps are is said."""
    stack = arranged(axial(0, 5, 10, 20, 25, 40, 45))

    assert stack.remarks == ("3 slices are missing in the stack: gaps of 10.0 to 15.0 mm where slices are 5.0 mm apart.",)
    assert arranged(axial(0, 5, 10, 20)).remarks == ("1 slice is missing in the stack: a gap of 10.0 mm where slices are 5.0 mm apart.",)


def test_uneven() -> None:
    """Uneven spacing without a gap is said; rounding of positions is not."""
    assert arranged(axial(0, 5, 10, 14, 19, 24)).remarks == ("The slices are unevenly spaced: 4.0 to 5.0 mm apart.",)
    assert arranged(axial(0, 4.99, 10.01, 15)).remarks == ()


def test_other_orientations() -> None:
    """Of a localizer's three planes one is kept, and the others are counted."""
    planes = [*axial(0, 5, 10), *(plane(10 + k, 0, orientation=turn) for k, turn in enumerate((SAGITTAL, CORONAL)))]

    stack = arranged(planes)

    assert order(stack) == [1, 2, 3]
    assert stack.remarks == ("2 of 5 slices are in another orientation and were not read.",)


def test_ties() -> None:
    """Of equally large stacks the one acquired first is kept."""
    turns = (SAGITTAL, AXIAL, CORONAL)
    planes = [plane(k, 0, orientation=turns[k % 3], position=(-5.0 * k, 5.0 * k, 5.0 * k)) for k in range(6)]

    assert sorted(order(arranged(planes[::-1]))) == [0, 3]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"shape": (8, 16)}, "of another size"),
        ({"spacing": (2.0, 2.0)}, "of another pixel spacing"),
        ({"position": None}, "without a position in the patient"),
        ({"group": "2"}, "of another stack of the same object"),
    ],
)
def test_left_out(more: dict[str, object], said: str) -> None:
    """A plane that cannot belong to the stack is left out, with the reason."""
    stack = arranged([*axial(0, 5, 10), plane(9, 15, **more)])

    assert order(stack) == [1, 2, 3]
    assert stack.remarks == (f"1 of 4 slices is {said} and was not read.",)


def test_rounded_cosines() -> None:
    """Direction cosines that differ by their rounding are the same orientation."""
    planes = axial(0, 5, 10)
    planes[1] = replace(planes[1], orientation=(0.99999, 0.0049, 0.0, -0.0049, 0.99999, 0.0))

    assert len(arranged(planes).planes) == 3


@pytest.mark.parametrize("cosines", [(0, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0), (2, 0, 0, 0, 1, 0), (math.nan, 0, 0, 0, 1, 0)])
def test_impossible_orientation(cosines: tuple[float, ...]) -> None:
    """Direction cosines that are no directions count as not said, and the numbers give the order."""
    stack = arranged([replace(p, orientation=cosines) for p in axial(10, 5, 0)])  # type: ignore[arg-type]

    assert (order(stack), stack.orientation, stack.positions, stack.between) == ([1, 2, 3], None, (), None)
    assert stack.remarks == (
        "3 of 3 slices name an impossible orientation (direction cosines not at right angles).",
        "The slices do not say where they lie in the patient; they are in the order of their slice numbers.",
    )


def test_slice_location() -> None:
    """Without positions Slice Location gives order and distance, where it tells the slices apart."""
    planes = [plane(k, 0, position=None, location=location) for k, location in enumerate((9.0, 3.0, 6.0))]

    stack = arranged(planes)

    assert (order(stack), stack.between, stack.positions) == ([1, 2, 0], 3.0, (3.0, 6.0, 9.0))
    assert stack.remarks == ("The slices do not say where they lie in the patient; they are in the order of their slice locations.",)
    assert order(arranged([replace(p, location=3.0) for p in planes])) == [0, 1, 2]


def test_same_place_last_acquired() -> None:
    """Of several slices in one place the one acquired last is kept, whatever the order of arrival; how many were not is said."""
    planes = [*axial(0, 5, 10), plane(4, 5), plane(5, 5.001)]

    assert order(arranged(planes)) == order(arranged(planes[::-1])) == [1, 5, 3]
    assert arranged(planes).remarks == ("2 of 5 slices show places that other slices show, too, and were not read.",)


def test_one_echo() -> None:
    """Of two echoes in the same places one whole set is kept: the first, or the only complete one; never a mixture."""
    first, second = ([plane(10 * echo + k, 5 * k, echo=8.0 * echo) for k in range(4)] for echo in (1, 2))

    assert order(arranged([*second, *first])) == [10, 11, 12, 13]
    assert order(arranged([*second, *first[:3]])) == [20, 21, 22, 23]


def test_one_phase() -> None:
    """Of several phases in the same places the last whole one is kept: contrast has arrived by then."""
    before, after = ([plane(10 * phase + k, 5 * k, kind=(phase,)) for k in range(4)] for phase in (1, 2))

    assert order(arranged([*after, *before])) == [20, 21, 22, 23]
    assert order(arranged([*after[:3], *before])) == [10, 11, 12, 13]


def test_kinds_that_say_nothing() -> None:
    """Where each slice is of its own kind, as with trigger times, one repeated slice does not cost all others."""
    planes = [*(plane(k, 5 * k, kind=(k,)) for k in range(6)), plane(9, 5, kind=(9,))]

    assert order(arranged(planes)) == [0, 9, 2, 3, 4, 5]


def test_every_frame_a_stack() -> None:
    """A multi-frame object that names a stack for each frame says nothing by it."""
    assert len(arranged([plane(k, 5 * k, group=str(k)) for k in range(5)]).planes) == 5


def test_thousands_of_orientations() -> None:
    """Thousands of slices, each turned otherwise, cost no square of their number."""
    angles = np.linspace(0, math.pi, 5000)
    planes = [plane(k, 0, orientation=(math.cos(a), math.sin(a), 0, 0, 0, -1)) for k, a in enumerate(angles)]

    assert len(arranged(planes).planes) < 100


def test_single() -> None:
    """One slice is a stack, without positions too."""
    assert arranged(axial(7)).positions == (7.0,)
    assert arranged([plane(1, 0, position=None, orientation=None, spacing=None)]).remarks == ()
