"""prepare: what the network eats is the same head, however the scanner stored it."""

from __future__ import annotations

import numpy as np
import pytest

from models.manifest import Recipe
from pipeline.prepare import canonical_turn, normalise, prepare, resample
from pipeline.records import Slices, Source

RECIPE = Recipe()
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# The same axial head stored in eight ways: direction cosines, and how the pixels must be turned for them
STORED = {
    "as displayed": (AXIAL, lambda p: p),
    "mirrored": ((-1.0, 0.0, 0.0, 0.0, 1.0, 0.0), lambda p: p[:, ::-1]),
    "upside down": ((1.0, 0.0, 0.0, 0.0, -1.0, 0.0), lambda p: p[::-1]),
    "turned by 180 degrees": ((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), lambda p: p[::-1, ::-1]),
    "transposed": ((0.0, 1.0, 0.0, 1.0, 0.0, 0.0), lambda p: p.T),
    "transposed, mirrored": ((0.0, -1.0, 0.0, 1.0, 0.0, 0.0), lambda p: p.T[:, ::-1]),
    "transposed, upside down": ((0.0, 1.0, 0.0, -1.0, 0.0, 0.0), lambda p: p.T[::-1]),
    "transposed, turned": ((0.0, -1.0, 0.0, -1.0, 0.0, 0.0), lambda p: p.T[::-1, ::-1]),
}


def head(rows: int = 200, columns: int = 160) -> np.ndarray:
    """An ellipse with one bright spot off its centre."""
    y, x = np.mgrid[:rows, :columns]
    picture = 300.0 * (((y - rows / 2) / (rows * 0.4)) ** 2 + ((x - columns / 2) / (columns * 0.4)) ** 2 < 1)
    picture[60:70, 100:110] += 400
    return picture.astype(np.float32)


def slices(pixels: np.ndarray, orientation: tuple[float, ...] | None = AXIAL, spacing: tuple[float, float] = (1.0, 1.0)) -> Slices:
    return Slices((Source("1.2"),), np.ascontiguousarray(pixels)[None], spacing, None, orientation)


@pytest.mark.parametrize("how", STORED)
def test_stored_in_any_way(how: str) -> None:
    """A head gives the same tensor however its rows and columns run."""
    orientation, turn = STORED[how]

    turned = prepare(slices(turn(head()), orientation), RECIPE)

    np.testing.assert_allclose(turned.tensor, prepare(slices(head()), RECIPE).tensor, atol=1e-5)


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (1.2, 0.7)])
def test_way_back(how: str, spacing: tuple[float, float]) -> None:
    """The affine leads from the network's pixels to the source's, whatever turn and spacing."""
    orientation, turn = STORED[how]
    spot = np.zeros((200, 160), np.float32)
    spot[60:70, 100:110] = 1
    stored = np.ascontiguousarray(turn(spot))
    batch = prepare(slices(stored, orientation, spacing), RECIPE)

    seen = batch.tensor[0, 0] * RECIPE.std + RECIPE.mean
    y, x = np.mgrid[:224, :224] + 0.5
    found = batch.to_source(float((x * seen).sum() / seen.sum()), float((y * seen).sum() / seen.sum()))

    rows, columns = np.nonzero(stored)
    assert found == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5), abs=0.2)


def test_shape() -> None:
    """The tensor is float32, C-contiguous, three equal channels of 224 pixels."""
    batch = prepare(slices(head()), RECIPE)

    assert (batch.tensor.shape, batch.tensor.dtype) == ((1, 3, 224, 224), np.float32)
    assert batch.tensor.flags["C_CONTIGUOUS"]
    assert (batch.tensor[:, 0] == batch.tensor[:, 2]).all()


def test_units_do_not_matter() -> None:
    """A scanner whose numbers are ten times as large gives the same tensor."""
    np.testing.assert_allclose(prepare(slices(head() * 10), RECIPE).tensor, prepare(slices(head()), RECIPE).tensor, atol=1e-5)


def test_one_spike() -> None:
    """One hot pixel does not dim the head."""
    spiked = head()
    spiked[0, 0] = 1e6

    assert np.median(normalise(spiked[None], RECIPE)[0][head() > 0]) == pytest.approx(
        np.median(normalise(head()[None], RECIPE)[0][head() > 0])
    )


def test_volume_wise() -> None:
    """A dark slice of a bright volume stays dark: intensities are normalised for the volume as a whole."""
    pair = np.stack([head(), head() * 0.1])

    grey = normalise(pair, RECIPE)

    assert grey[1].max() < 0.2 < grey[0].max()


def test_nothing_there() -> None:
    """A slice without signal is background, not a division by zero."""
    batch = prepare(slices(np.zeros((64, 64), np.float32)), RECIPE)

    assert np.isfinite(batch.tensor).all()
    assert batch.head_area.tolist() == [0.0]


def test_square_in_millimetres() -> None:
    """A head with pixels twice as high as wide fills the tensor as it fills the room."""
    grey = resample(np.ones((1, 100, 200), np.float32), (2.0, 1.0), 224)[0]

    assert grey[5:-5, 5:-5].min() > 0.99


def test_no_aliasing() -> None:
    """Stripes finer than the tensor's pixels become grey, not broad stripes."""
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (1, 896, 448))

    assert np.ptp(resample(stripes, (1.0, 1.0), 224)[0, 20:-20, 20:-20]) < 0.05


@pytest.mark.parametrize(
    ("plane", "orientation"),
    [
        ("sagittal", (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)),
        ("coronal", (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)),
        ("oblique", (0.97, 0.0, 0.26, 0.0, 1.0, 0.0)),
    ],
)
def test_displayed_planes_stay(plane: str, orientation: tuple[float, ...]) -> None:
    """A plane that is already stored as it is displayed is not turned."""
    assert canonical_turn(orientation) == (False, False, False)
