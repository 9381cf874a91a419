"""Several networks teach one what they say together.

    the network itself, and others of other slices or other seeds | the mean of their maps | the network, taught further

One network serves, as before (Hinton et al. 2015, arXiv:1503.02531). What only one training takes for a tumour is less of one in the mean,
so healthy heads get fewer false cells; in tumours there is less evidence, too.
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
LESSON = {"sizes": SIZES, "rate": RATE, "labels": LABELS}


def taught_further(
    network: Network, others: Sequence[Network], samples: Samples, feed: Feed, plan: Plan, work: Path, device: str = "cpu"
) -> Network:
    """`network`, taught by the mean of what it and `others` say of `samples`; itself where there are none. Writes `work`/taught.pt after
    every epoch and goes on from it. Raises OtherRun.
    """
    refuse_a_stale_lesson(work, len(others))
    if not others:
        return network
    plan = replace(plan, sizes=SIZES, rate=RATE, seed=plan.seed + 500)
    teachers = [copy.deepcopy(teacher).to(device, memory_format=torch.channels_last).eval() for teacher in (network, *others)]

    def loss(map_: Tensor, pictures: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        told = loss_of(map_, mask, labels, samples.absent, place=plan.place)
        return distance(map_, together(teachers, pictures).cpu(), samples.absent) + LABELS * told

    kept = Kept(work / "taught.pt", work / "taught.csv", _fingerprint(teachers, samples, plan))
    return learn(network, samples, feed, plan, kept, loss, device)


def refuse_a_stale_lesson(work: Path, others: int) -> None:
    """Raises OtherRun where `work` holds a lesson that nobody is to give now; to be asked before hours of training."""
    if not others and (work / "taught.pt").exists():
        raise OtherRun(f"{work / 'taught.pt'}: other networks taught it; name another --work, or remove it to go on without them")


def together(teachers: Sequence[Network], pictures: Tensor) -> Tensor:
    """The mean of their maps: (n, label, h, w)."""
    with torch.no_grad():
        return torch.stack([teacher(pictures) for teacher in teachers]).mean(0)


def latest(work: Path) -> Path:
    """The checkpoint of what a training in `work` ended with. Raises OtherRun where a lesson was begun and not ended."""
    taught = work / "taught.pt"
    if not taught.exists():
        return work / "fp32.pt"
    if (epochs := torch.load(taught, map_location="cpu", weights_only=True)["epochs"]) != len(SIZES):
        raise OtherRun(f"{taught}: has {epochs} of {len(SIZES)} epochs; the same make train goes on with it")
    return taught


def weights_digest(network: Network) -> str:
    """sha256 of its weights."""
    return hashlib.sha256(b"".join(value.cpu().numpy().tobytes() for value in network.state_dict().values())).hexdigest()


def _fingerprint(teachers: Sequence[Network], samples: Samples, plan: Plan) -> str:
    """sha256 over all that the lesson hangs on."""
    return hashlib.sha256("\n".join([fingerprint(samples, plan), repr(LABELS), *map(weights_digest, teachers)]).encode()).hexdigest()
