"""fp32 training: progressive sizes, one checkpoint per epoch, and a curve anyone can plot.

    teacher1, teacher2: taught by labels > the network that serves: taught by labels, and by the mean of the teachers' maps

Networks of one plan and two seeds differ in what they say of heads that are new to them, and their mean is better than either; a third one
learns it from them, and costs no more to serve (Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531).
A run that was cut off goes on after its last whole epoch; the same seeds give the same draw of slices and augmentation.
"""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from tqdm import tqdm

from models.training.data import IGNORED, INSIDE, Feed, Samples, augment, cells, weights
from models.training.depthwise import fast_depthwise
from models.training.lesions import Lesions, Shares
from models.training.network import Network, load_imagenet, pool

SOURCE_WEIGHTS = {
    "volume": 3.0,  # few slices, but whole heads of tumour patients: tumour and no tumour on one scanner
    "phantom": 0.5,  # many slices of one anatomy
}
TUMOUR_WEIGHTS = {"web": 3.0}  # besides, of its tumours: a hundred from anywhere beside a thousand and a half of two hospitals
TUMOUR_CELLS = 4.0  # weight of a cell with tumour against one without: there are about thirty times fewer
TAUGHT_CELLS = 4.0  # weight of what the teachers say of every cell, against what they say of the slice
APART = 1000  # between the seeds of the networks of one run; the epochs of one are 1 apart


class OtherRun(Exception):
    """A folder holds a run of another plan or of other slices; the message says which folder."""


@dataclass(frozen=True)
class Plan:
    """How long and how hard, and how much is made up. The defaults take QAT six minutes on two idle cores."""

    sizes: tuple[int, ...] = (160,) * 7 + (192,) * 3 + (224,) * 5  # pixels, one number per epoch
    batch: int = 32
    steps: int = 0  # per epoch; 0 = as many as the slices fill
    rate: float = 1e-3
    seed: int = 0
    teachers: int = 2  # networks of other seeds that teach the one that serves; 0: its labels alone do
    masks: bool = True  # labels teach every cell, not only the slice as a whole; without them only for the ablation
    place: float = 0.5  # weight of where the tumour is, against what it is
    shares: Shares = field(default_factory=Shares)
    calibration: int = 320  # slices, balanced over the four strata
    qat_steps: int = 240
    qat_batch: int = 16
    qat_rate: float = 2e-5


def train_fp32(samples: Samples, feed: Feed, plan: Plan, work: Path, device: str = "cpu") -> Network:
    """The trained network, in eval mode, on the CPU. Writes `work`/fp32.pt after every epoch and goes on from it; the curve is
    `work`/curve.csv, and its teachers have a folder each. Networks live on `device`; slices are made up and augmented on the CPU.
    Raises OtherRun.
    """
    folders = [*teachers_of(work, plan), work]
    runs = {folder: replace(plan, seed=plan.seed + APART * k) for k, folder in enumerate(folders)}
    saved = {folder: _saved(folder, fingerprint(samples, run)) for folder, run in runs.items()}  # another run is met before hours are spent
    taught = (saved[work] or {}).get("epochs") == len(plan.sizes)
    teachers = [] if taught else [_trained(samples, feed, runs[folder], folder, device).to(device) for folder in folders[:-1]]
    return _trained(samples, feed, runs[work], work, device, teachers)


def teachers_of(work: Path, plan: Plan) -> list[Path]:
    """The folder of each teacher."""
    return [work / f"teacher{k}" for k in range(1, plan.teachers + 1)]


