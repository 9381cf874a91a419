"""The gate's record: what is written is read again, digit by digit, and what is no record is said to be none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import record, registry
from models.record import Call, Record, RecordError, StudyRow

LABELS = ("glioma", "notumor")
HEAD = "file,truth,fp32_glioma,fp32_notumor,int8_glioma,int8_notumor\n"


def made(slices: int = 6) -> Record:
    rng = np.random.default_rng(0)
    logits = {v: rng.normal(size=(slices, 2)).astype(np.float32) for v in record.VARIANTS}
    truth = np.arange(slices) % 2
    words = {
        "file": [f"s, {k}.png" for k in range(slices)],
        "block": [f"b{k // 2}" for k in range(slices)],
        "stratum": ["obvious", "normal"] * (slices // 2),
        "plane": ["axial"] * slices,
    }
    calls = {v: Call("present", "glioma", 0.75) for v in record.VARIANTS}
    return Record(LABELS, "notumor", truth, logits, words, (StudyRow("one", "glioma", 20, calls),))


def same(one: Record, other: Record) -> bool:
    logits = all((one.logits[v] == other.logits[v]).all() for v in record.VARIANTS)
    words = (dict(one.words), one.studies, one.labels, one.absent) == (dict(other.words), other.studies, other.labels, other.absent)
    return logits and words and (one.truth == other.truth).all()


def test_round_trip(tmp_path: Path) -> None:
    """Slices, spoiled slices and studies come back as they were written, with every digit of the logits."""
    before = replace(made(), spoiled=replace(made(4), studies=()))
    record.write(tmp_path, before)
    after = record.read(tmp_path, LABELS, "notumor")

    assert same(before, after)
    assert before.spoiled is not None and after.spoiled is not None and same(before.spoiled, after.spoiled)


def test_what_is_missing_leaves_no_file(tmp_path: Path) -> None:
    """Files of an earlier record do not outlive it."""
    record.write(tmp_path, replace(made(), spoiled=made(4)))
    record.write(tmp_path, replace(made(), studies=()))

    assert [path.name for path in tmp_path.iterdir()] == ["gate.csv"]
    assert record.read(tmp_path, LABELS, "notumor").studies == ()


def test_units() -> None:
    """A unit is a block, or else a file, or else a slice; a slice without a block is not one with all others without."""
    found = made()
    assert len(np.unique(found.units)) == 3
    assert len(np.unique(replace(found, words={"file": found.words["file"]}).units)) == 6
    assert len(np.unique(replace(found, words={}).units)) == 6
    assert len(np.unique(replace(found, words={**found.words, "block": ["b0", "b0", "", "", "", ""]}).units)) == 5


def test_groups() -> None:
    """Every word of stratum, plane and source is a group with its own slices; the spoiled ones are the stratum artifact."""
    found = replace(made(), spoiled=made(4)).groups()

    assert sorted((by, word, len(part)) for by, word, part in found) == [
        ("plane", "axial", 6), ("stratum", "artifact", 4), ("stratum", "normal", 3), ("stratum", "obvious", 3),
    ]  # fmt: skip
    obvious = next(part for _, word, part in found if word == "obvious")
    assert list(obvious.words["file"]) == ["s, 0.png", "s, 2.png", "s, 4.png"]
    assert (obvious.logits["int8"] == made().logits["int8"][::2]).all()


def test_what_is_shipped() -> None:
    """The bundled model's record can be read, and has the slices that its manifest counts."""
    manifest = registry.read("brain_tumor_4class")
    found = record.read(registry.ZOO / manifest.name, manifest.label_names, manifest.absent)

    assert manifest.gate is not None and len(found) == manifest.gate.metrics["slices"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no rows"),
        (HEAD, "no rows"),
        ("file,truth\na,glioma\n", "'fp32_glioma'"),
        (HEAD + "a,gliom,1,2,3,4\n", "not in tuple"),
        (HEAD + "a,glioma,1,2,3\n", "columns are truth"),
        (HEAD + "a,glioma,1,2,3,x\n", "could not convert"),
        (HEAD + "\xff", "no rows|codec"),
    ],
)
def test_no_record(text: str, why: str, tmp_path: Path) -> None:
    """What is no record is one line that names the file and what is wrong."""
    (tmp_path / "gate.csv").write_text(text, encoding="latin-1")
    with pytest.raises(RecordError, match=why) as raised:
        record.read(tmp_path, LABELS, "notumor")
    assert str(raised.value).startswith(str(tmp_path / "gate.csv")) and "\n" not in str(raised.value)


def test_no_file(tmp_path: Path) -> None:
    """A missing record says how to come by one."""
    with pytest.raises(RecordError, match="No such file or directory; it comes with the model's release"):
        record.read(tmp_path, LABELS, "notumor")


def test_no_studies(tmp_path: Path) -> None:
    """A study with a label that the model does not have is refused, and the line names the file."""
    record.write(tmp_path, made())
    path = tmp_path / "gate_studies.csv"
    path.write_text(path.read_text().replace("one,glioma", "one,gliom"))
    with pytest.raises(RecordError, match="gate_studies"):
        record.read(tmp_path, LABELS, "notumor")
