"""Golden vectors and batches: what a network answers to inputs that belong to nobody, alone and side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import golden, registry
from models.manifest import Recipe
from models.runtime import FixedModel, Floats, NetworkError, Outputs, Session

MODEL = "brain_tumor_4class"


class Neighbourly:
    """A network whose answer for a slice owes to the slices beside it, as one does whose batch norm was left in training."""

    def run(self, tensor: Floats) -> Outputs:
        means = tensor.mean((1, 2, 3))
        return Outputs(np.stack([means - means.mean(), np.zeros(len(means))], axis=1).astype(np.float32), None)


class Alone:
    """A network whose answer for a slice is its own."""

    def run(self, tensor: Floats) -> Outputs:
        means = tensor.mean((1, 2, 3))
        return Outputs(np.stack([means, np.zeros(len(means))], axis=1).astype(np.float32), None)


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (224, 3), (240, 3)])
def test_inputs(size: int, channels: int) -> None:
    """Eight inputs of the recipe's size, each another, the same every time, in the range that the recipe gives."""
    recipe = Recipe(size=size, channels=channels)
    image = golden.inputs(recipe)

    assert (image.shape, image.dtype, image.flags.c_contiguous) == ((8, channels, size, size), np.float32, True)
    assert (image == golden.inputs(recipe)).all()
    assert len({slice_.tobytes() for slice_ in image}) == 8
    grey = image * recipe.std + recipe.mean
    assert grey.min() >= -1e-5 and grey.max() <= 1 + 1e-5


def test_many_fill_a_batch_of_24() -> None:
    """The inputs and their mirror images are 24 slices, the first eight the inputs themselves."""
    recipe = Recipe(size=32)
    image = golden.many(recipe)

    assert image.shape == (24, 3, 32, 32) and image.flags.c_contiguous
    assert (image[:8] == golden.inputs(recipe)).all()


@pytest.mark.parametrize(("logits", "near"), [((0.1, -0.3), 0.02), ((1.0, -5.0), 0.1), ((300.0, 0.0), 6.0)])
def test_tolerance_is_a_share_of_the_largest_logit(logits: tuple[float, float], near: float) -> None:
    """What rounding explains grows with the logits, and is small for a network whose logits are."""
    assert golden.tolerance(FixedModel(logits), Recipe(size=32)) == near


@pytest.mark.parametrize("logit", [np.nan, np.inf])
def test_a_network_that_gives_no_numbers_has_no_tolerance(logit: float) -> None:
    """Golden vectors that are no numbers would prove nothing, on no machine."""
    with pytest.raises(NetworkError, match="logits of plain pictures are not finite"):
        golden.tolerance(FixedModel((logit, 0.0)), Recipe(size=32))


def test_write(tmp_path: Path) -> None:
    """What is written is what both variants answer, under the digest that the manifest gets, and both replay it."""
    networks = {"fp32": FixedModel((1.0, 2.0)), "int8": FixedModel((1.5, 2.0))}
    found = golden.write(tmp_path, Recipe(size=32), networks, 0.25)
    vectors = registry.golden(found, tmp_path)

    assert (found.file, found.tolerance) == ("golden.npz", 0.25)
    assert vectors.logits["fp32"].tolist() == [[1.0, 2.0]] * 8
    assert vectors.missed_by("int8", networks["int8"]) is None
    assert vectors.missed_by("int8", networks["fp32"]) is not None


def test_batches_of_the_bundled_model() -> None:
    """Both files give a slice the same logits alone and beside 1, 3 or 23 others."""
    recipe = registry.read(MODEL).recipe
    for variant in ("fp32", "int8"):
        found = golden.batches(Session(registry.ZOO / MODEL / f"model_{variant}.onnx"), golden.many(recipe))
        assert list(found) == [1, 2, 4, 24]
        assert max(one.off for one in found.values()) <= 0.25
        assert min(one.same for one in found.values()) == 1


def test_batches_find_what_neighbours_change() -> None:
    """A network whose slices see each other is found at every size but one by one; one whose slices do not is not."""
    image = golden.many(Recipe(size=32))
    found = golden.batches(Neighbourly(), image)

    assert found[1].off == 0
    assert min(found[size].off for size in (2, 4, 24)) > 0.1
    assert found[24].same < 1
    assert all(one == (0, 1) for one in golden.batches(Alone(), image).values())


def test_batches_that_are_not_filled() -> None:
    """Too few slices for the largest batch would measure nothing, and say so."""
    with pytest.raises(ValueError, match="8 slices do not fill a batch of 24"):
        golden.batches(Alone(), golden.inputs(Recipe(size=32)))
