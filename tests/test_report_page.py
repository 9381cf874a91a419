"""docs/reports.md names what the documents hold."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from reports import KINDS, items, make, parsed, result, study

from pipeline import inherited

PAGE = (Path(__file__).parent.parent / "docs" / "reports.md").read_text()
CODES = re.compile(r"`([\w-]+ (?:DCM|SCT|LN|99VITALCHECK))`")


def test_every_attribute_is_named(tmp_path: Path) -> None:
    """The page names each attribute that a document may have, and none that it has not."""
    asked = Dataset()
    asked.RequestedProcedureID = "RP7"
    held = set(inherited._COPIED)
    documents = [document for kind in KINDS for document in result(tmp_path / kind, kind)[1]]
    for document in (*documents, *make(study(tmp_path, RequestAttributesSequence=[asked]))):
        held |= {element.keyword for element in parsed(document)}
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row) if tag_for_keyword(name)]
    assert sorted(named) == sorted(held)


def test_every_concept_is_named(tmp_path: Path) -> None:
    """The page names each concept of the two content trees, and none that there is not."""
    parts = PAGE.split("## Content of the Summary")
    named = {"measurements": set(CODES.findall(parts[0])), "summary": set(CODES.findall(parts[1]))}
    held: dict[str, set[str]] = {"measurements": set(), "summary": set()}
    for kind in KINDS:
        for document in result(tmp_path / kind, kind)[1]:
            root = parsed(document)
            concepts = (item.ConceptNameCodeSequence[0] for item in (root, *items(root)) if "ConceptNameCodeSequence" in item)
            held[document.kind] |= {f"{concept.CodeValue} {concept.CodingSchemeDesignator}" for concept in concepts}
    held["measurements"] = {concept for concept in held["measurements"] if not concept.startswith("P-")}
    assert named == held
