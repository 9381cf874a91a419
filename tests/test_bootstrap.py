"""The bootstrap: whole blocks are drawn, the same ones every time, and its intervals hold what they promise."""

from __future__ import annotations

import numpy as np

from models import bootstrap


def share(units: np.ndarray, hits: np.ndarray, rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Interval of the share of hits."""
    drawn = bootstrap.draws(units, rounds, seed)
    sums = drawn @ bootstrap.summed(units, np.stack([hits, np.ones(len(hits))], axis=1))
    return bootstrap.interval(sums[:, 0] / sums[:, 1])


def test_blocks_that_are_alike() -> None:
    """Where the slices of a block are alike, drawing blocks gives an interval three times as wide as drawing slices would."""
    right = np.repeat(np.random.default_rng(0).random(100) < 0.8, 10).astype(float)
    blocks, slices = share(np.repeat(np.arange(100), 10), right), share(np.arange(1000), right)

    ratio = (blocks[1] - blocks[0]) / (slices[1] - slices[0])
    assert 2.7 < ratio < 3.7  # the square root of 10, for 10 slices say as much as one


def test_blocks_that_are_not_alike() -> None:
    """Where the slices of a block have nothing in common both intervals are about as wide."""
    right = (np.random.default_rng(0).random(1000) < 0.8).astype(float)
    blocks, slices = share(np.repeat(np.arange(100), 10), right), share(np.arange(1000), right)

    assert 0.75 < (blocks[1] - blocks[0]) / (slices[1] - slices[0]) < 1.25


def test_coverage() -> None:
    """About 95 of 100 intervals hold the true share."""
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        low, high = share(np.arange(200), (rng.random(200) < 0.9).astype(float), rounds=400, seed=seed)
        held += low <= 0.9 <= high
    assert 0.89 < held / 200 < 0.99


def test_upper_is_one_sided() -> None:
    """One round in twenty is above the bound."""
    assert bootstrap.upper(np.arange(1001.0)) == 950
    assert bootstrap.interval(np.arange(1001.0)) == (25, 975)


def test_the_same_draws() -> None:
    """The same seed draws the same units, as many as there are in every round; another seed others."""
    units = np.repeat(np.arange(30), 3)
    first = bootstrap.draws(units, 50)

    assert (first.sum(1) == 30).all()
    assert (first == bootstrap.draws(units, 50)).all()
    assert (first != bootstrap.draws(units, 50, seed=1)).any()


def test_chunks() -> None:
    """A slice weighs as often as its unit was drawn, and no round is lost between chunks."""
    units = np.array([0, 1, 1, 2])
    drawn = bootstrap.draws(units, bootstrap.CHUNK * 2 + 1)
    weights = np.concatenate(list(bootstrap.chunks(units, drawn)))

    assert weights.shape == (201, 4)
    assert (weights[:, 1] == drawn[:, 1]).all() and (weights[:, 2] == drawn[:, 1]).all() and (weights[:, 3] == drawn[:, 2]).all()


def test_what_could_not_be_measured() -> None:
    """Rounds without a number are passed over; a number that no round has, has no interval."""
    rounds = np.arange(1001.0)
    found = bootstrap.intervals({"some": np.append(rounds, [np.nan] * 50), "none": np.full(10, np.nan)})

    assert found == {"some": (25, 975)}
    assert np.isnan(bootstrap.upper(np.full(10, np.nan)))


def test_nothing_to_draw() -> None:
    """Without slices there are rounds of nothing."""
    assert bootstrap.draws(np.zeros(0, np.intp), 7).shape == (7, 0)