def _trained(samples: Samples, feed: Feed, plan: Plan, work: Path, device: str, teachers: Sequence[Network] = ()) -> Network:
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    of = fingerprint(samples, plan)
    network = Network().to(memory_format=torch.channels_last)
    load_imagenet(network)
    network.to(device)
    lesions = Lesions(samples, plan.shares)
    optimiser = torch.optim.AdamW(network.parameters(), plan.rate, weight_decay=0.02)
    steps = plan.steps or max(1, len(samples) // plan.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=steps * len(plan.sizes), pct_start=0.15)
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
    for epoch in range(_resume(work, parts, of), len(plan.sizes)):
        torch.manual_seed(plan.seed + epoch)
        started, size = time.monotonic(), plan.sizes[epoch]
        title = f"{work.name}, fp32 {epoch + 1}/{len(plan.sizes)}, {size} px"
        with fast_depthwise(network):
            loss = _epoch(parts, teachers, lesions, feed, size, steps, plan, title)
        _save(work / "fp32.pt", parts, epoch + 1, of)
        _note(work / "curve.csv", {"epoch": epoch + 1, "size": size, "loss": round(loss, 4), "seconds": round(time.monotonic() - started)})
    return network.to("cpu").eval()


def _epoch(parts: dict, teachers: Sequence[Network], lesions: Lesions, feed: Feed, size: int, steps: int, plan: Plan, title: str) -> float:
    """One epoch of `steps` batches; returns the mean loss."""
    network, samples, total = parts["network"].train(), lesions.samples, 0.0
    device = next(network.parameters()).device
    drawn = torch.multinomial(weights(samples, SOURCE_WEIGHTS, TUMOUR_WEIGHTS), steps * plan.batch, replacement=True)
    for rows in (bar := tqdm(drawn.split(plan.batch), title, unit="batch", mininterval=5)):
        grey, mask, labels = lesions(rows)
        grey, mask = augment(grey, mask, size)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or fast_bf16()):
            seen = feed(grey).to(device)
            map_ = network(seen).float().cpu()
            with torch.no_grad():
                said = [teacher(seen).float().cpu() for teacher in teachers]
        loss = loss_of(map_, mask, labels, samples.absent, masks=plan.masks, place=plan.place)
        if said:
            loss = loss + distance(map_, torch.stack(said).mean(0), samples.absent)
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


def distance(map_: Tensor, taught: Tensor, absent: int) -> Tensor:
    """How far a map is from what its teachers say, in nats: the divergence of every cell's labels, and of the slice's."""
    every_cell = F.kl_div(map_.log_softmax(1), taught.softmax(1), reduction="none").sum(1).mean()
    whole = F.kl_div(pool(map_, absent).log_softmax(1), pool(taught, absent).softmax(1), reduction="batchmean")
    return TAUGHT_CELLS * every_cell + whole


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


def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware: then, with `fast_depthwise`, an epoch takes half the time (AVX512-BF16)."""
    return torch.cpu._is_avx512_bf16_supported()


def fingerprint(samples: Samples, plan: Plan) -> str:
    """sha256 over the plan, the weights beside it, and what is learnt: labels, and of every slice its mean and its mask's."""
    beside = (SOURCE_WEIGHTS, TUMOUR_WEIGHTS, TUMOUR_CELLS, TAUGHT_CELLS)
    means = [found.float().mean((1, 2)).numpy().tobytes() for found in (samples.images, samples.masks)]
    return hashlib.sha256(b"".join([repr((plan, beside)).encode(), samples.labels.numpy().tobytes(), *means])).hexdigest()


def _save(path: Path, parts: dict, epochs: int, of: str) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    torch.save({"epochs": epochs, "of": of} | {name: value.state_dict() for name, value in parts.items()}, part)
    part.replace(path)


def _saved(work: Path, of: str) -> dict | None:
    """What `_save` wrote, or None. Raises OtherRun."""
    path = work / "fp32.pt"
    if not path.exists():
        return None
    saved: dict = torch.load(path, map_location="cpu", weights_only=True)
    if saved.get("of") != of:
        raise OtherRun(f"{path}: was begun with another plan or other slices; name another --work, or remove it to begin anew")
    return saved


def _resume(work: Path, parts: dict, of: str) -> int:
    """Loads what was saved; the number of epochs that are done. Raises OtherRun."""
    saved = _saved(work, of)
    if saved is None:
        (work / "curve.csv").unlink(missing_ok=True)
        return 0
    for name, value in parts.items():
        value.load_state_dict(saved[name])
    return int(saved["epochs"])


def _note(path: Path, row: dict) -> None:
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
