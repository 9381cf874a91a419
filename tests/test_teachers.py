"""Several networks teach one: it comes to say what they say together, and goes on where it was cut off."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

from models.training import data, loop, teachers  # noqa: E402
from models.training.network import Network  # noqa: E402

ABSENT = 3
FEED = data.Feed(0.3, 0.25)
SHORT = loop.Plan(batch=4, steps=2)


@pytest.fixture(scope="module")
def samples() -> data.Samples:
    """Discs with a bright spot of each label, and one without."""
    y, x = np.mgrid[:64, :64] / 64 - 0.5
    masks = np.stack([np.hypot(x - 0.1, y) < (0.12 if label != ABSENT else 0.0) for label in range(4)])
    images = np.where(masks, 0.9, 0.5 * (np.hypot(x, y) < 0.45) + np.random.default_rng(0).random((4, 64, 64)) * 0.1)
    words = (["web"] * 4, ["axial"] * 4)
    return data.Samples.of(images.astype(np.float16), masks.astype(np.uint8), np.arange(4), *words, ABSENT)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lessons of two epochs of small pictures."""
    monkeypatch.setattr(teachers, "SIZES", (64, 64))


_together = teachers.together


def network(seed: int, towards: int | None = None) -> Network:
    """Not trained; leaning towards a label, if asked."""
    torch.manual_seed(seed)
    made = Network().eval()
    if towards is not None:
        made.head.bias.data[towards] += 5.0
    return made


@pytest.mark.usefixtures("small")
def test_who_is_taught_comes_nearer_to_what_they_say_together(
    samples: data.Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a brisk lesson the network leans as the mean of all maps, its own among them, and its teachers are as they were."""
    monkeypatch.setattr(teachers, "RATE", 0.05)
    pupil, others = network(0), [network(1, towards=1), network(2, towards=1)]
    before, kept = copy.deepcopy(pupil), [teachers.weights_digest(other) for other in others]
    pictures = FEED(samples.take(torch.arange(4))[0])
    wanted, asked = teachers.together([before, *others], pictures), []
    monkeypatch.setattr(teachers, "together", lambda found, _: asked.append(len(found)) or _together(found, _))
    taught = teachers.taught_further(pupil, others, samples, FEED, replace(SHORT, steps=12), tmp_path)
    with torch.no_grad():
        near = [float(loop.distance(found.train()(pictures), wanted, ABSENT)) for found in (copy.deepcopy(taught), before)]
    assert near[0] < 0.3 * near[1] and set(asked) == {3}
    assert [teachers.weights_digest(other) for other in others] == kept
    assert not taught.training and teachers.latest(tmp_path) == tmp_path / "taught.pt"


def test_together_is_the_mean() -> None:
    """Three networks count alike, in whatever order."""
    asked, pictures = [network(k) for k in range(3)], torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        mean = (asked[0](pictures) + asked[1](pictures) + asked[2](pictures)) / 3
    assert torch.allclose(teachers.together(asked, pictures), mean, atol=1e-5)
    assert torch.allclose(teachers.together(asked[::-1], pictures), mean, atol=1e-5)


def test_without_others_nothing_is_taught(samples: data.Samples, tmp_path: Path) -> None:
    """The network stays what it was, and the folder says what training ended with."""
    alone = network(0)
    before = teachers.weights_digest(alone)
    assert teachers.taught_further(alone, [], samples, FEED, SHORT, tmp_path) is alone and teachers.weights_digest(alone) == before
    assert teachers.latest(tmp_path) == tmp_path / "fp32.pt"


@pytest.mark.usefixtures("small")
def test_a_lesson_that_was_cut_off_goes_on(samples: data.Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off after its first epoch it ends with the weights of one that was not."""
    others = [network(1)]
    whole = teachers.taught_further(network(0), others, samples, FEED, SHORT, tmp_path / "whole")
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(loop, "_note", _interrupt)
        teachers.taught_further(network(0), others, samples, FEED, SHORT, tmp_path / "cut")
    resumed = teachers.taught_further(network(0), others, samples, FEED, SHORT, tmp_path / "cut")
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-5), name


@pytest.mark.usefixtures("small")
def test_a_lesson_that_was_only_begun_is_not_what_training_ended_with(samples: data.Samples, tmp_path: Path) -> None:
    """Whoever measures the network of a folder is told to let the lesson end first."""
    with pytest.MonkeyPatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(loop, "_note", _interrupt)
        teachers.taught_further(network(0), [network(1)], samples, FEED, SHORT, tmp_path)
    with pytest.raises(loop.OtherRun, match="has 1 of 2 epochs"):
        teachers.latest(tmp_path)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("small")
def test_a_lesson_of_other_teachers_is_not_gone_on_with(samples: data.Samples, tmp_path: Path) -> None:
    """What one teacher taught is not taken for what another would have, nor for what nobody taught."""
    teachers.taught_further(network(0), [network(1)], samples, FEED, SHORT, tmp_path)
    for others, said in (([network(2)], "another plan"), ([], "other networks taught it")):
        with pytest.raises(loop.OtherRun, match=said):
            teachers.taught_further(network(0), others, samples, FEED, SHORT, tmp_path)
