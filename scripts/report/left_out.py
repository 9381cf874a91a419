"""The report on heads from elsewhere: parts left out of training in turn, whole studies, the ablation, and where the evidence points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from models.tables import Estimate
from scripts.report import numbers
from scripts.report.material import PATIENTS, LeftOut, Material, Rows, missing, number, yes
from scripts.report.words import NONE, picture, ranged, section, share, table

SLICES = ("slices", "with tumour", "of these found", "others, false")
KINDS = {"volume": "patients", "healthy": "healthy"}
ENOUGH = 20  # slices; a part below it is measured, and not called the worst


def sections(material: Material) -> list[str]:
    """All of them."""
    return [_parts(material), _lessons(material), _studies(material), _false(material), _ablation(material), _pointing(material)]


def parts(left: LeftOut) -> Iterator[tuple[str, LeftOut]]:
    """(name, slices) of every part, in the order of their names."""
    for name in sorted(set(left.record.words["part"])):
        yield (f"fold {name}" if name.isdigit() else name), left.where("part", name)


def class_right(left: LeftOut) -> float:
    """Share of the tumour slices found whose class is right; nan where none was found."""
    record = left.record
    said = record.logits["fp32"].argmax(1)
    found = (record.truth != record.clear) & (said != record.clear)
    return float((said == record.truth)[found].mean()) if found.any() else float("nan")


def worst(left: LeftOut) -> tuple[str, float]:
    """(part, accuracy) of the part that is read worst."""
    found = [(numbers.points(part.record)["accuracy"], name) for name, part in parts(left) if len(part.record) >= ENOUGH]
    found = found or [(numbers.points(part.record)["accuracy"], name) for name, part in parts(left)]
    accuracy, name = min(found)
    return name, accuracy


def patients(rows: Rows) -> Rows:
    """Studies that are whole volumes of patients."""
    return [row for row in rows if row["kind"] == "volume"]


def healthy(rows: Rows) -> Rows:
    """Studies that are healthy heads."""
    return [row for row in rows if row["kind"] == "healthy"]


class Asked(NamedTuple):
    """Slices of studies as the study rule counts them, their neighbours asked."""

    tumour: int
    found: int
    clear: int
    false: int

    @classmethod
    def of(cls, rows: Rows) -> Asked:
        tumour, found, slices, false = (sum(int(row[key]) for row in rows) for key in ("tumour_slices", "found", "slices", "false"))
        return cls(tumour, found, slices - tumour, false)

    @property
    def sensitivity(self) -> float:
        return self.found / self.tumour if self.tumour else float("nan")

    @property
    def specificity(self) -> float:
        return 1 - self.false / self.clear if self.clear else float("nan")


def by_head(rows: Rows) -> dict[str, Asked]:
    """Healthy studies, all planes and networks together: head -> its slices."""
    heads: dict[str, list[Mapping[str, str]]] = {}
    for row in healthy(rows):
        heads.setdefault(row["study"].rsplit(" ", 1)[0], []).append(row)
    return {head: Asked.of(found) for head, found in sorted(heads.items())}


def called_right(row: Mapping[str, str], absent: str) -> bool:
    """Whether the study rule says what is true."""
    return (row["call"], row["label"]) == ("absent" if row["truth"] == absent else "present", row["truth"])


def _parts(material: Material) -> str:
    title, left = "Left out in turn", material.left_out
    if left is None:
        return section(title, missing("leave_out.csv"))
    rows = [[name, str(len(part.record)), *_told(part)] for name, part in parts(left)]
    name, accuracy = worst(left)
    said = (
        "Each part was read by a network (fp32, trained as what serves, but for its teachers) that never saw it; a slice stands in each\n"
        "part that it was left out with, healthy heads that nobody learnt once for each network. Class right: of\n"
        f"the tumour slices found, those with the right tumour. **The worst part is {name}: {accuracy:.3f} of its labels are right.**"
    )
    head = ["part", "slices", "accuracy", "sensitivity", "specificity", "class right"]
    return section(title, said, _taught(material.rows("leave_out.csv")), table(head, rows), _reached(left), _confused(left))


def _taught(rows: Rows) -> str:
    """How many others that had left out the same taught each run's network further, and what was added to each label's evidence."""
    ways: dict[tuple[str, str], list[str]] = {}
    for run, teachers, added in dict.fromkeys((row["run"], row["teachers"], row["added"]) for row in rows):
        ways.setdefault((teachers, added), []).append(run)
    told = [[", ".join(runs), teachers, added] for (teachers, added), runs in sorted(ways.items(), reverse=True)]
    return table(["runs", "other networks that taught theirs", "added to the labels' evidence"], told)


def _told(part: LeftOut) -> list[str]:
    found = numbers.numbers(part.record)
    return [ranged(found["accuracy"]), ranged(found["sensitivity"]), ranged(found["specificity"]), share(class_right(part))]


def _reached(left: LeftOut) -> str:
    """The same by kind of head: pictures, patients' volumes, healthy heads."""
    kinds = [(source, left.where("source", source)) for source in sorted(set(left.record.words["source"]))]
    rows = [[source, str(len(part.record)), *_told(part)] for source, part in kinds]
    return "By source:\n\n" + table(["source", "slices", "accuracy", "sensitivity", "specificity", "class right"], rows)


