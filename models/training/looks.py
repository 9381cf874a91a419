"""The same head on another sequence, the same tumour with another uptake: looks that no data set holds with their masks.

    invert:     fluid bright, fat and bone dark, roughly as T2 has it
    strengthen: tumours as bright as bone, as dull as brain, smooth or mottled
    dull:       no uptake
    soften:     blurred, as the mean of many heads is: what is smooth is no tumour for that

Where nearly every tumour is seen on T1 after gadolinium, a network learns that look. Looked at by eye, tumours from elsewhere that networks
missed were whiter than any they had learnt, like the brain around them, or seen on T2 or CT.
Grey is 0..1, (n, 1, s, s); a mask 0 or 1, same shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.training.data import HEAD, blurred, mean_inside, widened

SHOWN = 0.8  # of the tumours of an inverted head get a strength of their own: on T2 one is not the negative of what it was
LEAST_HEAD = 0.05  # of the square: what is less is air


@dataclass(frozen=True)
class Uptake:
    """How often tumours of a label are shown without contrast, and then how bright, as a share of what is around them."""

    share: float
    darkest: float
    brightest: float


@dataclass(frozen=True)
class Strength:
    """How often tumours of a label are shown in another strength, and what of them stays."""

    share: float
    rings: bool  # its own bright and dark stays and is multiplied; otherwise the whole gets one level, of any strength


@dataclass(frozen=True)
class Looks:
    """How many slices are shown otherwise; none, unless told."""

    inverted: float = 0.0  # of all slices
    uptake: tuple[Uptake, ...] = ()  # one for each label
    strength: tuple[Strength, ...] = ()  # likewise
    soft: float = 0.0  # of all slices


def shown(grey: Tensor, mask: Tensor, labels: Tensor, looks: Looks) -> Tensor:
    """`grey`, some of it as another sequence or another uptake shows it."""
    grey = dull(grey, mask, labels, looks.uptake)
    drawn = torch.rand(len(grey)) < looks.inverted
    if drawn.any():
        grey = grey.clone()
        grey[drawn] = torch.stack([invert(of) for of in grey[drawn]])
    return strengthen(grey, mask, labels, looks.strength, drawn)


def invert(grey: Tensor) -> Tensor:
    """(1, s, s): dark for bright inside the head; air stays air."""
    head = blurred((F.avg_pool2d((grey[None] > HEAD).float(), 9, 1, 4) > 0.6).float(), 3)[0]
    if head.mean() < LEAST_HEAD:
        return grey
    white = torch.quantile(grey[grey > HEAD], 0.97) * (0.8 + 0.25 * torch.rand(1))
    return (white - grey).clamp(0, 1) * head


def strengthen(grey: Tensor, mask: Tensor, labels: Tensor, strength: tuple[Strength, ...], inverted: Tensor) -> Tensor:
    """Some tumours in another strength than they have; more of them where the head is `inverted`, (n,)."""
    if not strength:
        return grey
    share, rings = torch.tensor([s.share for s in strength])[labels], torch.tensor([s.rings for s in strength])[labels]
    drawn = (torch.rand(len(grey)) < torch.where(inverted, SHOWN, share)) & mask.flatten(1).any(1)
    if not drawn.any():
        return grey
    bright, inside, rings = grey[drawn], mask[drawn], (rings & ~inverted)[drawn]
    around, own = _around(bright, inside), mean_inside(bright, inside)
    level = torch.where(rings, around + (own - around) * _times(rings, 1.0, 2.5), around * _times(rings, 0.8, 3.0))
    structure = (bright - _as_image(own)) * _as_image(torch.where(rings, _times(rings, 0.8, 2.0), _times(rings, 0.35, 2.5)))
    return _laid(grey, drawn, inside, _as_image(level) + structure)


def dull(grey: Tensor, mask: Tensor, labels: Tensor, uptake: tuple[Uptake, ...]) -> Tensor:
    """Some tumours as they are without contrast: darker than what is around them, or like it, and with less structure."""
    if not uptake:
        return grey
    of = torch.tensor([[u.share, u.darkest, u.brightest] for u in uptake])[labels]
    drawn = (torch.rand(len(grey)) < of[:, 0]) & mask.flatten(1).any(1)
    if not drawn.any():
        return grey
    bright, inside, of = grey[drawn], mask[drawn], of[drawn]
    level = _around(bright, inside) * (of[:, 1] + (of[:, 2] - of[:, 1]) * torch.rand(len(of)))
    structure = (bright - _as_image(mean_inside(bright, inside))) * _as_image(0.1 + 0.4 * torch.rand(len(of)))
    return _laid(grey, drawn, inside, _as_image(level) + structure)


def soften(grey: Tensor, share: float) -> Tensor:
    """Some slices blurred by a box of 3 to 11 pixels of 224, twice."""
    drawn = torch.rand(len(grey)) < share
    if not drawn.any():
        return grey
    width, grey = int((2 * int(torch.randint(1, 6, (1,))) + 1) * grey.shape[2] / 224) // 2 * 2 + 1, grey.clone()
    grey[drawn] = blurred(grey[drawn], max(3, width))
    return grey


def _around(grey: Tensor, inside: Tensor) -> Tensor:
    """(n,): how bright the head is around the tumour."""
    return mean_inside(grey, widened(inside, 15) * (1 - inside) * (grey > 0.05))


def _laid(grey: Tensor, drawn: Tensor, inside: Tensor, tumour: Tensor) -> Tensor:
    """`grey`, where `drawn` with `tumour` for what is `inside`; the edge is soft."""
    share, laid = blurred(widened(inside, 3), 5), grey.clone()
    laid[drawn] = (1 - share) * grey[drawn] + share * tumour.clamp(0, 1.2)
    return laid


def _times(like: Tensor, least: float, most: float) -> Tensor:
    """Factors, one for each of `like`, drawn evenly by their logarithm."""
    return torch.exp(torch.empty(len(like)).uniform_(math.log(least), math.log(most)))


def _as_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
