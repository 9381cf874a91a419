"""trial: what an imported model is set up with and judged by, from material on disk.

    divided: which blocks calibrate, which judge | calibration: slices to find int8's ranges with | judged: both variants, the verdict

Without labels fp32's own answers are the truth: then the gate asks whether int8 may answer in its place, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from listener import material
from listener.material import Block, Decoder, NoMaterial
from models import gate, golden, record
from models.foreign import Unusable
from models.manifest import GateVerdict, Manifest, sha256
from models.record import VARIANTS, Call, Record, StudyRow
from models.runtime import Floats, Outputs, Session
from pipeline.aggregate import aggregate
from pipeline.records import Batch, Prediction, Variant

CALIBRATED = 200  # slices: 100 to 500 are usual, and every one costs a run of fp32 that keeps all its tensors
AT_ONCE = 8  # of them
_NOTHING = np.zeros((0, 1, 1, 1), np.float32)


class Judged(NamedTuple):
    verdict: GateVerdict | None  # None without int8
    remarks: tuple[str, ...]


class _Answers(NamedTuple):
    """What both variants said of one block."""

    block: Block
    batch: Batch  # without its tensor: hundreds of studies would take all memory
    outputs: dict[Variant, Outputs]


def divided(calibration: Path | None, truth: Path | None, labels: Sequence[str]) -> tuple[list[Block], list[Block]]:
    """Blocks to calibrate and blocks to judge with; nothing does both. Without `truth` every other one judges. Raises NoMaterial."""
    judging = material.labelled(truth, labels) if truth else []
    if calibration is None:
        return [], judging
    found = material.unlabelled(calibration)
    if truth:
        names = {block.name for block in judging}
        calibrating = [block for block in found if block.name not in names]
    else:
        calibrating, judging = found[::2], found[1::2]
    if not calibrating or not judging:
        why = "all of it judges (--truth) too" if truth else "one study or picture only, and half of them calibrate, the others judge"
        raise NoMaterial(f"{calibration}: {why}; give more")
    return calibrating, judging


def calibration(blocks: Sequence[Block], manifest: Manifest, decoder: Decoder) -> list[Floats]:
    """At most CALIBRATED slices, evenly from all blocks, in batches. Raises NoMaterial."""
    share = -(-CALIBRATED // len(blocks))
    asked = [blocks[row] for row in _evenly(len(blocks), CALIBRATED)]
    picked = [_spread(batch.tensor, share) for _, batch in material.prepared(asked, manifest, decoder, "calibration")]
    if not picked:
        raise NoMaterial("none of the calibration material can be read by the model; what was skipped says why")
    slices = _spread(np.concatenate(picked), CALIBRATED)
    return [slices[k : k + AT_ONCE] for k in range(0, len(slices), AT_ONCE)]


def _spread(tensor: Floats, most: int) -> Floats:
    return np.asarray(tensor[_evenly(len(tensor), most)], np.float32)


def _evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` rows, from the first to the last."""
    return [int(row) for row in np.linspace(0, count - 1, min(most, count)).round()]


def judged(
    folder: Path, manifest: Manifest, sessions: Mapping[Variant, Session], blocks: Sequence[Block], decoder: Decoder, tolerance: float
) -> Judged:
    """The gate's verdict on what `sessions` say of `blocks`, its record in `folder`. Raises NoMaterial, NetworkError, Unusable.

    `tolerance` (logits) is what rounding explains between batch sizes.
    """
    answers = [
        _Answers(block, replace(batch, tensor=_NOTHING), {variant: session.run(batch.tensor) for variant, session in sessions.items()})
        for block, batch in material.prepared(blocks, manifest, decoder, "judging")
    ]
    if not answers:
        raise NoMaterial("none of the material to judge with can be read by the model; what was skipped says why")
    _check_maps(answers, manifest)
    if "int8" not in sessions:
        return Judged(None, (_fp32_alone(answers, manifest),) if blocks[0].label else ())
    found = _record(answers, manifest)
    record.write(folder, found)
    verdict = _verdict(found, folder, manifest, sessions, tolerance)
    return Judged(verdict, _told(found, verdict, labelled=bool(blocks[0].label)))


def _check_maps(answers: Sequence[_Answers], manifest: Manifest) -> None:
    """Findings are made of the map and slices are judged by the logits, so that both have to say the same. Raises Unusable."""
    said = [(a.outputs["fp32"].logits.argmax(1), a.outputs["fp32"].evidence) for a in answers]
    if any(maps is None for _, maps in said):
        return
    if not all(np.isfinite(maps).all() for _, maps in said if maps is not None):
        raise Unusable(f"{manifest.name}: its map holds what is no number; export it so that none overflows, or leave --map out")
    other = sum(int((labels != _pooled(maps, manifest).argmax(1)).sum()) for labels, maps in said if maps is not None)
    if other > (count := sum(len(labels) for labels, _ in said)) / 2:
        why = f"its map names another label than its logits on {other} of {count} slices, and would decide"
        raise Unusable(f"{manifest.name}: {why}; leave --map out, or export it without an output called evidence")


