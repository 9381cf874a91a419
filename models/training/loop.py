"""fp32 training: progressive sizes, one checkpoint per epoch, and a curve anyone can plot.

A run that was cut off goes on after its last whole epoch; the same seeds give the same draw of slices and augmentation.
"""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from tqdm import tqdm

from models.training.data import IGNORED, INSIDE, Feed, Samples, augment, cells, weights
from models.training.depthwise import fast_depthwise
from models.training.imagenet import PICTURES, load_imagenet
from models.training.lesions import Lesions, Shares
from models.training.looks import Looks, soften
from models.training.network import Network, against, pool

SOURCE_WEIGHTS = {
    "volume": 3.0,  # few slices, but whole heads of tumour patients: tumour and no tumour on one scanner
    "phantom": 0.5,  # many slices of one anatomy
}
TUMOUR_WEIGHTS = {"web": 3.0}  # besides, of its tumours: a hundred from anywhere beside a thousand and a half of two hospitals
TUMOUR_CELLS = 4.0  # weight of a cell with tumour against one without: there are about thirty times fewer
WEIGHTS = {"source": SOURCE_WEIGHTS, "tumour": TUMOUR_WEIGHTS, "cells": TUMOUR_CELLS}
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of the map, the pictures that it is of, the mask and the labels


class OtherRun(Exception):
    """A folder holds a run of another plan or of other slices; the message says which folder."""


@dataclass(frozen=True)
class Plan:
    """How long and how hard, and how much is made up. The defaults take half an hour on two idle cores for fp32 (twice as long without
    AVX512-BF16), ten minutes for QAT.
    """

    sizes: tuple[int, ...] = (160,) * 7 + (192,) * 3 + (224,) * 5  # pixels, one number per epoch
    batch: int = 32
    steps: int = 0  # per epoch; 0 = as many as the slices fill
    rate: float = 1e-3
    seed: int = 0
    masks: bool = True  # every cell is taught, not only the slice as a whole; without them only for the ablation
    place: float = 0.5  # weight of where the tumour is, against what it is
    shares: Shares = field(default_factory=Shares)
    looks: Looks = field(default_factory=Looks)
    calibration: int = 320  # slices, balanced over the four strata
    qat_steps: int = 480
    qat_batch: int = 16
    qat_rate: float = 6e-5


@dataclass(frozen=True)
class Kept:
    """Where a run is kept, and of what it is."""

    checkpoint: Path
    curve: Path
    of: str


