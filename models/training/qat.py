"""fp32 -> int8: calibrate, then let the fp32 network teach its own integer twin (quantisation-aware training).

    rewrite (ptq.py) | calibrate | teach | convert

Scales come from histograms over a calibration set that is balanced over the four strata, and stay; batch norm stays; what is learnt is the
weights' answer to rounding, against fp32's maps and pooled logits. Taught by labels instead, QAT loses to plain calibration (measured).
`Rounding` has every other way of doing it, for scripts/pitfalls.py to measure. torch.ao.quantization is leaving upstream: torch is pinned
in the `train` extra.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.ao.nn.intrinsic.qat import freeze_bn_stats, update_bn_stats
from torch.ao.quantization import (
    FakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
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
from models.training.loop import Plan, distance, fingerprint, loss_of
from models.training.network import CHANNELS, Network
from models.training.ptq import against_absent, equalise

LOUDNESS = 96  # slices that show how loud channels get; not tuned
NAIVE_RATE = 1e-4  # of teaching by labels, as the tutorials have it
OBSERVERS = {"histogram": HistogramObserver, "minmax": MinMaxObserver, "moving": MovingAverageMinMaxObserver}


@dataclass(frozen=True)
class Rounding:
    """How the integer twin is made. The defaults are what serves; the other values are there to be measured against them."""

    observer: Literal["histogram", "minmax", "moving"] = "histogram"  # what range of activations eight bits must cover
    calibrated_with: Literal["balanced", "obvious"] = "balanced"  # all four strata, or large and plain tumours only
    taught_by: Literal["fp32", "labels", "nobody"] = "fp32"  # nobody is PTQ
    rewritten: bool = True  # by ptq.py, before anything else
    reduce_range: bool = False  # weights of 7 bits: U8S8 products cannot saturate on x86 without VNNI

    def config(self) -> QConfig:
        """quint8 activations, one scale per tensor; qint8 weights, one scale per channel, symmetric."""
        half = 64 if self.reduce_range else 128
        activation = FakeQuantize.with_args(
            observer=OBSERVERS[self.observer], quant_min=0, quant_max=255, dtype=torch.quint8, reduce_range=False
        )
        weight = FakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver,
            quant_min=-half,
            quant_max=half - 1,
            dtype=torch.qint8,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
        )
        return QConfig(activation=activation, weight=weight)


SERVED = Rounding()


def quantise(network: Network, samples: Samples, feed: Feed, plan: Plan, work: Path | None, rounding: Rounding = SERVED) -> nn.Module:
    """The int8 twin of `network`, converted: no fake quantisation left. `work`/qat.pt holds the taught weights, so none is taught twice;
    without `work` nothing is kept.
    """
    torch.backends.quantized.engine = "x86" if "x86" in torch.backends.quantized.supported_engines else "fbgemm"
    torch.manual_seed(plan.seed + 1000)
    words = strata(samples)
    grey = calibration_set(
        samples, calibrated_from(samples, words, rounding), plan.calibration, spoiled=rounding.calibrated_with == "balanced"
    )
    teacher = rewritten(network, grey[:LOUDNESS], feed, samples.absent) if rounding.rewritten else network
    student = prepared(teacher, rounding)
    calibrate(student, grey, feed)
    if rounding.taught_by != "nobody":
        of = _fingerprint(network, samples, plan, rounding)
        _taught(student, teacher, samples, balanced(samples, words), feed, plan, rounding, (work / "qat.pt", of) if work else None)
    with _quiet():
        return convert_fx(copy.deepcopy(student).eval())


def _taught(
    student: nn.Module,
    teacher: Network,
    samples: Samples,
    drawing: Tensor,
    feed: Feed,
    plan: Plan,
    rounding: Rounding,
    kept: tuple[Path, str] | None,
) -> None:
    """From the file of `kept` where it holds this very twin, else by teaching, and then it does."""
    if kept and kept[0].exists():
        saved = torch.load(kept[0], weights_only=True)
        if saved["of"] == kept[1]:
            student.load_state_dict(saved["student"])
            return
    if rounding.taught_by == "labels":
        teach_by_labels(student, samples, drawing, feed, plan)
    else:
        teach(student, teacher, samples, drawing, feed, plan)
    if kept:
        torch.save({"of": kept[1], "student": student.state_dict()}, kept[0])


def _fingerprint(network: Network, samples: Samples, plan: Plan, rounding: Rounding) -> str:
    """sha256 over all that the twin hangs on."""
    weights = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    return hashlib.sha256(weights + fingerprint(samples, plan).encode() + repr(rounding).encode()).hexdigest()


def rewritten(network: Network, grey: Tensor, feed: Feed, absent: int) -> Network:
    """A copy with the same answers that eight bits lose less of (ptq.py)."""
    copied = copy.deepcopy(network).eval()
    against_absent(copied, absent)
    equalise(copied, grey, feed)
    return copied


def prepared(network: Network, rounding: Rounding) -> nn.Module:
    """A copy with an observer and a rounding wherever integers will be."""
    mapping = QConfigMapping().set_global(rounding.config())
    with _quiet():
        return prepare_qat_fx(copy.deepcopy(network).train(), mapping, (torch.randn(1, CHANNELS, 224, 224),))


@contextmanager
def _quiet() -> Iterator[None]:
    """Upstream says at every call that it will leave; the pin in pyproject is our answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def calibrated_from(samples: Samples, words: list[str], rounding: Rounding) -> Tensor:
    """How often each slice is drawn for calibration; `words` are the strata of `samples`."""
    drawing = balanced(samples, words)
    if rounding.calibrated_with == "balanced":
        return drawing
    return drawing * torch.tensor([word == "obvious" for word in words])


