"""What no data set holds, made from what it does: the same tumour on another scanner, the same scanner without the tumour.

    paste: a tumour of one slice in a tumour-free slice of another head
    heal:  a tumour covered by the other, healthy side

Where tumours come from one hospital and "no tumour" from another, a network can learn the hospital. After paste and heal both have both.
Grey is 0..1, (n, 1, s, s); a mask 0 or 1, same shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.training.data import HEAD, Samples, blurred, mean_inside, widened
from models.training.looks import Looks, shown

FEWEST = 60  # pixels of 224 x 224: a pasted tumour with fewer is lost in the network's first layers
MIRRORED = ("axial", "coronal")  # planes in which the left half looks like the right half


@dataclass(frozen=True)
class Shares:
    """How much of a batch is made up; nothing, unless told."""

    paste: float = 0.0  # of the slices without tumour
    heal: float = 0.0  # of the slices with one


class Lesions:
    """Makes lesions up for batches of `samples`, and shows some heads and tumours otherwise."""

    def __init__(self, samples: Samples, shares: Shares, looks: Looks = Looks()) -> None:  # noqa: B008 - frozen
        self.samples, self.shares, self.looks = samples, shares, looks
        marked = samples.masks.flatten(1).any(1)
        planes = set(samples.planes)
        self.donors = {p: torch.tensor([k for k, q in enumerate(samples.planes) if q == p and marked[k]]) for p in planes}

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(grey, mask, label) of `rows`, some of them changed."""
        grey, mask, labels = self.samples.take(rows)
        labels = labels.clone()
        clear = labels == self.samples.absent
        drawn = torch.rand(len(rows)) < torch.where(clear, self.shares.paste, self.shares.heal)
        for k in torch.where(drawn)[0].tolist():
            made = self._pasted(grey[k], int(rows[k])) if clear[k] else self._healed(grey[k], mask[k], int(rows[k]))
            if made is not None:
                grey[k], mask[k], labels[k] = made
        return shown(grey, mask, labels, self.looks), mask, labels

    def _pasted(self, host: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor] | None:
        donors = self.donors[self.samples.planes[row]]
        if not len(donors):
            return None
        grey, mask, label = self.samples.take(donors[torch.randint(len(donors), (1,))])
        if torch.rand(1) < 0.5:
            grey, mask = grey.flip(3), mask.flip(3)
        made = paste(host, grey[0], mask[0])
        return None if made is None else (*made, label[0])

    def _healed(self, grey: Tensor, mask: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor] | None:
        made = heal(grey, mask) if self.samples.planes[row] in MIRRORED else None
        return None if made is None else (made, torch.zeros_like(mask), torch.tensor(self.samples.absent))


def paste(host: Tensor, donor: Tensor, mask: Tensor) -> tuple[Tensor, Tensor] | None:
    """(grey, mask), (1, s, s) each: the tumour of `donor` at the same place of the head of `host`, as bright against its surroundings.

    None where it would not lie in a head.
    """
    here, there = head_box(host), head_box(donor)
    if here is None or there is None:
        return None
    grid = _from_box_to_box(here, there, host.shape[-1])
    donor, mask = (F.grid_sample(x[None], grid, align_corners=False) for x in (donor, mask))
    mask = (mask > 0.5).float()
    host = host[None]
    inside_head = (mask * (F.avg_pool2d(host, 9, 1, 4) > HEAD * 0.75)).sum()
    ring = widened(mask, 13) * (1 - mask)
    here_bright, there_bright = mean_inside(host, ring * (host > 0.05)), mean_inside(donor, ring * (donor > 0.05))
    if mask.sum() < FEWEST or inside_head < 0.9 * mask.sum() or min(here_bright, there_bright) < HEAD:
        return None
    share = blurred(widened(mask, 5), 7)
    return ((1 - share) * host + share * (donor * here_bright / there_bright).clamp(0, 1.2))[0], mask[0]


def heal(grey: Tensor, mask: Tensor) -> Tensor | None:
    """(1, s, s): the tumour covered by what lies on the other side of the head; None where the tumour reaches over the middle."""
    box = head_box(grey)
    if box is None or not mask.any():
        return None
    mirror = (box[2] + box[3] - 1 - torch.arange(grey.shape[-1])).clamp(0, grey.shape[-1] - 1)
    mask = mask[None]
    if (widened(mask, 17) * mask[..., mirror]).sum() > 0.02 * mask.sum():
        return None
    share = blurred(widened(mask, 13), 9)[0]
    return (1 - share) * grey + share * grey[..., mirror]


def head_box(grey: Tensor) -> tuple[int, int, int, int] | None:
    """(first row, last row + 1, first column, last column + 1) of the head in (1, s, s); None where there is hardly one."""
    head = (grey[0] > HEAD).float()
    rows, columns = (torch.where(head.mean(axis) > 0.04)[0] for axis in (1, 0))
    if len(rows) < 40 or len(columns) < 40:
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _from_box_to_box(here: tuple[int, int, int, int], there: tuple[int, int, int, int], size: int) -> Tensor:
    """Sampling grid (1, size, size, 2) that lays the box `there` onto the box `here`."""
    placing = torch.zeros(1, 2, 3)
    for axis, (a, b) in enumerate(((2, 3), (0, 1))):  # x, then y
        scale = (there[b] - there[a]) / (here[b] - here[a])
        offset = (there[a] + there[b] - scale * (here[a] + here[b])) / 2  # pixels
        placing[0, axis, axis], placing[0, axis, 2] = scale, 2 * offset / size + scale - 1
    return F.affine_grid(placing, [1, 1, size, size], align_corners=False)
