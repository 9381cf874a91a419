"""Looks: another sequence or uptake is where it should be, as strong as told, and nothing else of the head changes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

from square_heads import ABSENT, GLIOMA, SIDE, head, tumour, with_tumour  # noqa: E402

from models.training import looks  # noqa: E402

MENINGIOMA, MANY = 1, 60
NEVER, RINGED, ANY = looks.Strength(0.0, rings=False), looks.Strength(1.0, rings=True), looks.Strength(1.0, rings=False)
NONE = torch.zeros(MANY, dtype=torch.bool)


def many(grey: torch.Tensor) -> torch.Tensor:
    return torch.stack([grey] * MANY)


def test_a_dulled_tumour_is_no_brighter_than_told() -> None:
    """Without uptake a bright tumour lies between the darkest and brightest share of its surroundings; other labels keep theirs."""
    grey = torch.stack([with_tumour(head(), tumour())] * 2)
    uptake = (looks.Uptake(1.0, 0.6, 0.9), *[looks.Uptake(0.0, 1.0, 1.0)] * 3)
    dulled = looks.dull(grey, torch.stack([tumour()] * 2), torch.tensor([GLIOMA, 1]), uptake)
    inside = dulled[0][tumour() > 0].median()
    assert 0.6 * 0.4 - 0.02 < float(inside) < 0.9 * 0.4 + 0.02
    assert torch.equal(dulled[1], grey[1])


def test_a_strengthened_tumour_has_one_level_of_any_strength() -> None:
    """From duller than its surroundings to three times as bright, clipped; what is far from it stays, and so do other labels."""
    torch.manual_seed(0)
    grey, masks = many(with_tumour(head(0.3), tumour())), many(tumour())
    made = looks.strengthen(grey, masks, torch.full((MANY,), MENINGIOMA), (NEVER, ANY, NEVER, NEVER), NONE)
    inside = made[masks > 0].view(MANY, -1).median(1).values / 0.3
    assert 0.7 < float(inside.min()) < 1.0 and 2.5 < float(inside.max()) < 3.1
    far = looks.widened(masks, 41) == 0
    assert torch.equal(made[far], grey[far])
    same = looks.strengthen(grey, masks, torch.full((MANY,), GLIOMA), (NEVER, ANY, NEVER, NEVER), NONE)
    assert torch.equal(same, grey)


def test_a_ring_stays_a_ring() -> None:
    """With rings kept, a bright rim and a dark middle are both still there, hardly nearer to each other than before."""
    torch.manual_seed(0)
    rim, middle = tumour(side=36), tumour(left=72, top=102, side=12)
    one = with_tumour(with_tumour(head(0.3), rim), middle, times=0.4)
    made = looks.strengthen(many(one), many(rim), torch.full((MANY,), GLIOMA), (RINGED, NEVER, NEVER, NEVER), NONE)
    dark, bright = (made[many(part) > 0].view(MANY, -1).median(1).values for part in (middle, rim - middle))
    assert bool((bright - dark > 0.8 * 0.36 - 0.05).all()) and float(bright.max()) > 0.7


def test_inverted_heads_are_dark_where_they_were_bright() -> None:
    """Fluid brighter than brain, bone darker, air still air; with a share of 0 nothing changes."""
    one = head(0.4)
    one[:, 22:32, 22:202] = 0.9  # fat
    one[:, 100:124, 100:124] = 0.1  # fluid
    made = looks.invert(one)
    assert float(made[0, 112, 112]) > float(made[0, 160, 160]) > float(made[0, 27, 112])
    assert float(made[0, :18].max()) == 0
    clear = torch.zeros(1, 1, SIDE, SIDE), torch.tensor([ABSENT])
    assert torch.equal(looks.shown(one[None], *clear, looks.Looks()), one[None])
    assert not torch.equal(looks.shown(one[None], *clear, looks.Looks(inverted=1.0)), one[None])


def test_an_empty_slice_cannot_be_inverted() -> None:
    """Noise without a head stays noise."""
    noise = torch.rand(1, SIDE, SIDE) * 0.05
    assert torch.equal(looks.invert(noise), noise)


@pytest.mark.parametrize("size", [160, 224])
def test_some_slices_are_soft_and_the_others_untouched(size: int) -> None:
    """As many as told lose their edges and keep their mean, by another width each time; the samples themselves stay."""
    torch.manual_seed(0)
    grey = torch.rand(40, 1, size, size)
    kept, spreads = grey.clone(), set()
    for _ in range(6):
        soft = looks.soften(grey, 0.3)
        changed = (soft != grey).flatten(1).any(1)
        assert 2 < int(changed.sum()) < 24 and torch.equal(grey, kept)
        middle = soft[changed][..., 20:-20, 20:-20]
        assert torch.allclose(middle.mean((1, 2, 3)), torch.full((len(middle),), 0.5), atol=0.02)
        spreads.add(round(float(middle.std()), 3))
    assert len(spreads) > 1 and max(spreads) < 0.2
    assert looks.soften(grey, 0.0) is grey
