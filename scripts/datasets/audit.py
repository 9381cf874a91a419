"""audit: what there is to learn from, and whether what is sealed is really new. Printed before every training.

    classes there? > leaks from what is learnt into what is sealed > counts > intensity by source

A leak is a patient, a block or a head on both sides. Where names do not say it, fingerprints do: they find the same picture (mirrored,
turned, squeezed, saved anew) and slices so alike that they show one head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scripts.datasets.examples import DataError, Examples
from scripts.datasets.prints import COPY, NEAR, Floats, alike, fingerprints, most_alike

Kind = Literal["one patient", "one block", "copy", "mirrored or turned copy", "one head"]
LISTED = 20  # leaks that are named; of more, the number
_BACKGROUND = 0.05  # of full scale


class Leak(NamedTuple):
    """Two slices that must not lie on both sides, or that one name on both sides holds."""

    kind: Kind
    first: int  # rows of the examples; of leaks into what is sealed, the learnt one
    second: int  # the sealed one
    likeness: float  # of the fingerprints; nan where names say it


class Leaking(DataError):
    """The split leaks: what was sealed is not new."""


def leaks(examples: Examples, prints: Floats | None = None) -> list[Leak]:
    """From what is learnt into what is sealed; the surest first. `prints`: the fingerprints of `examples`, where somebody has them."""
    sealed = examples.sealed
    sides = ["sealed" if s else "learnt" for s in sealed]
    patients = [part if source in ("volume", "dicom") else "" for part, source in zip(examples.parts, examples.sources, strict=True)]
    named = [*_on_both("one patient", patients, sealed), *_on_both("one block", examples.blocks, sealed)]
    return [*named, *(_turned(leak, sealed) for leak in likenesses(examples, sides, prints))]


def between_parts(examples: Examples) -> list[Leak]:
    """Between parts that are left out in turn: what a leave-one-out figure would owe to having seen the same head."""
    return likenesses(examples, examples.parts)


def likenesses(examples: Examples, sides: Sequence[str], prints: Floats | None = None) -> list[Leak]:
    """Pairs of slices on different `sides` that show one picture or one head, by their fingerprints alone."""
    pairs = alike(fingerprints(examples.images) if prints is None else prints, sides)
    return [Leak(_kind(pair.likeness, pair.turned), pair.first, pair.second, pair.likeness) for pair in pairs]


def strangers(examples: Examples) -> list[str]:
    """For each slice a group such that two groups cannot share a patient; "" where nobody knows.

    Two patients of volumes; a volume and a picture of Cheng's; two kinds of tumour in Cheng's collection.
    """
    words = zip(examples.sources, examples.parts, examples.labels.tolist(), strict=True)
    return [{"volume": part, "dicom": part, "figshare": f"figshare {label}"}.get(source, "") for source, part, label in words]


def _kind(likeness: float, turned: bool) -> Kind:
    if likeness < COPY:
        return "one head"
    return "mirrored or turned copy" if turned else "copy"


def _on_both(kind: Kind, names: Sequence[str], sealed: NDArray[np.bool_]) -> list[Leak]:
    """A leak for each learnt slice of a name that a sealed slice has too."""
    first_sealed: dict[str, int] = {}
    for row in np.flatnonzero(sealed).tolist():
        first_sealed.setdefault(names[row], row)
    learnt = np.flatnonzero(~sealed).tolist()
    return [Leak(kind, row, first_sealed[names[row]], float("nan")) for row in learnt if names[row] and names[row] in first_sealed]


def _turned(leak: Leak, sealed: NDArray[np.bool_]) -> Leak:
    return leak._replace(first=leak.second, second=leak.first) if sealed[leak.first] else leak


def without(examples: Examples, found: Sequence[Leak]) -> Examples:
    """Without the learnt slice of each leak. What is sealed stays whole, so no figure becomes easier."""
    keep = np.ones(len(examples), bool)
    keep[[leak.first for leak in found]] = False
    return examples.take(keep)


def audited(examples: Examples, labels: Sequence[str], strata: Sequence[str] = (), *, leave_out: bool = False) -> tuple[Examples, str]:
    """What may be learnt from and judged by, and the report. `strata`: of each slice, where somebody knows them.

    Raises DataError where a class is missing or nothing is sealed, Leaking where the split leaks: `leave_out` leaves the learnt side out.
    """
    _complete(examples, labels)
    prints = fingerprints(examples.images)
    found = leaks(examples, prints)
    page = "\n".join([report(examples, labels, strata, found), _trust(*most_alike(prints, strangers(examples)))])
    if found and not leave_out:
        raise Leaking(
            f"{page}\nThe split leaks: no figure of it could be trusted. Mend the folds, or go on without those slices: --leave-out-leaks"
        )
    return (without(examples, found) if found else examples), page


def _complete(examples: Examples, labels: Sequence[str]) -> None:
    for side, rows in (("to learn from", ~examples.sealed), ("sealed for the gate (fold 4)", examples.sealed)):
        there = set(examples.labels[rows].tolist())
        missing = [label for k, label in enumerate(labels) if k not in there]
        if missing:
            raise DataError(f"no slice of {', '.join(missing)} {side}; every class needs some: add pictures, or another fold column")


def report(examples: Examples, labels: Sequence[str], strata: Sequence[str], found: Sequence[Leak]) -> str:
    """Text of several lines: counts, intensity by source, leaks into what is sealed."""
    classes = [labels[k] for k in examples.labels]
    columns = {"class": classes, "source": examples.sources, "plane": examples.planes, **({"stratum": strata} if strata else {})}
    lines = [f"{'':24} {'learnt':>8} {'sealed':>8}", *_row("slices", np.ones(len(examples), bool), examples.sealed)]
    for title, words in columns.items():
        named = np.array(words)
        for word in sorted(set(words)):
            lines += _row(f"{title} {word}", named == word, examples.sealed)
    return "\n".join([*lines, "", *_intensity(examples), "", *_leaks(examples, found)])


def _row(title: str, rows: NDArray[np.bool_], sealed: NDArray[np.bool_]) -> list[str]:
    return [f"{title:24} {int((rows & ~sealed).sum()):8} {int((rows & sealed).sum()):8}"]


def _intensity(examples: Examples) -> list[str]:
    """By source, of what `prepare` shows: sources that differ here are what a network could tell apart instead of tumours."""
    lines = [f"{'intensity by source':24} {'head':>8} {'p5':>6} {'p50':>6} {'p95':>6} {'white':>6}"]
    sources = np.array(examples.sources)
    for source in sorted(set(examples.sources)):
        grey = examples.images[sources == source][:, ::4, ::4].astype(np.float32)
        head = grey[grey > _BACKGROUND]
        if head.size:
            low, middle, high = np.percentile(head, (5, 50, 95))
            lines.append(f"{source:24} {head.size / grey.size:8.2f} {low:6.2f} {middle:6.2f} {high:6.2f} {(head >= 1).mean():6.3f}")
    return lines


def _leaks(examples: Examples, found: Sequence[Leak]) -> list[str]:
    if not found:
        return ["No leak: no patient, no block, no copy and no head lies both in what is learnt and in what is sealed."]
    kinds = Counter(leak.kind for leak in found)
    slices = len({leak.first for leak in found})
    lines = [f"{len(found)} leaks, of {slices} learnt slices: " + ", ".join(f"{count} x {kind}" for kind, count in kinds.items())]
    for leak in found[:LISTED]:
        by = "" if np.isnan(leak.likeness) else f" ({leak.likeness:.3f})"
        lines.append(f"  {leak.kind}{by}: {_named(examples, leak.first)} | {_named(examples, leak.second)}")
    return lines + ([f"  ... and {len(found) - LISTED} more"] if len(found) > LISTED else [])


def _trust(pairs: int, greatest: float) -> str:
    if not pairs:
        return f"Slices count as one head from a likeness of {NEAR} on; no two patients are known by name to try that on."
    return f"Slices count as one head from a likeness of {NEAR} on; {pairs} pairs that cannot be one patient reach {greatest:.3f} at most."


def _named(examples: Examples, row: int) -> str:
    return f"{examples.names[row]} (part {examples.parts[row]}, block {examples.blocks[row]})"