def _pooled(maps: Floats, manifest: Manifest) -> Floats:
    """(slice, label): the strongest cells against the absent label, as the study rule weighs them."""
    cells = maps.reshape(*maps.shape[:2], -1)
    relative = cells - cells[:, manifest.label_names.index(manifest.absent), None]
    return np.asarray(np.sort(relative, axis=2)[..., -manifest.rule.strongest_cells :].mean(2), np.float32)


def _verdict(found: Record, folder: Path, manifest: Manifest, sessions: Mapping[Variant, Session], tolerance: float) -> GateVerdict:
    fp32, int8 = (sha256(folder / f"model_{variant}.onnx") for variant in VARIANTS)
    image, today = golden.many(manifest.recipe), datetime.now(UTC).date()
    batches = {variant: golden.batches(session, image) for variant, session in sessions.items()}
    temperature = manifest.rule.temperature
    return gate.judge(found, digests=(fp32, int8), on=today, batches=batches, temperature=temperature, tolerance=tolerance)


def _record(answers: Sequence[_Answers], manifest: Manifest) -> Record:
    """Row by row and study by study; names are digests."""
    words: dict[str, Sequence[str]] = {
        "file": [f"{a.block.name}/{k}" for a in answers for k in range(1, len(a.batch.sources) + 1)],
        "block": [a.block.name for a in answers for _ in a.batch.sources],
        "plane": [a.batch.geometry.plane for a in answers for _ in a.batch.sources],
        "source": [a.block.name.partition("-")[0] for a in answers for _ in a.batch.sources],
    }
    logits = {variant: np.concatenate([a.outputs[variant].logits for a in answers]) for variant in VARIANTS}
    truth = np.concatenate([_truth(a, manifest) for a in answers])
    studies = tuple(_study(a, manifest) for a in answers)
    return Record(manifest.label_names, manifest.absent, truth, logits, words, studies)


def _truth(answers: _Answers, manifest: Manifest) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(slice,): the block's label, or what fp32 says."""
    logits = answers.outputs["fp32"].logits
    if answers.block.label:
        return np.full(len(logits), manifest.label_names.index(answers.block.label), np.int64)
    return np.asarray(logits.argmax(1), np.int64)


def _study(answers: _Answers, manifest: Manifest) -> StudyRow:
    calls = {variant: _call(answers, variant, manifest) for variant in VARIANTS}
    return StudyRow(answers.block.name, answers.block.label or calls["fp32"].label, len(answers.batch.sources), calls)


def _call(answers: _Answers, variant: Variant, manifest: Manifest) -> Call:
    """The study rule's finding, as in service."""
    batch, outputs = answers.batch, answers.outputs[variant]
    where = {"sources": batch.sources, "head_area": batch.head_area, "to_source": batch.to_source, "geometry": batch.geometry}
    told = {"variant": variant, "agreement": "not compared", "compared": 0, "differing": 0, "recipe_id": batch.recipe_id}
    finding = aggregate(Prediction(logits=outputs.logits, evidence=outputs.evidence, **where, **told), manifest)  # type: ignore[arg-type]
    return Call(finding.call, finding.label, float(finding.probability))


def _fp32_alone(answers: Sequence[_Answers], manifest: Manifest) -> str:
    truth = np.concatenate([_truth(a, manifest) for a in answers])
    said = np.concatenate([a.outputs["fp32"].logits.argmax(1) for a in answers])
    return f"fp32 is right on {int((truth == said).sum())} of {len(truth)} slices."


def _told(found: Record, verdict: GateVerdict, *, labelled: bool) -> tuple[str, ...]:
    same = int((found.logits["fp32"].argmax(1) == found.logits["int8"].argmax(1)).sum())
    by = "by their labels" if labelled else "by fp32's own answers, for nobody says what they show"
    count = f"{len(found)} slices of {len(found.studies)} studies and pictures"
    judged = f"Judged on {count}, {by}: both variants say the same on {same}."
    alone = ("Each picture counted as independent of the others, as if of another patient.",) if _pictures(found) else ()
    said = (judged, *alone, *(f"  remark: {remark}" for remark in verdict.remarks))
    if verdict.verdict == "APPROVED":
        return (*said, "int8 is APPROVED.")
    return (*said, *(f"  {reason}" for reason in verdict.reasons), "int8 is REJECTED, for these reasons: fp32 answers.")


def _pictures(found: Record) -> bool:
    return "picture" in found.words["source"]
