"""Before anything is taught: the same network, rewritten so that eight bits lose less of it.

Both rewritings leave the function as it is, but for the rounding of float32. A tensor of activations has one scale for all its channels,
so channels that never get loud lose most of their bits: `equalise` makes channels equally loud wherever ReLU lets a factor through
(Nagel et al. 2019, arXiv 1906.04721; here by what the activations hold, not by the weights). `against_absent` makes the last layer give
evidence itself, so that what decides is rounded once and not twice.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from models.training.data import Feed
from models.training.network import Block, Network

BETWEEN = (0.05, 20.0)  # factors stay in here: a channel that is all but silent need not be as loud as the others
INTO_1X1 = 0.5  # how far to go where a 1x1 convolution reads: loud weights of one input cost those of the others bits


def equalise(network: Network, grey: Tensor, feed: Feed) -> None:
    """Changes `network` (eval mode) in place; `grey` (n, 1, s, s) shows how loud each channel gets."""
    pairs = links(network)
    loud = _loudness(network, [producer for producer, _, _ in pairs], grey, feed)
    for producer, consumer, share in pairs:
        factor = (loud[producer].max() / loud[producer].clamp(min=1e-6)).clamp(*BETWEEN) ** share
        _scale(producer, consumer, factor / factor.log().mean().exp())  # so that the layer's weights stay about as large as they were


def links(network: Network) -> list[tuple[nn.Sequential, nn.Conv2d, float]]:
    """(layer with ReLU, the only convolution that reads it, how far to go). The weights of a depthwise one have a scale per channel
    anyway, so there it is all the way.
    """
    found: list[tuple[nn.Sequential, nn.Conv2d, float]] = [(network.stem, network.to16[0].path[0][0], 1.0)]
    for block in (module for module in network.modules() if isinstance(module, Block)):
        *expand, depthwise, project = block.path
        found += [(layer, depthwise[0], 1.0) for layer in expand]
        found.append((depthwise, project[0], INTO_1X1))
    return [*found, (network.mix[0], network.mix[1][0], 1.0), (network.mix[1], network.head, INTO_1X1)]


def _loudness(network: Network, layers: list[nn.Sequential], grey: Tensor, feed: Feed) -> dict[nn.Module, Tensor]:
    """layer -> (channel,): the largest value of every channel, as a mean over slices, for one odd slice is none to go by."""
    heard: dict[nn.Module, Tensor] = {}
    hooks = [layer.register_forward_hook(partial(_hear, heard)) for layer in layers]
    with torch.no_grad():
        for rows in grey.split(16):
            network(feed(rows))
    for hook in hooks:
        hook.remove()
    return {layer: total / len(grey) for layer, total in heard.items()}


def _hear(heard: dict[nn.Module, Tensor], layer: nn.Module, _: object, out: Tensor) -> None:
    heard[layer] = heard.get(layer, 0) + out.amax((2, 3)).sum(0)


def _scale(producer: nn.Sequential, consumer: nn.Conv2d, factor: Tensor) -> None:
    """Channel c of `producer` times factor[c], and what `consumer` makes of it divided by that."""
    with torch.no_grad():
        producer[1].weight.mul_(factor)
        producer[1].bias.mul_(factor)
        consumer.weight.div_(factor[:, None, None, None] if consumer.groups > 1 else factor[None, :, None, None])


def against_absent(network: Network, absent: int) -> None:
    """Changes `network` in place: its last layer gives evidence, logits over the label `absent`, whose own map is 0."""
    with torch.no_grad():
        network.head.weight.sub_(network.head.weight[absent].clone())
        network.head.bias.sub_(network.head.bias[absent].clone())
