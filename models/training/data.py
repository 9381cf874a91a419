"""What training sees: tensors of grey slices and masks, their strata, augmentation, sampling weights and cell labels.

Arrays only: who read them from which format is not this room's business. A grey slice is 0..1, (n, 1, s, s); a mask is 0 or 1, same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

STRATA = ("obvious", "subtle", "artifact", "normal")
IGNORED = -100  # torch's ignore_index
INSIDE = 0.3  # share of a cell that must be tumour to teach it the tumour's label
NEAR = 0.02  # share of tumour in a cell or its neighbours from which on "no tumour" is in doubt
SMALL = 0.006  # share of the square: a quarter of the tumours of folds 0-3 is smaller
FAINT = 0.1  # of full scale, tumour against its ring: a quarter of them differs less
HEAD = 0.08  # grey from which on a pixel is head: skin and skull of a dim slice are above it, Rician noise is not


@dataclass(frozen=True)
class Samples:
    """Slices to learn from or to be judged by; row i of everything is slice i."""

    images: Tensor  # float16 (n, s, s), 0..1
    masks: Tensor  # uint8 (n, s, s)
    labels: Tensor  # int64 (n,)
    sources: tuple[str, ...]  # who made the slice: weights and strata hang on it
    planes: tuple[str, ...]  # a tumour is pasted into slices of its own plane only
    absent: int  # index of "no tumour"

    @classmethod
    def of(
        cls,
        images: NDArray[np.float16],
        masks: NDArray[np.uint8],
        labels: NDArray[np.int64],
        sources: Sequence[str],
        planes: Sequence[str],
        absent: int,
    ) -> Samples:
        return cls(torch.from_numpy(images), torch.from_numpy(masks), torch.from_numpy(labels), tuple(sources), tuple(planes), absent)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(grey, mask, label) of `rows`: float32 (b, 1, s, s), float32 (b, 1, s, s), int64 (b,)."""
        return self.images[rows].float()[:, None], self.masks[rows].float()[:, None], self.labels[rows]


@dataclass(frozen=True)
class Feed:
    """The recipe's last step, grey -> what the network eats: the same numbers that `pipeline.prepare` uses."""

    mean: float
    std: float
    channels: int = 1

    def __call__(self, grey: Tensor) -> Tensor:
        return ((grey - self.mean) / self.std).repeat(1, self.channels, 1, 1).contiguous(memory_format=torch.channels_last)


def strata(samples: Samples) -> list[str]:
    """obvious, subtle or normal, slice by slice.

    A tumour is subtle where it is small or hardly differs from the ring around it. "artifact" is not found but made, by `spoil`.
    """
    return [word for rows in torch.arange(len(samples)).split(64) for word in _strata(samples, rows)]


def _strata(samples: Samples, rows: Tensor) -> list[str]:
    grey, mask, labels = samples.take(rows)
    ring = widened(mask, 13) * (1 - mask) * (grey > 0.05)
    contrast = (mean_inside(grey, mask) - mean_inside(grey, ring)).abs()
    subtle = (mask.mean((1, 2, 3)) < SMALL) | (contrast < FAINT)
    return ["normal" if label == samples.absent else "subtle" if s else "obvious" for label, s in zip(labels.tolist(), subtle, strict=True)]


def widened(mask: Tensor, width: int) -> Tensor:
    """`mask` grown by half of `width` (odd) to every side."""
    half = width // 2
    return F.max_pool2d(F.max_pool2d(mask, (width, 1), 1, (half, 0)), (1, width), 1, (0, half))


