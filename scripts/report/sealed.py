"""The report on what was sealed: numbers with intervals, confusion matrices, strata, planes, sources, studies, calibration."""

from __future__ import annotations

from collections.abc import Sequence

from models.measures import fit_temperature, softmax
from models.record import VARIANTS, Record, StudyRow
from models.tables import Table, Tally, is_right, studies, table
from scripts.report import numbers, words
from scripts.report.material import Material
from scripts.report.words import both, picture, ranged, section, share

MAIN = ("accuracy", "sensitivity", "specificity")
BY_SLICE = "The record names no blocks, so the intervals draw slices one by one and are too narrow."
BY_BLOCK = "Intervals are 95 %, from a bootstrap that draws whole blocks (one patient, as far as one knows) again."


def sections(material: Material) -> list[str]:
    """All of them."""
    return [_slices(material), _confusion(material.fold), _groups(material.judged[1:]), _studies(material.record), _calibration(material)]


def _slices(material: Material) -> str:
    fold, patient = material.fold, numbers.of_source(material.record, "volume")
    found = table(fold, temperature=material.manifest.rule.temperature)
    lines = [*_rows("sealed fold", found, MAIN), *(_rows("sealed patient, volumes", table(patient), MAIN) if len(patient) else [])]
    names = [f"{kind}_{label}" for label in fold.labels for kind in ("recall", "precision", "f1", "auc")]
    return section(
        f"The sealed slices: {len(fold)} of the fold, {len(patient)} of a patient's volumes",
        "Sensitivity: a tumour's slice gets a tumour's label, whichever. Specificity: a slice without tumour gets none.\n"
        f"{BY_BLOCK if material.record.words.get('block') else BY_SLICE}",
        words.table(["", "", *VARIANTS], lines),
        "The fold, class by class and by scores (AUC and AP: areas under the ROC and the precision-recall curve of tumour against none):",
        words.table(["", *VARIANTS], [row[1:] for row in _rows("", found, ("balanced_accuracy", *names, "auc", "ap", "ece", "brier"))]),
        picture("roc", "ROC and precision of tumour against none, of what was sealed and what was left out of training"),
    )


def _rows(title: str, found: Table, names: Sequence[str]) -> list[list[str]]:
    lines = [found.lines[name] for name in names if name in found.lines]
    return [[title, _said(line.name), ranged(line.fp32), ranged(line.int8)] for line in lines]


def _said(name: str) -> str:
    if name == "balanced_accuracy":
        return "balanced accuracy"
    kind, _, label = name.partition("_")
    kind = {"f1": "F1", "auc": "AUC", "ap": "AP", "ece": "calibration error", "brier": "Brier score"}.get(kind, kind)
    return f"{label}, {kind}" if label else kind


def _confusion(fold: Record) -> str:
    fp32, int8 = (numbers.matrix(fold, v) for v in VARIANTS)
    rows = [[truth, *(f"{fp32[k, j]} / {int8[k, j]}" for j in range(len(fold.labels)))] for k, truth in enumerate(fold.labels)]
    said = "Rows are the truth, columns what was said: slices of the sealed fold, fp32 / int8."
    plot = picture("confusion", "Confusion matrices of fp32 and int8")
    return section("What was taken for what", said, words.table(["", *fold.labels], rows), plot)


def _groups(found: Sequence[Table]) -> str:
    title = "By stratum, plane and source"
    if not found:
        return section(title, "Not measured yet: this record names files only; the next training says more.")
    head = ["", "", "slices", "blocks", *(f"{v} {name}" for name in MAIN for v in VARIANTS)]
    said = (
        "Of all that was sealed. Obvious and subtle are tumours, by size and contrast of the mask; normal is no tumour;\n"
        "artifact is every slice once more, spoiled: ghosts, bias field, low resolution, noise, clipping."
    )
    return section(title, said, words.table(head, [_group(part) for part in found]))


def _group(part: Table) -> list[str]:
    cells = [ranged(estimate) for name in MAIN for estimate in (part.lines[name].fp32, part.lines[name].int8)]
    return [part.by, part.word, str(part.slices), str(part.blocks), *cells]


def _studies(record: Record) -> str:
    title = "The sealed studies"
    if not record.studies:
        return section(title, "Not measured yet: this record holds no studies; the next training judges them.")
    head = ["truth", "studies", "same call", *(f"{v} {what}" for v in VARIANTS for what in ("right", "present", "unsure", "absent"))]
    rows = [[part.truth, str(part.studies), str(part.same), *_tally(part.fp32), *_tally(part.int8)] for part in studies(record)]
    said = (
        "Right: called present with the label of the truth, or absent where there is no tumour; unsure never is. Intervals are Wilson's.\n"
        "Only the volumes of the sealed patient are as new as the slices above: healthy heads were looked at for choices."
    )
    return section(title, said, words.table(head, rows), _not_right(record))


def _tally(tally: Tally) -> list[str]:
    return [ranged(tally.right), *map(str, tally[1:])]


def _not_right(record: Record) -> str:
    rows = [row for row in record.studies if not all(is_right(row, v, record.absent) for v in VARIANTS)]
    if not rows:
        return ""
    return "Those that are not right:\n\n" + words.table(["study", "truth", "slices", *VARIANTS], map(_called, rows))


def _called(row: StudyRow) -> list[str]:
    calls = [row.calls[v] for v in VARIANTS]
    return [row.study, row.truth, str(row.slices), *(f"{c.call} {c.label} {c.probability:.2f}" for c in calls)]


def _calibration(material: Material) -> str:
    fold, rule, left = material.fold, material.manifest.rule.temperature, material.left_out
    best = both(*(f"{fit_temperature(fold.logits[v], fold.truth):.2f}" for v in VARIANTS))
    surest = both(*(share(float(softmax(fold.logits[v], rule).max(1).mean())) for v in VARIANTS))
    lines = [
        f"On the sealed fold the network is on average so sure of its answers: {surest}. How often it is right stands above.",
        f"The study rule divides scores by a temperature of {rule:.2f}, and so does this page. The temperature that would suit",
        f"these slices best is {best}; nothing was set by it, for these slices are sealed.",
    ]
    if left is not None:
        lines.append(f"On slices left out of training it is {fit_temperature(left.record.logits['fp32'], left.record.truth):.2f} (fp32).")
    plot = picture("reliability", "Reliability of fp32 and int8")
    return section("Do the probabilities mean anything?", "\n".join(lines), plot)
