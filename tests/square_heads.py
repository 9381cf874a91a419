"""Square heads with square tumours: what is made of them can be reckoned by hand."""

from __future__ import annotations

import torch

GLIOMA, ABSENT, SIDE = 0, 3, 224


def head(bright: float = 0.4, half: int = 90) -> torch.Tensor:
    """(1, s, s): a grey square head, symmetric."""
    grey = torch.zeros(1, SIDE, SIDE)
    grey[:, 112 - half : 112 + half, 112 - half : 112 + half] = bright
    return grey


def tumour(left: int = 60, top: int = 90, side: int = 24) -> torch.Tensor:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, top : top + side, left : left + side] = 1
    return mask


def with_tumour(grey: torch.Tensor, mask: torch.Tensor, times: float = 2.0) -> torch.Tensor:
    return grey * (1 + (times - 1) * mask)