def _lessons(material: Material) -> str:
    title, rows = "Another beginning, and what the lesson is worth", material.rows("lessons.csv")
    if not rows:
        return section(title, missing("lessons.csv")) if material.manifest.taught_by else ""
    columns = ("accuracy", "sensitivity", "specificity", "class_right")
    told = [[row["run"], row["part"], row["network"], row["slices"], *(share(number(row[c])) for c in columns)] for row in _by_part(rows)]
    said = (
        "The same training, begun from another seed: how far two networks that learnt the same differ on what neither saw is how little\n"
        "the last digits of this report mean. Then the first of them, taught further by the others, with more added to its evidence,\n"
        "as the table above tells."
    )
    return section(title, said, table(["run", "part", "network", "slices", *(c.replace("_", " ") for c in columns)], told))


def _by_part(rows: Rows) -> Rows:
    """The networks of one part below each other."""
    order = {key: k for k, key in enumerate(dict.fromkeys((row["run"], row["part"]) for row in rows))}
    return sorted(rows, key=lambda row: order[row["run"], row["part"]])


def _confused(left: LeftOut) -> str:
    """What is called what, by kind of head."""
    kinds = {"pictures": left.of_pictures(), "web": left.where("part", "web"), "volume": left.where("source", *PATIENTS)}
    names, rows = left.record.labels, []
    for kind, part in kinds.items():
        counts = numbers.matrix(part.record, "fp32")
        rows += [[kind, name, *map(str, counts[k])] for k, name in enumerate(names) if counts[k].any()]
    said = "And what was called what (rows: the truth; web: tumours of another origin alone):\n\n"
    return said + table(["source", "truth", *(f"called {name}" for name in names)], rows) if rows else ""


def _studies(material: Material) -> str:
    title, rows, absent = "Whole studies left out", material.rows("leave_out_studies.csv"), material.manifest.absent
    if not rows:
        return section(title, missing("leave_out_studies.csv"))
    told = [
        [row["study"], row["truth"], *_slices(row), f"{row['call']} {row['label']}", row["probability"], _inside(row), _dice(row["dice"])]
        for row in patients(rows)
    ]
    said = (
        "The study rule on every volume of a patient, by a network that never saw it. Slices are counted as `analyze --json` names them\n"
        "(`suspect_instances`): with their neighbours asked, for a tumour goes on there and a false cell does not."
    )
    head = ["study", "truth", *SLICES, "called", "probability", "key slice inside", "Dice"]
    return section(title, said, table(head, told), _heads(healthy(rows)), _parts_of_heads(rows, absent))


def _slices(row: Mapping[str, str]) -> list[str]:
    return [row["slices"], row["tumour_slices"], row["found"], row["false"]]


def _heads(rows: Rows) -> str:
    """Each plane of each healthy head, counted over the networks that never saw it."""
    studies: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        studies.setdefault(row["study"], []).append(row)
    told = []
    for study, found in studies.items():
        calls, asked = Counter(row["call"] for row in found), Asked.of(found)
        counts = (len(found), *(calls[call] for call in ("absent", "unsure", "present")), asked.clear, asked.false)
        told.append([study, *map(str, counts)])
    said = "And on healthy heads in each plane, once for each network that never saw them:\n\n"
    return said + table(["study", "networks", "absent", "unsure", "present", "slices", "of these false"], told) if told else ""


def _inside(row: Mapping[str, str]) -> str:
    return NONE if not row["key_inside"].strip() else "yes" if yes(row["key_inside"]) else "**no**"


def _dice(word: str) -> str:
    return share(number(word))


