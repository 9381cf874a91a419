"""choose, over series as scanners of Siemens, GE, Philips and Canon describe them.

scanner_series.csv: one series a row, times in ms, values separated by a backslash as in DICOM. Its `source` names the repository of
neurolabusc on GitHub (or another) whose sidecar files hold these facts of a real scan; "names only": the name is real, the rest as
that scanner writes it; "own": after the vendors' conventions and the standard, no scan behind it. "renamed" is a real series whose
description says nothing.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from models import registry
from pipeline.choose import choose
from pipeline.records import Headers, Instance, Series, Study

TABLE = Path(__file__).with_name("scanner_series.csv")
MANIFEST = registry.read("brain_tumor_4class")
TUPLES = ("image_type", "scanning_sequence", "sequence_variant")
NUMBERS = ("echo_time", "repetition_time", "inversion_time", "diffusion_b_value")
FLAGS = ("angio", "echo_planar")
BESIDE = ("vendor", "model", "source", "expected")


def rows() -> list[dict[str, str]]:
    with TABLE.open(newline="") as stream:
        return list(csv.DictReader(stream))


def headers(row: dict[str, str]) -> Headers:
    given: dict[str, Any] = {key: value for key, value in row.items() if key not in BESIDE}
    given |= {key: tuple(row[key].split("\\")) if row[key] else () for key in TUPLES}
    given |= {key: float(row[key]) if row[key] else None for key in NUMBERS}
    given |= {key: row[key] == "Y" for key in FLAGS}
    return Headers(**given, series_number=1, rows=256, columns=256, samples_per_pixel=1, photometric_interpretation="MONOCHROME2")


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['vendor']} {row['model']} {row['series_description']} {row['expected']}")
def test_series_of_scanners(row: dict[str, str]) -> None:
    """A T1-weighted head is read, and everything else is passed over with the true reason, which repeats nothing of its description."""
    h = headers(row)
    instance = Instance("1.2", "1.2.1", "1.2.1.1", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1", Path("x"), 1, "0", 0.0, h)
    choice = choose(Study("1.2", (Series("1.2.1", (instance,)),)), MANIFEST)

    got = "read" if choice.series else choice.passed_over[0].reason
    assert got.startswith(row["expected"]), got
    assert not h.series_description or h.series_description in ("mosaic", "localizer", "Screen Save") or h.series_description not in got
