"""What was asked for against what was measured: met, missed, or not measured yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from models.gate import allowed
from models.record import VARIANTS
from scripts.report import left_out, numbers, twin
from scripts.report.material import MADE_BY, Material, yes
from scripts.report.words import both, section, share, table

FOLD = {"accuracy": 0.97, "sensitivity": 0.99, "specificity": 0.98}
VOLUMES = {"sensitivity": 0.90, "specificity": 0.92}
HEALTHY, POINTED, AGREE, PHANTOMS = 0.98, 0.90, 0.98, 0.90
SMALLER = {twin.TWIN: 3.5, twin.RESNET: 13.0}
FASTER = {1: {twin.TWIN: 2.2, twin.RESNET: 7.0, twin.EAGER: 10.0}, 2: {twin.TWIN: 1.8, twin.RESNET: 4.5, twin.EAGER: 7.0}}


class Goal(NamedTuple):
    """One thing that was asked for."""

    what: str
    wanted: str
    measured: str
    met: bool | None  # None: not measured yet


def goals(material: Material) -> list[Goal]:
    """All of them, in the order of the report."""
    rooms = (_fold, _volumes, _patients, _healthy, _healthy_studies, _size, _speed, _not_inferior, _pointed, _phantoms)
    return [goal for room in rooms for goal in room(material)]


def part(material: Material) -> str:
    """The section."""
    found = goals(material)
    count = {word: sum(_word(goal) == word for goal in found) for word in ("met", "missed", "not measured")}
    said = f"{count['met']} met, {count['missed']} missed, {count['not measured']} not measured yet."
    rows = [[goal.what, goal.wanted, goal.measured, _marked(goal)] for goal in found]
    return section("What was asked for, and what was measured", said, table(["goal", "wanted", "measured", ""], rows))


def _word(goal: Goal) -> str:
    return "not measured" if goal.met is None else "met" if goal.met else "missed"


def _marked(goal: Goal) -> str:
    return "**missed**" if goal.met is False else _word(goal)


def _unmeasured(what: str, wanted: str, file: str) -> Goal:
    return Goal(what, wanted, f"not yet: `{MADE_BY[file]}`", None)


def _fold(material: Material) -> Iterator[Goal]:
    fold = material.fold
    found = {v: numbers.points(fold, v) for v in VARIANTS}
    for name, wanted in FOLD.items():
        values = [found[v][name] for v in VARIANTS]
        yield Goal(f"sealed fold, {len(fold)} slices: {name}", f">= {wanted}", both(*map(share, values)), min(values) >= wanted)


def _volumes(material: Material) -> Iterator[Goal]:
    what, wanted = "volumes, each patient left out: slices", " at ".join(f"{name} >= {value}" for name, value in VOLUMES.items())
    left, rows = material.left_out, left_out.patients(material.rows("leave_out_studies.csv"))
    if left is None or not rows or "volume" not in left.record.words["source"]:
        yield _unmeasured(what, wanted, "leave_out.csv" if rows else "leave_out_studies.csv")
        return
    alone, asked = numbers.points(left.where("source", "volume").record), left_out.Asked.of(rows)
    found = {"sensitivity": asked.sensitivity, "specificity": asked.specificity}
    said = f"{_at(found)} with their neighbours asked ({_at(alone)} each by itself)"
    yield Goal(what, wanted, said, all(found[key] >= value for key, value in VOLUMES.items()))


def _at(found: Mapping[str, float]) -> str:
    return f"{share(found['sensitivity'])} at {share(found['specificity'])}"


def _patients(material: Material) -> Iterator[Goal]:
    what, wanted = "volumes, each patient left out: studies", "every one present, glioma, key slice inside the tumour"
    rows = left_out.patients(material.rows("leave_out_studies.csv"))
    if not rows:
        yield _unmeasured(what, wanted, "leave_out_studies.csv")
        return
    right = sum((row["call"], row["label"]) == ("present", "glioma") for row in rows)
    inside = sum(yes(row["key_inside"]) for row in rows)
    yield Goal(what, wanted, f"{right} of {len(rows)} present and glioma, {inside} key slices inside", right == inside == len(rows))


def _healthy(material: Material) -> Iterator[Goal]:
    what, wanted, left = "healthy head left out: slices", f"specificity >= {HEALTHY}", material.left_out
    heads = left_out.by_head(material.rows("leave_out_studies.csv"))
    if left is None or not heads or "healthy" not in left.record.words["source"]:
        yield _unmeasured(what, wanted, "leave_out.csv" if heads else "leave_out_studies.csv")
        return
    alone = [numbers.points(head.record)["specificity"] for _, head in left_out.parts(left.where("source", "healthy"))]
    said = ", ".join(f"{name} {share(head.specificity)}" for name, head in heads.items())
    said += f", with their neighbours asked (each by itself {share(min(alone))} to {share(max(alone))})"
    yield Goal(what, wanted, said, min(head.specificity for head in heads.values()) >= HEALTHY)


def _healthy_studies(material: Material) -> Iterator[Goal]:
    what, wanted = "healthy head left out: study", "every one absent"
    rows = left_out.healthy(material.rows("leave_out_studies.csv"))
    if not rows:
        yield _unmeasured(what, wanted, "leave_out_studies.csv")
        return
    absent = sum(row["call"] == "absent" for row in rows)
    yield Goal(what, wanted, f"{absent} of {len(rows)} absent", absent == len(rows))


def _size(material: Material) -> Iterator[Goal]:
    for rival, wanted in SMALLER.items():
        yield _ratio(f"int8 smaller than {rival.said}", wanted, twin.smaller(material, rival))


def _speed(material: Material) -> Iterator[Goal]:
    for threads, rivals in FASTER.items():
        for rival, wanted in rivals.items():
            what = f"int8 faster than {rival.said}, {threads} thread{'s' * (threads > 1)}, batch {twin.BATCH}"
            yield _ratio(what, wanted, twin.faster(material, rival, threads))


def _ratio(what: str, wanted: float, found: float | None) -> Goal:
    if found is None:
        return _unmeasured(what, f">= {wanted:g} x", "speed.csv")
    return Goal(what, f">= {wanted:g} x", twin.times(found), found >= wanted)


def _not_inferior(material: Material) -> Iterator[Goal]:
    whole = material.judged[0]
    lines = [line for name, line in whole.lines.items() if allowed(name)]
    failed = [line.name.replace("_", " of ") for line in lines if not twin.not_inferior(line)]
    accuracy = whole.lines["accuracy"]
    said = f"not proven for {', '.join(failed)}" if failed else "proven"
    said += "" if material.record.words.get("block") else ", with slices drawn one by one"
    said += f" (accuracy {accuracy.drop:+.4f}, at most {accuracy.upper:+.4f})"
    same = sum(line.name.startswith("recall") and line.drop == line.upper == 0 for line in lines)
    said += f"; in {same} recalls no slice changed, and how much they could lose stands in the gate's remarks" if same else ""
    yield Goal("int8 not inferior to fp32", "at most 1 % lost; with 95 % confidence 1 % of accuracy, 3 % of a recall", said, not failed)
    agree = whole.agreement
    yield Goal("int8 and fp32 name the same label", f">= {AGREE}", f"{agree:.4f} of slices", agree >= AGREE)


def _pointed(material: Material) -> Iterator[Goal]:
    what, wanted, left = "evidence: strongest cell inside the widened mask", f">= {POINTED}", material.left_out
    if left is None or np.isnan(left.pointed).all():
        yield _unmeasured(what, wanted, "leave_out.csv")
        return
    value = left_out.pointed(left).value
    yield Goal(what, wanted, f"{value:.3f} of {int((~np.isnan(left.pointed)).sum())} tumour slices left out", value >= POINTED)


def _phantoms(material: Material) -> Iterator[Goal]:
    rows = material.rows("phantoms.csv")
    if not rows:
        yield _unmeasured("phantoms recognised", f">= {PHANTOMS}", "phantoms.csv")
        return
    of = {v: [row for row in rows if row["variant"] == v] for v in VARIANTS}
    met = all(np.mean([yes(row["right"]) for row in found]) >= PHANTOMS for found in of.values() if found)
    yield Goal("phantoms recognised", f">= {PHANTOMS}", both(*(twin.recognised(of[v]) for v in VARIANTS)), bool(met))