def calibration_set(samples: Samples, drawing: Tensor, count: int, *, spoiled: bool = True) -> Tensor:
    """(count, 1, s, s): slices as `drawing` has them; every fourth one `spoiled` (the artifact stratum).

    Drawn by `balanced`, that is obvious, subtle, normal and artifact in equal parts.
    """
    grey, _, _ = samples.take(torch.multinomial(drawing, count, replacement=True))
    if spoiled:
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
    """The loss is how far the student's maps and logits are from the teacher's."""
    _keep_absent(student, samples.absent)

    def loss(grey: Tensor, _mask: Tensor, _labels: Tensor) -> Tensor:
        with torch.no_grad():
            taught = teacher(feed(grey))
        return distance(student(feed(grey)), taught, samples.absent)

    _learn(student, samples, drawing, plan, plan.qat_rate, loss)


def teach_by_labels(student: nn.Module, samples: Samples, drawing: Tensor, feed: Feed, plan: Plan) -> None:
    """As the tutorials do it: the labels teach, and scales and batch norm go on moving. Kept to be measured against."""
    student.apply(update_bn_stats)
    student.apply(enable_observer)

    def loss(grey: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        return loss_of(student(feed(grey)), mask, labels, samples.absent)

    _learn(student, samples, drawing, plan, NAIVE_RATE, loss)


def _learn(student: nn.Module, samples: Samples, drawing: Tensor, plan: Plan, rate: float, loss_of_batch: Callable[..., Tensor]) -> None:
    """Adam, the rate falling to 0, over augmented slices of which every fourth is spoiled."""
    optimiser = torch.optim.Adam(student.parameters(), rate)
    for step in (bar := tqdm(range(plan.qat_steps), "QAT", unit="step")):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / plan.qat_steps)
        grey, mask, labels = samples.take(torch.multinomial(drawing, plan.qat_batch, replacement=True))
        grey, mask = augment(grey, mask, grey.shape[2])
        grey[:: len(STRATA)] = spoil(grey[:: len(STRATA)])
        loss = loss_of_batch(grey, mask, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")


def _keep_absent(student: Any, absent: int) -> None:
    """`against_absent` made the map of that label 0, without rounding; it learns nothing, so it stays 0."""
    row = torch.tensor([absent])
    for parameter in (student.head.weight, student.head.bias):
        parameter.register_hook(partial(torch.Tensor.index_fill, dim=0, index=row, value=0.0))
