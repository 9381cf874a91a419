"""The network: EfficientNet-Lite0 with ReLU, a shorter beginning and an evidence head, on one page.

    image (n, 1, 224, 224) > stride 2 (n, 64, 112, 112) > stride 16 (n, 112, 14, 14) + stride 32 (n, 320, 7, 7), doubled
        > map (n, label, 14, 14) > logits (n, label)

EfficientNet-Lite0 (Google, Apache-2.0) has no squeeze-excite. ReLU in place of its ReLU6, because ReLU6 leaves 32 float Clips in the
quantised graph, which then gains only 1.1-1.3 x (measured); fine-tuning takes the change. Its first four layers, made for colours, are one
convolution here (imagenet.py): at 112 x 112 pixels they took a fifth of int8's time.
Every cell of the map answers for itself whether there is tumour, so the network cannot pass by recognising where a picture comes from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from torch import Tensor, nn

CHANNELS = 1  # of the image: grey
BEGINNING = 64  # channels of the first convolution, 5 x 5
# expansion, channels out, repeats, stride, kernel; from the third on (EfficientNet-Lite0's own)
STAGES = ((1, 24, 1, 2, 3), (6, 24, 1, 1, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))
AT_STRIDE_16 = 10  # blocks up to and with the 112 channels
HEAD_CHANNELS = 96
STRONGEST_CELLS = 6  # of 196: about 3 % of the square, the size of a small tumour


def conv(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution, batch norm and, unless told otherwise, ReLU: what quantisation fuses into one integer operation."""
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, nn.ReLU()) if act else nn.Sequential(*layers)


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, i: int, o: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = i * expansion
        expand = [conv(i, hidden, 1)] if expansion > 1 else []
        self.path = nn.Sequential(*expand, conv(hidden, hidden, kernel, stride, hidden), conv(hidden, o, 1, act=False))
        self.skips = stride == 1 and i == o
        self.add = torch.ao.nn.quantized.FloatFunctional()  # so that the sum is quantised, too

    def forward(self, x: Tensor) -> Tensor:
        return self.add.add(x, self.path(x)) if self.skips else self.path(x)


class Network(nn.Module):
    """(n, 1, s, s) -> map (n, label, s/16, s/16): unpooled logits of every cell."""

    def __init__(self, labels: int = 4) -> None:
        super().__init__()
        blocks, i = [], BEGINNING
        for expansion, o, repeats, stride, kernel in STAGES:
            for k in range(repeats):
                blocks.append(Block(i, o, kernel, stride if k == 0 else 1, expansion))
                i = o
        self.stem = conv(CHANNELS, BEGINNING, 5, 2)
        self.to16, self.to32 = nn.Sequential(*blocks[:AT_STRIDE_16]), nn.Sequential(*blocks[AT_STRIDE_16:])
        self.mix = nn.Sequential(conv(112 + 320, HEAD_CHANNELS, 1), conv(HEAD_CHANNELS, HEAD_CHANNELS, 3, groups=HEAD_CHANNELS))
        self.head = nn.Conv2d(HEAD_CHANNELS, labels, 1)

    def forward(self, x: Tensor) -> Tensor:
        at16 = self.to16(self.stem(x))
        at32 = F.interpolate(self.to32(at16), scale_factor=2.0, mode="nearest")
        return self.head(self.mix(torch.cat([at16, at32], 1)))


class Answer(nn.Module):
    """What is exported: (n, 1, 224, 224) -> logits (n, label) and evidence (n, label, 14, 14), both against the label `absent`."""

    def __init__(self, network: nn.Module, absent: int) -> None:
        super().__init__()
        self.network, self.absent = network, absent

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        evidence = against(self.network(x), self.absent)
        return strongest(evidence), evidence


def adjusted(network: Network, by: Sequence[float]) -> Network:
    """`network` itself, with `by` added to each label's map: a label that others are taken for is raised, the others are lowered (logit
    adjustment after training, there by how often labels are learnt: Menon et al. 2021, arXiv:2007.07314).
    """
    with torch.no_grad():
        network.head.bias += torch.tensor(by)
    return network


def against(map_: Tensor, absent: int) -> Tensor:
    """The map minus its own "no tumour": that label becomes 0 everywhere, the others a logit over it."""
    return map_ - map_[:, absent : absent + 1]


def strongest(evidence: Tensor) -> Tensor:
    """(n, label, h, w) -> (n, label): the mean of each label's six strongest cells."""
    return evidence.flatten(2).topk(STRONGEST_CELLS, 2).values.mean(2)


def pool(map_: Tensor, absent: int) -> Tensor:
    """Slice logits from a raw map."""
    return strongest(against(map_, absent))