def blurred(mask: Tensor, width: int) -> Tensor:
    """A soft edge, `width` pixels of box filter twice."""
    return F.avg_pool2d(F.avg_pool2d(mask, width, 1, width // 2), width, 1, width // 2)


def mean_inside(grey: Tensor, where: Tensor) -> Tensor:
    """(b,): mean of `grey` where `where` is 1; 0 where it never is."""
    return (grey * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp(min=1)


def weights(samples: Samples, source_weights: dict[str, float], tumour_weights: dict[str, float]) -> Tensor:
    """How often each slice is drawn: labels by the root of their rarity, times the weight of its source (1 unless named), a tumour's
    times that of its source's tumours.
    """
    count = torch.bincount(samples.labels, minlength=int(samples.labels.max()) + 1).clamp(min=1).float()
    whole, tumours = (torch.tensor([of.get(source, 1.0) for source in samples.sources]) for of in (source_weights, tumour_weights))
    return count.rsqrt()[samples.labels] * whole * torch.where(samples.labels == samples.absent, 1.0, tumours)


def balanced(samples: Samples, strata_of: Sequence[str]) -> Tensor:
    """How often each slice is drawn so that obvious, subtle and normal come equally often, and within each every (label, source)."""
    groups = [(s, int(label), source) for s, label, source in zip(strata_of, samples.labels, samples.sources, strict=True)]
    kinds = {s: {g for g in groups if g[0] == s} for s in set(strata_of)}
    count = {g: groups.count(g) for g in set(groups)}
    return torch.tensor([1.0 / (len(kinds[g[0]]) * count[g]) for g in groups])


def cells(mask: Tensor, labels: Tensor, absent: int, side: int) -> Tensor:
    """Labels of the map's cells, (b, side, side): inside the tumour its label, outside `absent`, a ring of doubt ignored.

    A tumour slice whose mask is empty teaches no cell: nobody said where the tumour is.
    """
    share = F.adaptive_avg_pool2d(mask, side)[:, 0]
    near = F.max_pool2d(share[:, None], 3, 1, 1)[:, 0]
    target = torch.where(share > INSIDE, labels[:, None, None], absent)
    target[(share <= INSIDE) & (near > NEAR)] = IGNORED
    target[(mask.sum((1, 2, 3)) < 1) & (labels != absent)] = IGNORED
    return target


def augment(grey: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Other heads and scanners: mirrored, turned, scaled, squeezed, shifted, cut off; other window, gamma, coil, resolution, noise."""
    grid = F.affine_grid(_placing(len(grey)), [len(grey), 1, size, size], align_corners=False)
    grey, mask = F.grid_sample(grey, grid, align_corners=False), F.grid_sample(mask, grid, align_corners=False)
    grey = grey.clamp(0, 1) ** torch.exp(_around(len(grey), 1, 1, 1) * 0.6) * (1 + _around(len(grey), 1, 1, 1) * 0.25)
    grey = grey * (1 + F.interpolate(torch.randn(len(grey), 1, 3, 3) * 0.15, size=size, mode="bicubic"))
    coarse = torch.rand(len(grey)) < 0.3
    if coarse.any():
        grey[coarse] = _coarser(grey[coarse], float(torch.empty(1).uniform_(0.35, 0.8)))
    grey = (grey + torch.randn_like(grey) * torch.rand(len(grey), 1, 1, 1) * 0.04).clamp(0, 1.2)
    return cut_off(windowed(grey), mask), mask


def windowed(grey: Tensor) -> Tensor:
    """Half of the slices as somebody's 8-bit window shows them: both ends clipped, and the middle steeper, by a sigmoid of any place."""
    count = len(grey)
    low, high = torch.rand(count, 1, 1, 1) * 0.12, 1.05 - torch.rand(count, 1, 1, 1) * 0.4
    shown = ((grey - low) / (high - low)).clamp(0, 1)
    steep, middle = 6 * torch.exp(_around(count, 1, 1, 1) * 1.2), 0.25 + 0.5 * torch.rand(count, 1, 1, 1)
    black, white = torch.sigmoid(-middle * steep), torch.sigmoid((1 - middle) * steep)
    curved = (torch.sigmoid((shown - middle) * steep) - black) / (white - black)
    share = torch.rand(count, 1, 1, 1) * 0.7
    return torch.where(torch.rand(count, 1, 1, 1) < 0.5, (1 - share) * shown + share * curved, grey)


def cut_off(grey: Tensor, mask: Tensor) -> Tensor:
    """One slice in eight ends early at one side, as at the edge of a field of view; never through the tumour."""
    size = grey.shape[2]
    for k in torch.where(torch.rand(len(grey)) < 0.125)[0].tolist():
        depth, side = int(size * (0.05 + 0.3 * float(torch.rand(1)))), int(torch.randint(4, (1,)))
        part = (1 + side // 2, (size - depth) * (side % 2), depth)  # axis, first, how many
        if not mask[k].narrow(*part).any():
            grey[k].narrow(*part).zero_()
    return grey


def _placing(count: int) -> Tensor:
    """Affine matrices (count, 2, 3). One in eight is zoomed out, so that small bright discs (the vertex) are not strange, and one in
    four stands on its head, because not every file that says how it lies says it right.
    """
    turn, aspect = _around(count) * 0.3, 1 + _around(count) * 0.12
    scale = torch.where(torch.rand(count) < 0.125, 1.2 + 0.6 * torch.rand(count), 1 + _around(count) * 0.18)
    mirror, upright = torch.where(torch.rand(count) < 0.5, -1.0, 1.0), torch.where(torch.rand(count) < 0.25, -1.0, 1.0)
    shift = _around(count, 2) * 0.1
    across = torch.stack([mirror * turn.cos() * scale * aspect, -turn.sin() * scale, shift[:, 0]], 1)
    down = upright[:, None] * torch.stack([mirror * turn.sin() * scale, turn.cos() * scale / aspect, shift[:, 1]], 1)
    return torch.stack([across, down], 1)


def spoil(grey: Tensor) -> Tensor:
    """The artifact stratum: motion ghosts, strong bias field, low resolution, noise and clipping, each slice with its own strength."""
    count, _, rows, _ = grey.shape
    ghosts = grey.roll(rows // 5, 2) + grey.roll(-rows // 5, 2)
    grey = grey + ghosts * (0.05 + 0.15 * torch.rand(count, 1, 1, 1))
    grey = _coarser(grey, float(torch.empty(1).uniform_(0.3, 0.6)))
    grey = grey * (1 + F.interpolate(torch.randn(count, 1, 2, 2) * 0.25, size=grey.shape[2:], mode="bilinear"))
    noise = torch.randn(2, *grey.shape) * (0.03 + 0.05 * torch.rand(count, 1, 1, 1))
    return torch.hypot(grey + noise[0], noise[1]).clamp(0, 1)  # Rician, as magnitude pictures are


def _coarser(grey: Tensor, factor: float) -> Tensor:
    return F.interpolate(F.interpolate(grey, scale_factor=factor, mode="bilinear"), size=grey.shape[2:], mode="bilinear")


def _around(*shape: int) -> Tensor:
    return torch.rand(*shape) * 2 - 1
