"""What several networks say together is right more often than what one of them says: here they teach it to one.

    the network itself, and others of other slices or other seeds | the mean of their maps | the network, taught on

The number of networks that serve stays one (Hinton et al. 2015, arXiv:1503.02531). False cells and wrong names are where trainings differ,
and a mean has fewer of them.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from models.training.data import Feed, Samples
from models.training.loop import Kept, OtherRun, Plan, distance, fingerprint, learn, loss_of
from models.training.network import Network

SIZES, RATE = (160, 192, 224), 3e-4  # of each epoch, and at most; not tuned
LABELS = 0.5  # weight of what the labels say, against what the teachers say


def taught_on(
    network: Network, others: Sequence[Network], samples: Samples, feed: Feed, plan: Plan, work: Path, device: str = "cpu"
) -> Network:
    """`network`, taught by the mean of what it and `others` say of `samples`; itself where there are none. Writes `work`/taught.pt after
    every epoch and goes on from it. Raises OtherRun.
    """
    path = work / "taught.pt"
    if not others and path.exists():
        raise OtherRun(f"{path}: was taught on by other networks; name another --work, or remove it to go on without them")
    if not others:
        return network
    plan = replace(plan, sizes=SIZES, rate=RATE, seed=plan.seed + 500)
    teachers = [copy.deepcopy(teacher).to(device, memory_format=torch.channels_last).eval() for teacher in (network, *others)]

    def loss(map_: Tensor, pictures: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        told = loss_of(map_, mask, labels, samples.absent, place=plan.place)
        return distance(map_, together(teachers, pictures).cpu(), samples.absent) + LABELS * told

    kept = Kept(path, work / "taught.csv", _fingerprint(teachers, samples, plan))
    return learn(network, samples, feed, plan, kept, loss, device)


def together(teachers: Sequence[Network], pictures: Tensor) -> Tensor:
    """The mean of their maps: (n, label, h, w)."""
    with torch.no_grad():
        return torch.stack([teacher(pictures) for teacher in teachers]).mean(0)


def latest(work: Path) -> Path:
    """The checkpoint of what a training in `work` ended with."""
    taught = work / "taught.pt"
    return taught if taught.exists() else work / "fp32.pt"


def weights_digest(network: Network) -> str:
    """sha256 of its weights."""
    return hashlib.sha256(b"".join(value.cpu().numpy().tobytes() for value in network.state_dict().values())).hexdigest()


def _fingerprint(teachers: Sequence[Network], samples: Samples, plan: Plan) -> str:
    """sha256 over all that the lesson hangs on."""
    return hashlib.sha256("\n".join([fingerprint(samples, plan), repr(LABELS), *map(weights_digest, teachers)]).encode()).hexdigest()
