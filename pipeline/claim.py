"""claim: a Structured Report of ours, read again -> what it says was found, by what, in which instances. The way back from `report`.

Values are as printed, so that two claims can be compared number by number. What a document does not say is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from pipeline.attributes import item, items, number, numbers, text, texts
from pipeline.part10 import UNREADABLE
from pipeline.records import Kind, Point, Source

_KINDS: dict[str, Kind] = {EnhancedSRStorage: "summary", ComprehensiveSRStorage: "measurements"}
# Concepts that `report` writes (PS3.16 TID 1500, 1600, 4019), by code value.
_NAME, _VERSION, _PARAMETER = "111001", "111003", "111002"
_LIBRARY, _FINDING, _PRESENCE, _PROBABILITY = "111028", "121071", "121052", "P-"
_PROCESSING = "109102"  # CID 7005
UNVERIFIED = "AI, unverified: "  # how the name of each probability begins: OHIF shows it alone, on the image


@dataclass(frozen=True, slots=True)
class Claim:
    """What a document says. A Summary has its head only: sentences are for people."""

    kind: Kind
    sop_instance_uid: str
    study_uid: str
    result: tuple[str, ...]  # program, model with variant, weights: what both documents of one result share
    evidence: frozenset[str]  # SOP Instance UIDs that were read
    name: str = ""
    version: str = ""
    parameters: tuple[str, ...] = ()
    finding: str = ""
    presence: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)  # percent, by what they are of
    keys: tuple[Source, ...] = ()
    region: tuple[Point, ...] = ()

    @property
    def program(self) -> str:
        return self.result[0] if self.result else ""

    def parameter(self, word: str) -> str:
        """What follows `word` in the one parameter of the algorithm that begins with it."""
        return next((said[len(word) :].strip() for said in self.parameters if said.startswith(f"{word} ")), "")

    @property
    def digests(self) -> dict[str, str]:
        """The first digits of the sha256 of each instance, by SOP Instance UID; empty where the document does not hold them."""
        said = self.parameter("instances sha256,").rpartition(": ")[2].split()
        return dict(zip(sorted(self.evidence), said, strict=True)) if len(said) == len(self.evidence) else {}


def read(path: Path) -> Claim | None:
    """The claim of the document at `path`; None where that is none of ours."""
    return _claimed(path)


def parse(data: bytes) -> Claim | None:
    """The claim of a Part 10 file; None where it is none of our documents."""
    return _claimed(BytesIO(data))


def _claimed(file: Any) -> Claim | None:
    try:
        return _claim(dcmread(file, stop_before_pixels=True))
    except UNREADABLE:  # the nesting of a hostile file, too
        return None


def _claim(ds: Dataset) -> Claim | None:
    kind = _KINDS.get(text(ds, "SOPClassUID"))
    if kind is None or text(ds, "Manufacturer") != "VitalCheck" or text(ds, "ManufacturerModelName") != "VitalCheck":
        return None
    said = next((text(made, "ContributionDescription") for made in items(ds, "ContributingEquipmentSequence") if _is_ours(made)), "")
    result = (*texts(ds, "SoftwareVersions"), said)
    head = (kind, text(ds, "SOPInstanceUID"), text(ds, "StudyInstanceUID"), result, _evidence(ds))
    return Claim(*head, **(_answer(_content(ds)) if kind == "measurements" else {}))


def _is_ours(made: Dataset) -> bool:
    """Processing Equipment; the other device is the scanner."""
    purpose = item(made, "PurposeOfReferenceCodeSequence")
    return purpose is not None and text(purpose, "CodeValue") == _PROCESSING


def _evidence(ds: Dataset) -> frozenset[str]:
    return frozenset(
        text(reference, "ReferencedSOPInstanceUID")
        for study in items(ds, "CurrentRequestedProcedureEvidenceSequence")
        for series in items(study, "ReferencedSeriesSequence")
        for reference in items(series, "ReferencedSOPSequence")
    )


def _answer(content: list[Dataset]) -> dict[str, Any]:
    texts_of: dict[str, list[str]] = {}
    for each in content:
        texts_of.setdefault(_concept(each), []).append(text(each, "TextValue"))
    return {
        "name": texts_of.get(_NAME, [""])[0],
        "version": texts_of.get(_VERSION, [""])[0],
        "parameters": tuple(texts_of.get(_PARAMETER, ())),
        "finding": _coded(content, _FINDING),
        "presence": _coded(content, _PRESENCE),
        "probabilities": dict(_probability(each) for each in content if _concept(each).startswith(_PROBABILITY)),
        "keys": tuple(_source(image) for library in content if _concept(library) == _LIBRARY for image in _images(library)),
        "region": next((_points(each) for each in content if text(each, "ValueType") == "SCOORD"), ()),
    }


def _content(ds: Dataset) -> list[Dataset]:
    """All items below `ds`, in order of reading."""
    return [each for child in items(ds, "ContentSequence") for each in (child, *_content(child))]


def _concept(ds: Dataset) -> str:
    code = item(ds, "ConceptNameCodeSequence")
    return text(code, "CodeValue") if code else ""


def _coded(content: list[Dataset], concept: str) -> str:
    """The first value of a concept: meaning, code and scheme. Modifiers of the probabilities come after the finding."""
    found = (item(each, "ConceptCodeSequence") for each in content if _concept(each) == concept)
    code = next((each for each in found if each), Dataset())
    return f"{text(code, 'CodeMeaning')} ({text(code, 'CodeValue')}, {text(code, 'CodingSchemeDesignator')})"


def _probability(ds: Dataset) -> tuple[str, float]:
    name, value = item(ds, "ConceptNameCodeSequence") or Dataset(), item(ds, "MeasuredValueSequence") or Dataset()
    said = number(value, "NumericValue")
    return text(name, "CodeMeaning").removeprefix(UNVERIFIED), -1.0 if said is None else said  # no probability, so it equals none


def _images(ds: Dataset) -> list[Dataset]:
    return [each for each in _content(ds) if text(each, "ValueType") == "IMAGE"]


def _source(ds: Dataset) -> Source:
    reference = item(ds, "ReferencedSOPSequence") or Dataset()
    frame = number(reference, "ReferencedFrameNumber")
    return Source(text(reference, "ReferencedSOPInstanceUID"), None if frame is None else int(frame))


def _points(ds: Dataset) -> tuple[Point, ...]:
    values = [round(v, 2) for v in numbers(ds, "GraphicData", len(texts(ds, "GraphicData"))) or ()]  # float32 of two decimals
    return tuple(zip(values[::2], values[1::2], strict=False))
