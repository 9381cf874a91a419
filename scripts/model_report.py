"""docs/model-report.md: the tables of a training run, printed from what the run measured and from nothing else."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.gate import measure
from models.manifest import Manifest

if TYPE_CHECKING:  # reading data wants the train extra, and what the page says does not
    from scripts.datasets import Examples

VARIANTS = ("fp32", "int8", "PyTorch")
FOOTNOTE = (
    "Footnote: the first run of 1.0.0 was judged on the same slices and then replaced, because it did not read heads that are stored\n"
    "upside down. So these slices were looked at once before this run, and one choice, to train again, was made after it."
)
Floats = NDArray[np.float32]
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """Everything that the report needs and the manifest does not say."""

    sealed: Examples  # fold 4 and the sealed patient's volumes
    strata: Sequence[str]  # of `sealed`
    answers: dict[str, dict[str, Floats]]  # sealed, spoiled, healthy -> variant -> logits (slice, label)
    speed: dict[tuple[int, int], dict[str, float]]  # (threads, batch) -> variant -> seconds
    healthy: str | None  # name of the file of the healthy head
    learnt: int  # slices
    plan: Any  # models.training.loop.Plan; this file does not import the room with torch
    work: Path


def text(measured: Measured, manifest: Manifest) -> str:
    """The whole page."""
    parts = [_head(measured, manifest), _classes(measured, manifest), _subsets(measured, manifest), _elsewhere(measured, manifest)]
    return "\n".join([*parts, _size_and_speed(measured, manifest), _verdict(manifest)])


def _head(measured: Measured, manifest: Manifest) -> str:
    with (measured.work / "curve.csv").open(newline="") as stream:
        curve = list(csv.DictReader(stream))
    minutes = sum(float(row["seconds"]) for row in curve) / 60
    plan, sizes = measured.plan, ", ".join(map(str, measured.plan.sizes))
    return f"""# Model report: {manifest.name} {manifest.version}

Printed by `python -m scripts.train_image_model`, {manifest.gate.judged if manifest.gate else ""}. Not edited.

fp32 and int8 are the shipped files in ONNX Runtime; PyTorch is the network that fp32 was exported from, in eager mode.
Learnt from {measured.learnt} slices (folds 0-3, patients 01-05, the bundled healthy head): {len(plan.sizes)} epochs at {sizes} pixels
in {minutes:.0f} minutes, then {plan.qat_steps} steps of quantisation-aware training.
Everything below was measured on slices that were not learnt.

