"""CONFORMANCE.md says what the program does."""

from __future__ import annotations

import re

import pytest
from pydicom.uid import MRImageStorage

from listener import contexts
from scripts.conformance import FILE, TABLES, rewritten


def test_the_tables_are_up_to_date() -> None:
    """Every table is what `python -m scripts.conformance` makes of contexts and limits now."""
    text = FILE.read_text()
    assert rewritten(text) == text, "run python -m scripts.conformance"


def test_every_context_has_its_row() -> None:
    """Each SOP class and transfer syntax that is accepted stands in the statement, and so does MR as one that can be analysed."""
    told = set(re.findall(r"`([\d.]+)`", FILE.read_text()))
    assert {*contexts.STORAGE, *contexts.RETIRED, *map(str, contexts.TRANSFER_SYNTAXES)} <= told
    assert f"| MR Image Storage | `{MRImageStorage}` | yes |" in FILE.read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_its_place_is_named(name: str) -> None:
    """A statement that lost the markers of a table is refused by that table's name."""
    with pytest.raises(ValueError, match=f"the table {name};"):
        rewritten(FILE.read_text().replace(f"<!-- {name} -->", ""))
