"""prepare: what the network eats is the same head, however the scanner stored it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from objects import AXIAL

from models.manifest import Recipe
from pipeline.intensity import Ranks, normalise
from pipeline.prepare import canonical_turn, prepare, resample
from pipeline.records import Slices, Source

RECIPE = Recipe()
CT = Recipe(windows=((40, 80), (80, 200), (600, 2800)), mean=0.0, std=1.0)
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


# --- intensities ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, database=None)
@given(
    values=st.one_of(
        arrays(np.float32, st.integers(1, 300), elements=st.floats(-3000, 4000, width=32)),
        arrays(np.float32, st.integers(1, 300), elements=st.integers(0, 5)),  # many alike
        arrays(np.float32, st.integers(1, 300), elements=st.sampled_from([0.0, 1.0, 700.0, 1e7])),  # spikes: most lie in one bin
    ),
    percent=st.floats(0, 100),
)
def test_percentiles_are_exact(values: np.ndarray, percent: float) -> None:
    """Percentiles that are counted are those that sorting gives."""
    assert Ranks(values).percentile(percent) == pytest.approx(np.percentile(values.astype(np.float64), percent), rel=1e-6, abs=1e-3)


def test_percentiles_of_more_than_one_piece() -> None:
    """A volume that is counted in several pieces has the percentiles of the whole."""
    volume = np.random.default_rng(0).gamma(2.0, 200.0, (9, 200, 201)).astype(np.float32)

    for percent in (0.1, 50.0, 99.5, 99.9, 100.0):
        assert Ranks(volume).percentile(percent) == pytest.approx(float(np.percentile(volume, percent)), rel=1e-6)


def as_trained(pixels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """What the recipe means, written down plainly: sorted percentiles, and one matrix for rows, one for columns."""
    top = np.percentile(pixels, 99.9)
    grey = np.clip(pixels / np.percentile(pixels[pixels > recipe.foreground * top], recipe.percentile), 0, 1).astype(np.float64)
    side = max(pixels.shape[1:])
    rows, columns = (triangles(length, side, recipe.size) for length in pixels.shape[1:])
    return (rows @ grey @ columns.T - recipe.mean) / recipe.std


def triangles(length: int, side: int, size: int) -> np.ndarray:
    """(size, length): the weight of each source sample in each new one; what would lie outside keeps its weight, and is 0."""
    step = side / size
    everywhere = np.arange(-2 * length, 3 * length)
    centres = (np.arange(size) + 0.5 - size / 2) * step + length / 2 - 0.5
    weight = np.clip(1 - np.abs(everywhere - centres[:, None]) / max(1.0, step), 0, None)
    return (weight / weight.sum(1, keepdims=True))[:, 2 * length : 3 * length]


@pytest.mark.parametrize("shape", [(3, 256, 256), (2, 200, 160), (2, 100, 120), (1, 512, 400)])
def test_tensor_is_the_one_that_was_learnt(shape: tuple[int, int, int]) -> None:
    """The tensor is what the recipe says in plain arithmetic, whatever is done for speed."""
    volume = np.random.default_rng(1).gamma(1.0, 150.0, shape).round().astype(np.float32)
    sources = tuple(Source("1.2", k + 1) for k in range(len(volume)))

    tensor = prepare(Slices(sources, volume), RECIPE).tensor

    np.testing.assert_allclose(tensor[:, 0], as_trained(volume, RECIPE), atol=2e-5)


@pytest.mark.parametrize("offset", [1024.0, -1024.0, -5000.0])
def test_offset(offset: float) -> None:
    """A scanner that stores its signal on an offset, or below zero, gives nearly the tensor of one that does not."""
    noisy = head() + np.random.default_rng(2).uniform(0, 4, head().shape).astype(np.float32)

    moved, plain = (prepare(slices(noisy + o), RECIPE) for o in (offset, 0.0))

    np.testing.assert_allclose(moved.tensor, plain.tensor, atol=0.05)
    np.testing.assert_allclose(moved.head_area, plain.head_area, atol=0.001)


def test_no_offset() -> None:
    """A bright picture with a dark background is not taken for one on an offset."""
    bright = head() + 20.0

    assert normalise(bright[None], RECIPE)[0][0, 0] > 0


# --- CT ---------------------------------------------------------------------------------------------------------------


def ct(hounsfield: float, *, rows: int = 200, columns: int = 160) -> np.ndarray:
    """An ellipse of one density in air."""
    return np.where(head(rows, columns) > 0, np.float32(hounsfield), np.float32(-1000))


@pytest.mark.parametrize(
    ("hounsfield", "shown"), [(0, (0, 0.1, 0.2857)), (40, (0.5, 0.3, 0.3)), (80, (1, 0.5, 0.3143)), (1000, (1, 1, 0.6429))]
)
def test_windows(hounsfield: float, shown: tuple[float, ...]) -> None:
    """Each channel shows its own window of Hounsfield units, 0 to 1."""
    tensor = prepare(slices(ct(hounsfield)), CT).tensor

    assert tensor[0, :, 112, 112] == pytest.approx(shown, abs=1e-3)


def test_air_around_ct() -> None:
    """Around the picture and in its padding there is air, in every channel; the head's area is what is denser."""
    whole, cut = prepare(slices(ct(40)), CT), prepare(slices(ct(40)[:, 20:-20]), CT)
    padded = ct(40)
    padded[padded == -1000] = -3024  # as GE writes outside of the circle that it measured

    assert whole.tensor[0, :, 112, 2].tolist() == cut.tensor[0, :, 112, 2].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(prepare(slices(padded), CT).tensor, whole.tensor)  # the head's rim too
    assert whole.head_area[0] == pytest.approx(np.mean(ct(40) > -500) * 160 / 200, abs=0.002)


def test_ct_is_never_normalised() -> None:
    """A dense neighbour changes nothing of a slice: Hounsfield units mean the same in every volume."""
    sources = (Source("1.2"), Source("1.3"))

    alone, beside = (prepare(Slices(sources, np.stack([ct(40), ct(other)])), CT).tensor[0] for other in (40, 3000))

    np.testing.assert_array_equal(alone, beside)


def test_not_in_hounsfield_units() -> None:
    """CT values that were never rescaled are read with a remark; those that were, and MR, without one."""
    stored = ct(40) + 1024

    (remark,) = prepare(slices(stored), CT).geometry.remarks

    assert "not in Hounsfield units" in remark
    assert prepare(slices(ct(40)), CT).geometry.remarks == prepare(slices(stored), RECIPE).geometry.remarks == ()


def test_metal() -> None:
    """A clip of 30000 HU is no brighter, and reaches no further, than the densest that a scanner's 12 bits hold."""
    clip, dense = ct(40), ct(40)
    clip[90:94, 70:74], dense[90:94, 70:74] = 30000, 3071

    np.testing.assert_array_equal(prepare(slices(clip), CT).tensor, prepare(slices(dense), CT).tensor)


@pytest.mark.parametrize("how", STORED)
def test_ct_stored_in_any_way(how: str) -> None:
    """CT slices are turned as MR slices are."""
    orientation, turn = STORED[how]
    picture = ct(40)
    picture[60:70, 100:110] = 70

    turned = prepare(slices(turn(picture), orientation), CT)

    np.testing.assert_allclose(turned.tensor, prepare(slices(picture), CT).tensor, atol=1e-4)