{FOOTNOTE}
"""


def _classes(measured: Measured, manifest: Manifest) -> str:
    fold4 = _fold4(measured)
    lines = [
        f"## Fold 4, class by class ({int(fold4.sum())} slices)",
        "",
        _line("", *(f"{v} {m}" for v in VARIANTS for m in ("recall", "precision", "F1"))),
    ]
    lines.append(_rule(1 + 3 * len(VARIANTS)))
    found = {v: _measure(measured, manifest, "sealed", v, fold4) for v in VARIANTS}
    for name in manifest.label_names:
        cells = [f"{found[v][f'{m}_{name}']:.3f}" for v in VARIANTS for m in ("recall", "precision", "f1")]
        lines += [_line(name, *cells)]
    lines += ["", "Accuracy: " + ", ".join(f"{v} {found[v]['accuracy']:.4f}" for v in VARIANTS) + ".", ""]
    return "\n".join(lines)


def _subsets(measured: Measured, manifest: Manifest) -> str:
    fold4, planes, strata = _fold4(measured), np.array(measured.sealed.planes), np.array(measured.strata)
    subsets = [("all", "sealed", fold4)]
    subsets += [(plane, "sealed", fold4 & (planes == plane)) for plane in sorted(set(planes[fold4].tolist()))]
    subsets += [(stratum, "sealed", fold4 & (strata == stratum)) for stratum in ("obvious", "subtle", "normal")]
    subsets.append(("artifact", "spoiled", fold4))
    lines = [
        "## Fold 4, by plane and stratum",
        "",
        "Recall, precision and F1 are means over the classes that occur. Obvious and subtle are tumours, by size and contrast of the mask;",
    ]
    lines += [
        "normal is no tumour; artifact is every slice of the fold once more, spoiled: ghosts, bias field, low resolution, noise, clipping.",
        "",
    ]
    lines += [
        _line("", "slices", *(f"{v} {m}" for v in VARIANTS for m in ("accuracy", "recall", "precision", "F1"))),
        _rule(2 + 4 * len(VARIANTS)),
    ]
    for title, which, rows in subsets:
        if rows.any():
            lines.append(_line(title, str(int(rows.sum())), *(_means(measured, manifest, which, v, rows) for v in VARIANTS)))
    return "\n".join([*lines, ""])


def _means(measured: Measured, manifest: Manifest, which: str, variant: str, rows: Rows) -> str:
    """Four cells: accuracy, and the means of recall, precision and F1 over the classes that occur in `rows`."""
    found = _measure(measured, manifest, which, variant, rows)
    here = [manifest.label_names[k] for k in sorted(set(measured.sealed.labels[rows].tolist()))]
    means = [float(np.mean([found[f"{m}_{name}"] for name in here])) for m in ("recall", "precision", "f1")]
    return " | ".join(f"{value:.3f}" for value in (found["accuracy"], *means))


def _elsewhere(measured: Measured, manifest: Manifest) -> str:
    """Other heads: where the drop of a network shows first."""
    absent, volumes = manifest.label_names.index(manifest.absent), ~_fold4(measured)
    lines = [
        "## Heads from elsewhere, slice by slice",
        "",
        "Sensitivity: a tumour slice gets a tumour's label, whichever. Specificity: a slice without tumour gets none.",
        "",
    ]
    lines += [_line("", "slices", *(f"{v} {m}" for v in VARIANTS for m in ("sensitivity", "specificity"))), _rule(2 + 2 * len(VARIANTS))]
    if volumes.any():
        truth = measured.sealed.labels[volumes]
        cells = [_found(measured.answers["sealed"][v][volumes], truth, absent) for v in VARIANTS]
        lines.append(_line("volumes of the sealed patient btp06", str(int(volumes.sum())), *cells))
    if measured.healthy is None:
        lines.append(_line("a healthy head not learnt", "not measured", *(["not measured"] * 2 * len(VARIANTS))))
    else:
        answers = measured.answers["healthy"]
        cells = [_found(answers[v], np.full(len(answers[v]), absent), absent) for v in VARIANTS]
        lines.append(_line(f"healthy head {measured.healthy}, three planes", str(len(answers["fp32"])), *cells))
    return "\n".join(
        [*lines, "", "Slices with a few voxels of tumour are left out; slices of healthy heads that hold almost no head as well.", ""]
    )


def _found(logits: Floats, truth: NDArray[np.int64], absent: int) -> str:
    """Two cells: sensitivity and specificity; a dash where there is nothing to find."""
    said, is_tumour = logits.argmax(1) != absent, truth != absent
    sensitivity = f"{said[is_tumour].mean():.3f}" if is_tumour.any() else "-"
    specificity = f"{(~said[~is_tumour]).mean():.3f}" if (~is_tumour).any() else "-"
    return f"{sensitivity} | {specificity}"


def _size_and_speed(measured: Measured, manifest: Manifest) -> str:
    sizes = {v: manifest.artifacts[v].bytes for v in ("fp32", "int8")}
    lines = [
        "## Size and speed",
        "",
        f"fp32 {sizes['fp32'] / 1e6:.2f} MB, int8 {sizes['int8'] / 1e6:.2f} MB: {sizes['fp32'] / sizes['int8']:.2f} times smaller.",
        "",
    ]
    lines += [_line("threads", "batch", "fp32 ms", "int8 ms", "PyTorch ms", "fp32 / int8", "PyTorch / int8"), _rule(7)]
    for (threads, batch), seconds in measured.speed.items():
        times = [f"{seconds[v] * 1000:.1f}" for v in VARIANTS]
        ratios = [f"{seconds[v] / seconds['int8']:.2f}" for v in ("fp32", "PyTorch")]
        lines.append(_line(str(threads), str(batch), *times, *ratios))
    load = os.getloadavg()[1]
    busy = "busy with other work, so times and ratios are rough" if load > 2.5 else "otherwise idle"
    lines += ["", f"Medians of nine interleaved rounds on {os.cpu_count()} cores; the machine was {busy} (load average {load:.1f}).", ""]
    return "\n".join(lines)


def _verdict(manifest: Manifest) -> str:
    gate = manifest.gate
    if gate is None:
        return ""
    slices, agreement = int(gate.metrics["slices"]), gate.metrics["agreement"]
    lines = [
        "## The gate",
        "",
        f"{slices} slices (fold 4 and patient btp06), ONNX Runtime's answers; at most 1 % may be lost in accuracy and",
    ]
    lines += [f"in every recall: int8 is **{gate.verdict}**. Both variants name the same label on {agreement:.2%}.", ""]
    lines += [*(f"- {reason}" for reason in gate.reasons), ""] if gate.reasons else []
    return "\n".join(lines)


def _fold4(measured: Measured) -> Rows:
    return np.array([source != "volume" for source in measured.sealed.sources])


def _measure(measured: Measured, manifest: Manifest, which: str, variant: str, rows: Rows) -> dict[str, float]:
    return measure(manifest.label_names, measured.sealed.labels[rows], measured.answers[which][variant][rows].argmax(1))


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(count: int) -> str:
    return "|" + "---|" * count