def _parts_of_heads(rows: Rows, absent: str) -> str:
    """Runs of neighbouring slices, counted by what was true."""
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if row["kind"] == "run":
            groups.setdefault(row["truth"], []).append(row)
    told = []
    for truth, here in sorted(groups.items()):
        right, unsure = sum(called_right(row, absent) for row in here), sum(row["call"] == "unsure" for row in here)
        told.append([truth, str(len(here)), str(right), str(unsure), str(len(here) - right - unsure)])
    said = (
        "Runs of neighbouring slices taken as studies. Those without tumour are stretches of patients' volumes in which nobody drew one;\n"
        "what is seen there need not be healthy, after surgery say.\n\n"
    )
    return said + table(["truth", "runs", "right", "unsure", "wrong"], told) if told else ""


def _false(material: Material) -> str:
    """Which slices without tumour are called one, by their place in the head."""
    title, rows = "Where healthy slices look ill", material.rows("false_cells.csv")
    if not rows:
        return section(title, missing("false_cells.csv"))
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for row in rows:
        counts.setdefault((row["kind"], row["plane"], row["third"]), Counter())[row["said"]] += int(row["slices"])
    told = [
        [KINDS[kind], *place, str(said.total()), *(str(said[name]) for name in material.tumours)] for (kind, *place), said in counts.items()
    ]
    said = (
        "Slices in which nobody drew a tumour and that the network calls one, each by itself, by the third of the head that they lie in:\n"
        "of whole heads that were left out. In the picture a circle is a place and a label, the larger the more slices are called so,\n"
        f"over a slice through the middle of the head that ships. {_most(rows)}"
    )
    head = ["heads", "plane", "third", "slices", *(f"called {name}" for name in material.tumours)]
    return section(title, said, picture("false", "Where in the head slices without tumour are called one"), table(head, told))


def _most(rows: Rows) -> str:
    """Whose head looks ill most often."""
    by: Counter[str] = Counter()
    for row in rows:
        by[row["part"]] += int(row["slices"]) * bool(row["said"])
    [(part, count)] = by.most_common(1)
    return f"Of {by.total()} such slices {count} are of one head, {part}." if count else "There are none."


def _ablation(material: Material) -> str:
    title, rows = "What each idea is worth", material.rows("ablation.csv")
    if not rows:
        return section(title, missing("ablation.csv"))
    columns = [c for c in ("accuracy", "sensitivity", "specificity", "class_right", "pointed") if c in rows[0]]
    told = [[row["configuration"], row["part"], row["slices"], *(share(number(row[c])) for c in columns)] for row in rows]
    said = (
        "The training of 1.5.0, shortened to four epochs, with one thing changed, on what all of these networks left out: fold 3, two\n"
        "patients, tumours of another origin, Colin 27 and heads that nothing learns (scripts/ablation.py).\n"
        "An epoch has as many steps as the slices fill, so what takes slices away shortens it, too: without phantoms a third of the steps\n"
        "is gone, without healthy heads, phantoms among them, more than half. Each row is one training; another beginning would move it,\n"
        "too. Trained with the kernels that the footnote names."
    )
    return section(title, said, table(["configuration", "part", "slices", *(c.replace("_", " ") for c in columns)], told))


def _pointing(material: Material) -> str:
    title, left = "Where the evidence points", material.left_out
    if left is None or np.isnan(left.pointed).all():
        return section(title, missing("leave_out.csv"))
    rows = [[name, *_hits(part)] for name, part in parts(left) if not np.isnan(part.pointed).all()]
    said = (
        "Pointing game on tumour slices left out: does the strongest cell of the true label lie in the mask, widened by 5 mm?\n"
        "Dice: all evidence above 0 of the true label, against the mask (1 is the same, 0 is apart). Regions that are reported are\n"
        "smaller: their Dice stands with the studies above."
    )
    rows.append(["all", *_hits(left)])
    return section(title, said, table(["part", "slices", "pointed inside", "Dice, mean", "Dice, median"], rows))


def _hits(left: LeftOut) -> list[str]:
    asked, dice = ~np.isnan(left.pointed), left.dice[~np.isnan(left.dice)]
    middle = [share(float(dice.mean())), share(float(np.median(dice)))] if dice.size else [NONE, NONE]
    return [str(int(asked.sum())), ranged(pointed(left)), *middle]


def pointed(left: LeftOut) -> Estimate:
    """Share of the slices asked whose strongest cell lies inside."""
    asked = ~np.isnan(left.pointed)
    return numbers.mean(left.record.take(asked), left.pointed[asked])
