"""fp32 -> int8: calibrate, then let the fp32 network teach its own integer twin (quantisation-aware training).

Scales come from histograms over a calibration set that is balanced over the four strata, and stay; batch norm stays; what is learnt is the
weights' answer to rounding, against fp32's maps and pooled logits. Taught by labels instead, QAT loses to plain calibration (measured).
torch.ao.quantization is leaving upstream: torch is pinned in the `train` extra.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.ao.nn.intrinsic.qat import freeze_bn_stats
from torch.ao.quantization import (
    FakeQuantize,
    HistogramObserver,
    MovingAveragePerChannelMinMaxObserver,
    QConfig,
    QConfigMapping,
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_qat_fx
from tqdm import tqdm

from models.training.data import STRATA, Feed, Samples, augment, balanced, spoil, strata
from models.training.loop import Plan
from models.training.network import Network, pool

_ACTIVATIONS = FakeQuantize.with_args(observer=HistogramObserver, quant_min=0, quant_max=255, dtype=torch.quint8, reduce_range=False)
_WEIGHTS = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=torch.qint8,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
)
CONFIG = QConfig(activation=_ACTIVATIONS, weight=_WEIGHTS)


def quantise(network: Network, samples: Samples, feed: Feed, plan: Plan, work: Path) -> nn.Module:
    """The int8 twin of `network`, converted: no fake quantisation left. `work`/qat.pt holds the taught weights, so none is taught twice."""
    torch.backends.quantized.engine = "x86" if "x86" in torch.backends.quantized.supported_engines else "fbgemm"
    torch.manual_seed(plan.seed + 1000)
    mapping = QConfigMapping().set_global(CONFIG)
    with _quiet():
        student = prepare_qat_fx(copy.deepcopy(network).train(), mapping, (torch.randn(1, 3, 224, 224),))
    drawing = balanced(samples, strata(samples))
    calibrate(student, calibration_set(samples, drawing, plan.calibration), feed)
    if (work / "qat.pt").exists():
        student.load_state_dict(torch.load(work / "qat.pt", weights_only=True))
    else:
        teach(student, network, samples, drawing, feed, plan)
        torch.save(student.state_dict(), work / "qat.pt")
    with _quiet():
        return convert_fx(copy.deepcopy(student).eval())


@contextmanager
def _quiet() -> Iterator[None]:
    """Upstream says at every call that it will leave; the pin in pyproject is our answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def calibration_set(samples: Samples, drawing: Tensor, count: int) -> Tensor:
    """(count, 1, s, s): obvious, subtle and normal slices in equal parts, and as many spoiled ones (the artifact stratum)."""
    grey, _, _ = samples.take(torch.multinomial(drawing, count, replacement=True))
    grey[:: len(STRATA)] = spoil(grey[:: len(STRATA)])
    return grey


def calibrate(student: nn.Module, grey: Tensor, feed: Feed) -> None:
    """Lets the observers see `grey`, then fixes the activations' scales and turns rounding on; weights go on scaling."""
    student.train()
    student.apply(freeze_bn_stats)
    student.apply(disable_fake_quant)
    student.apply(enable_observer)
    with torch.no_grad():
        for rows in tqdm(grey.split(32), "calibration", unit="batch"):
            student(feed(rows))
    student.apply(disable_observer)
    student.apply(enable_fake_quant)
    for module in student.modules():
        if hasattr(module, "weight_fake_quant"):
            module.weight_fake_quant.enable_observer()


def teach(student: nn.Module, teacher: Network, samples: Samples, drawing: Tensor, feed: Feed, plan: Plan) -> None:
    """Adam, the rate falling to 0; the loss is how far the student's maps and logits are from the teacher's."""
    optimiser = torch.optim.Adam(student.parameters(), plan.qat_rate)
    for step in (bar := tqdm(range(plan.qat_steps), "QAT", unit="step")):
        optimiser.param_groups[0]["lr"] = plan.qat_rate * (1 - step / plan.qat_steps)
        grey, mask, _ = samples.take(torch.multinomial(drawing, plan.qat_batch, replacement=True))
        grey, _ = augment(grey, mask, grey.shape[2])
        grey[:: len(STRATA)] = spoil(grey[:: len(STRATA)])
        with torch.no_grad():
            taught = teacher(feed(grey))
        loss = distance(student(feed(grey)), taught, samples.absent)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")


def distance(map_: Tensor, taught: Tensor, absent: int) -> Tensor:
    """Squared error of the maps, divergence and squared error of the pooled logits."""
    ours, theirs = pool(map_, absent), pool(taught, absent)
    divergence = F.kl_div(ours.log_softmax(1), theirs.softmax(1), reduction="batchmean")
    return F.mse_loss(map_, taught) + divergence + 0.3 * F.mse_loss(ours, theirs)
