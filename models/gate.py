"""The gate: may int8 answer in place of fp32? Only where it is proven, on slices nobody learnt from, that it is not worse.

    a record | both variants measured, with a paired bootstrap over blocks | what int8 loses against what it may | APPROVED or REJECTED

Non-inferior is: of accuracy and of every label's recall at most 1 % lost as measured, and with 95 % confidence at most 1 % of accuracy
and 3 % of a recall. Pure: arrays in, verdict out. The logits it judges are ONNX Runtime's (torch's own int8 agrees with them on 98-99 %).

Where the variants differ on no slice no draw differs either, and the bound is 0 however little was judged: hence FEWEST, and a remark
that says how many of other blocks could differ all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date
from typing import NamedTuple

import numpy as np

from models.manifest import GateVerdict
from models.record import VARIANTS, Record, Variant
from models.tables import Line, Table, is_right, table
from models.tables import studies as studies  # callers take it from here
from models.tables import tables as tables

MAX_DROP = 0.01  # of accuracy and of every recall, as measured: the claim of the text this project grew from
MAX_UPPER = {"accuracy": 0.01, "recall": 0.03}  # with 95 % confidence; of one label there are fewer slices
FEWEST = 20  # blocks: with fewer of them drawn again a bootstrap says too little about others (Cameron et al. 2008: it fails below 5 to 30)
BATCH_TOLERANCE = (
    0.25  # logits: rounding may move an int8 map by a few of its steps; a slice that sees its neighbours moves by whole logits
)
_EPSILON = 1e-9  # so that a drop of exactly 1 % passes in floating point
_ALONE = ("precision", "f1", "ece", "brier")  # these stand in the manifest without an interval, areas of single labels not at all


class Batched(NamedTuple):
    """One batch size against one by one (golden.batches measures it)."""

    off: float  # largest |logit difference|
    same: float  # share of slices that get the same label


Batches = Mapping[Variant, Mapping[int, Batched]]  # by variant, by slices at once


def judge(
    record: Record,
    *,
    digests: tuple[str, str],
    on: date,
    batches: Batches | None = None,
    temperature: float = 1.0,
    tolerance: float = BATCH_TOLERANCE,
) -> GateVerdict:
    """The verdict on int8.

    `digests` are the sha256 of fp32 and int8; `temperature` divides logits before they become probabilities; `tolerance` (logits) is what
    rounding explains between batch sizes, the golden vectors' one say.
    """
    whole = table(record, temperature=temperature)
    reasons = [
        *_unusable(record, whole),
        *_unjudged(record),
        *_lost(whole),
        *_other_findings(record),
        *_depends_on_batch(batches or {}, tolerance),
    ]
    return GateVerdict(
        verdict="REJECTED" if reasons else "APPROVED",
        reasons=reasons,
        remarks=[*_unproven(record, whole.blocks), *_worse_groups(record), *_other_calls(record)],
        judged=on.isoformat(),
        fp32_sha256=digests[0],
        int8_sha256=digests[1],
        metrics={key: round(float(value), 6) for key, value in _metrics(record, whole, batches or {}).items() if math.isfinite(value)},
    )


def allowed(name: str) -> tuple[float, float] | None:
    """How much int8 may lose of a number: as measured, and with 95 % confidence; None where that decides nothing."""
    kind = name.partition("_")[0]
    return (MAX_DROP, MAX_UPPER[kind]) if kind in MAX_UPPER else None


def _unusable(record: Record, whole: Table) -> Iterator[str]:
    if whole.blocks < FEWEST:
        yield f"blocks: {whole.blocks} (patients, studies or pictures) are too few to prove that little is lost, {FEWEST} at least"
    for variant in VARIANTS:
        if wrong := int((~np.isfinite(record.logits[variant])).any(1).sum()):
            yield f"logits: {variant}'s are not finite on {wrong} of {len(record)} slices"


def _unjudged(record: Record) -> Iterator[str]:
    """int8 may lose a whole label that nobody asked about."""
    for k, label in enumerate(record.labels):
        if not (record.truth == k).any():
            yield f"recall_{label}: no slice of it was judged"


def _lost(whole: Table) -> Iterator[str]:
    """One reason for each number that falls too far."""
    for name, line in whole.lines.items():
        if limits := allowed(name):
            yield from _too_much(line, *limits)


def _too_much(line: Line, drop: float, upper: float) -> Iterator[str]:
    said = f"{line.name}: int8 {line.int8.value:.4f} against fp32 {line.fp32.value:.4f}"
    if line.drop > drop + _EPSILON:
        yield f"{said}, {line.drop:.2%} lost, at most {drop:.0%} is allowed"
    elif line.upper > upper + _EPSILON:
        yield f"{said}, {line.drop:.2%} lost and up to {line.upper:.2%} with 95 % confidence, at most {upper:.0%} is allowed"


def _depends_on_batch(batches: Batches, tolerance: float) -> Iterator[str]:
    for variant, sizes in batches.items():
        for size, (off, same) in sizes.items():
            if not off <= tolerance or same < 1 - MAX_DROP - _EPSILON:
                yield (
                    f"batch: {size} slices at once move {variant}'s logits by up to {off:.3f} (at most {tolerance:g} is rounding) "
                    f"and leave {same:.0%} of the labels"
                )


def _other_findings(record: Record) -> Iterator[str]:
    """What int8 finds otherwise, where every block was called as a study: an import does so, for there a foreign map may decide."""
    if not record.studies or {row.study for row in record.studies} != set(record.words.get("block", ())):
        return
    other = sum(row.calls["fp32"][:2] != row.calls["int8"][:2] for row in record.studies)
    if other > MAX_DROP * len(record.studies) + _EPSILON:
        yield f"findings: int8 finds otherwise than fp32 in {other} of {len(record.studies)}, at most {MAX_DROP:.0%} is allowed"


def _unproven(record: Record, every: int) -> Iterator[str]:
    """Numbers whose bound promises less than it seems to: nothing differed, so that no draw could, or few of `every` block have it."""
    right = {v: record.logits[v].argmax(1) == record.truth for v in VARIANTS}
    asked = {"accuracy": record.truth >= 0} | {f"recall_{label}": record.truth == k for k, label in enumerate(record.labels)}
    for name, rows in asked.items():
        blocks = len(np.unique(record.units[rows]))
        if blocks and (right["fp32"] == right["int8"])[rows].all():
            yield f"{name}: no difference seen; with 95 % confidence up to {1 - 0.05 ** (1 / blocks):.1%} of blocks could differ"
        elif 0 < blocks < min(FEWEST, every):
            yield f"{name}: {blocks} blocks only, its bound promises little"


def _worse_groups(record: Record) -> Iterator[str]:
    """Groups of FEWEST blocks or more that lose what a recall may not lose: other scanners show a drop first."""
    for by, word, part in record.groups():
        right = {v: part.logits[v].argmax(1) == part.truth for v in VARIANTS}
        drop = float(right["fp32"].mean() - right["int8"].mean())
        if drop > MAX_UPPER["recall"] + _EPSILON and len(np.unique(part.units)) >= FEWEST:
            yield f"{by} {word}: int8 loses {drop:.2%} of accuracy on its {len(part)} slices"


def _other_calls(record: Record) -> Iterator[str]:
    """Studies that fp32 calls right and int8 does not; few are judged, so that they prove nothing, and everybody should know."""
    lost = [row for row in record.studies if is_right(row, "fp32", record.absent) and not is_right(row, "int8", record.absent)]
    if lost:
        calls = ", ".join(f"{row.study} ({row.truth}: {row.calls['int8'].call} {row.calls['int8'].label})" for row in lost[:5])
        more = ", ..." if len(lost) > 5 else ""
        yield f"studies: int8 calls {len(lost)} of {len(record.studies)} wrong that fp32 calls right: {calls}{more}"


def _metrics(record: Record, whole: Table, batches: Batches) -> dict[str, float]:
    """The numbers that the manifest keeps; the others are in tables()."""
    found = {"slices": float(whole.slices), "blocks": float(whole.blocks), "agreement": whole.agreement}
    for name, line in whole.lines.items():
        if not name.startswith(("auc_", "ap_")):
            found |= _told(line)
    if record.studies:
        found["studies"] = float(len(record.studies))
        found |= {f"{v}_studies_right": float(sum(is_right(row, v, record.absent) for row in record.studies)) for v in VARIANTS}
    return found | {f"{v}_batch_{size}_off": one.off for v, sizes in batches.items() for size, one in sizes.items()}


def _told(line: Line) -> dict[str, float]:
    found = {}
    for variant, estimate in zip(VARIANTS, (line.fp32, line.int8), strict=True):
        found[f"{variant}_{line.name}"] = estimate.value
        if not line.name.startswith(_ALONE):
            found |= {f"{variant}_{line.name}_low": estimate.low, f"{variant}_{line.name}_high": estimate.high}
    if allowed(line.name):
        found |= {f"drop_{line.name}": line.drop, f"drop_{line.name}_upper": line.upper}
    return found
