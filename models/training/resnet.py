"""The ordinary choice, to compare with: ResNet18 (He et al. 2015, arXiv 1512.03385), one label per slice, no map, on one page.

    image (n, 3, 224, 224) > 7x7/2, pool > 64, 128, 256, 512 channels, two blocks each > mean > logits (n, label)

Trained from scratch: no wheel with ImageNet weights of it under a free licence was found.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from tqdm import tqdm

from models.training.data import Feed, Samples, augment, weights
from models.training.loop import SOURCE_WEIGHTS, TUMOUR_WEIGHTS, fast_bf16

COLOURS = 3  # as its makers have it; grey is given three times
RATE = 1e-3  # of AdamW, rising and falling once
BATCH = 32


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(_conv(i, o, 3, stride), nn.ReLU(), _conv(o, o, 3))
        self.shortcut = nn.Identity() if stride == 1 and i == o else _conv(i, o, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.path(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """(n, 3, s, s) -> logits (n, label)."""

    def __init__(self, labels: int = 4) -> None:
        super().__init__()
        stages = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1))
        self.stem = nn.Sequential(_conv(COLOURS, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(*(Block(*stage) for stage in stages))
        self.head = nn.Linear(512, labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def _conv(i: int, o: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(o))


def train_resnet(samples: Samples, feed: Feed, sizes: tuple[int, ...], steps: int, seed: int = 0) -> ResNet18:
    """In eval mode, after `steps` batches at each of `sizes` pixels; the same draw and augmentation as the other network's."""
    torch.manual_seed(seed)
    network = ResNet18().to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps * len(sizes), pct_start=0.15)
    for size in sizes:
        drawn = torch.multinomial(weights(samples, SOURCE_WEIGHTS, TUMOUR_WEIGHTS), steps * BATCH, replacement=True)
        for rows in (bar := tqdm(drawn.split(BATCH), f"ResNet18, {size} px", unit="batch")):
            bar.set_postfix(loss=f"{_step(network, optimiser, samples, feed, rows, size):.3f}")
            schedule.step()
    return network.eval()


def _step(network: ResNet18, optimiser: torch.optim.Optimizer, samples: Samples, feed: Feed, rows: Tensor, size: int) -> float:
    """One batch; returns its loss."""
    grey, mask, labels = samples.take(rows)
    grey, _ = augment(grey, mask, size)
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16()):
        logits = network(feed(grey))
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.05)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def answers(network: ResNet18, tensor: Tensor) -> Tensor:
    """(n, 3, s, s) -> logits (n, label), in pieces of a batch."""
    with torch.no_grad():
        return torch.cat([network(rows) for rows in tensor.split(BATCH)])