def train_fp32(samples: Samples, feed: Feed, plan: Plan, work: Path, device: str = "cpu") -> Network:
    """The trained network, in eval mode, on the CPU. Writes `work`/fp32.pt after every epoch and goes on from it; the curve is
    `work`/curve.csv. The network lives on `device`; slices are made up and augmented on the CPU. Raises OtherRun.
    """
    torch.manual_seed(plan.seed)
    network = Network().to(memory_format=torch.channels_last)
    load_imagenet(network, feed(samples.take(torch.linspace(0, len(samples) - 1, PICTURES).long())[0]))

    def loss(map_: Tensor, _pictures: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        return loss_of(map_, mask, labels, samples.absent, masks=plan.masks, place=plan.place)

    return learn(network, samples, feed, plan, Kept(work / "fp32.pt", work / "curve.csv", fingerprint(samples, plan)), loss, device)


def learn(network: Network, samples: Samples, feed: Feed, plan: Plan, kept: Kept, loss_of_batch: Loss, device: str = "cpu") -> Network:
    """`network` itself after the epochs of `plan`, in eval mode, on the CPU. Raises OtherRun."""
    kept.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    network.to(device)
    lesions = Lesions(samples, plan.shares, plan.looks)
    optimiser = torch.optim.AdamW(network.parameters(), plan.rate, weight_decay=0.02)
    steps = plan.steps or max(1, len(samples) // plan.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=steps * len(plan.sizes), pct_start=0.15)
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
    for epoch in range(_resume(kept, parts), len(plan.sizes)):
        torch.manual_seed(plan.seed + epoch)
        started, size = time.monotonic(), plan.sizes[epoch]
        title = f"{kept.checkpoint.stem} {epoch + 1}/{len(plan.sizes)}, {size} px"
        with fast_depthwise(network):
            loss = _epoch(parts, lesions, feed, size, steps, plan, loss_of_batch, title)
        _save(kept, parts, epoch + 1)
        _note(kept.curve, {"epoch": epoch + 1, "size": size, "loss": round(loss, 4), "seconds": round(time.monotonic() - started)})
    return network.to("cpu").eval()


def _epoch(parts: dict, lesions: Lesions, feed: Feed, size: int, steps: int, plan: Plan, loss_of_batch: Loss, title: str) -> float:
    """One epoch of `steps` batches; returns the mean loss."""
    network, samples, total = parts["network"].train(), lesions.samples, 0.0
    device = next(network.parameters()).device
    drawn = torch.multinomial(weights(samples, SOURCE_WEIGHTS, TUMOUR_WEIGHTS), steps * plan.batch, replacement=True)
    for rows in (bar := tqdm(drawn.split(plan.batch), title, unit="batch", mininterval=5)):
        grey, mask, labels = lesions(rows)
        grey, mask = augment(grey, mask, size)
        pictures = feed(soften(grey, plan.looks.soft)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or fast_bf16()):
            map_ = network(pictures)
        loss = loss_of_batch(map_.float().cpu(), pictures, mask, labels)
        parts["optimiser"].zero_grad()
        loss.backward()
        parts["optimiser"].step()
        parts["schedule"].step()
        total += loss.item()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return total / steps


def loss_of(map_: Tensor, mask: Tensor, labels: Tensor, absent: int, *, masks: bool = True, place: float = 0.0) -> Tensor:
    """The slice's label from the pooled map, every cell's own label, and by the weight of `place` where the tumour is."""
    weight = torch.full((map_.shape[1],), TUMOUR_CELLS)
    weight[absent] = 1.0
    target = cells(mask, labels, absent, map_.shape[2])
    whole = F.cross_entropy(pool(map_, absent), labels, label_smoothing=0.05)
    if not masks or not (target != IGNORED).any():  # the mean over no cell is not a number
        return whole
    return whole + F.cross_entropy(map_, target, weight=weight, ignore_index=IGNORED) + place * misplaced(map_, mask, labels, absent)


def misplaced(map_: Tensor, mask: Tensor, labels: Tensor, absent: int) -> Tensor:
    """How much of the evidence for a tumour's label, as a softmax over all cells, lies outside the tumour; in nats, 0 is none.

    The cells' own labels say nothing of the ring of doubt, so there the strongest cell used to lie: beside the tumour.
    """
    rows = torch.where((labels != absent) & mask.flatten(1).any(1))[0]
    if not len(rows):
        return map_.new_zeros(())
    evidence = (map_[rows, labels[rows]] - map_[rows, absent]).flatten(1)
    share = F.adaptive_avg_pool2d(mask[rows], map_.shape[2]).flatten(1)
    inside = share >= share.amax(1, keepdim=True).clamp(max=INSIDE)  # of a tumour smaller than a cell, the cell with most of it
    return (evidence.logsumexp(1) - evidence.masked_fill(~inside, float("-inf")).logsumexp(1)).mean()


def distance(map_: Tensor, taught: Tensor, absent: int) -> Tensor:
    """Squared error of the evidence, divergence and squared error of the pooled logits."""
    ours, theirs = pool(map_, absent), pool(taught, absent)
    divergence = F.kl_div(ours.log_softmax(1), theirs.softmax(1), reduction="batchmean")
    return F.mse_loss(against(map_, absent), against(taught, absent)) + divergence + 0.3 * F.mse_loss(ours, theirs)


def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware: then, with `fast_depthwise`, an epoch takes half the time (AVX512-BF16)."""
    return torch.cpu._is_avx512_bf16_supported()


def fingerprint(samples: Samples, plan: Plan) -> str:
    """sha256 over the plan, the weights and what is learnt: labels, and of every slice its mean and its mask's."""
    means = [found.float().mean((1, 2)).numpy().tobytes() for found in (samples.images, samples.masks)]
    return hashlib.sha256(b"".join([repr(plan).encode(), repr(WEIGHTS).encode(), samples.labels.numpy().tobytes(), *means])).hexdigest()


def _save(kept: Kept, parts: dict, epochs: int) -> None:
    """Whole or not at all."""
    part = kept.checkpoint.with_suffix(".part")
    torch.save({"epochs": epochs, "of": kept.of} | {name: value.state_dict() for name, value in parts.items()}, part)
    part.replace(kept.checkpoint)


def _resume(kept: Kept, parts: dict) -> int:
    """Loads what `_save` wrote; the number of epochs that are done. Raises OtherRun."""
    path = kept.checkpoint
    if not path.exists():
        kept.curve.unlink(missing_ok=True)
        return 0
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved.get("of") != kept.of:
        raise OtherRun(f"{path}: was begun with another plan or other slices; name another --work, or remove it to begin anew")
    for name, value in parts.items():
        value.load_state_dict(saved[name])
    return saved["epochs"]


def _note(path: Path, row: dict) -> None:
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
