"""A Structured Report as plain text, for a terminal: headings, sentences, coded values and numbers, indented as the content tree is."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from textwrap import wrap
from typing import Any

from pydicom import dcmread

_WIDTH = 100  # columns
_LANGUAGE = "121049"  # Language of Content Item and Descendants (TID 1204)


def readable(data: bytes) -> str:
    """The document in `data` (a Part 10 file) as text; UIDs, images, coordinates and the name of its language are left to machines."""
    return "\n".join(_lines(dcmread(BytesIO(data)), 0))


def _lines(item: Any, depth: int) -> Iterator[str]:
    """`item` and all below it, each line indented by its depth; what nothing readable comes of is passed over."""
    said, children = _said(item), item.get("ContentSequence") or []
    below = [] if item.get("ValueType") == "NUM" else [line for child in children for line in _lines(child, depth + 1)]
    if said and (below or item.get("ValueType") != "CONTAINER"):
        yield from wrap(said, _WIDTH, initial_indent="  " * depth, subsequent_indent="  " * (depth + 1))
    yield from below


def _said(item: Any) -> str:
    concept = item.ConceptNameCodeSequence[0].CodeMeaning if item.get("ConceptNameCodeSequence") else ""
    match item.get("ValueType"):
        case "CONTAINER":
            return str(concept)
        case "TEXT":  # a sentence stands for itself, a piece of context does not
            return str(item.TextValue) if item.get("RelationshipType") == "CONTAINS" else f"{concept}: {item.TextValue}"
        case "CODE" if item.ConceptNameCodeSequence[0].CodeValue != _LANGUAGE:
            return f"{concept}: {item.ConceptCodeSequence[0].CodeMeaning}"
        case "NUM":
            measured = item.MeasuredValueSequence[0]
            return f"{concept}: {measured.NumericValue} {measured.MeasurementUnitsCodeSequence[0].CodeValue}"
        case _:
            return ""
