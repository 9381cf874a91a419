"""`vitalcheck verify`: a report computed again from its study, with the bundled network on the bundled phantom."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reports
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedSRStorage
from test_cli import MODEL, Shell, sh

from listener import headers
from models import registry
from pipeline import claim
from pipeline.records import Source
from scripts.make_phantom import write_study

__all__ = ["sh"]
HEAD = Path(__file__).parent.parent / "scripts" / "demo_study"


class Result:
    """A study in a folder of its own, and the reports on it."""

    def __init__(self, folder: Path) -> None:
        self.study = folder / "study"
        (self.out,) = (folder / "out").iterdir()
        self.measurements, self.summary = self.out / "measurements.dcm", self.out / "summary.dcm"
        said = claim.read(self.measurements)
        assert said is not None
        self.claim = said

    def slice(self, number: int) -> Path:
        return self.study / f"t1_{number:03d}.dcm"

    def change(self, how: Callable[[Dataset], None]) -> None:
        ds = dcmread(self.measurements)
        how(ds)
        ds.save_as(self.measurements)


def analysed(sh: Shell, folder: Path, variant: str = "auto") -> Result:
    assert sh("analyze", folder / "study", "--out", folder / "out", "--variant", variant).status == 0
    return Result(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Filled by the first test that asks: the bundled study and its reports."""
    return {"folder": tmp_path_factory.mktemp("made")}


@pytest.fixture
def result(sh: Shell, made: dict[str, Path], tmp_path: Path) -> Result:
    """A copy that a test may change."""
    folder = made["folder"]
    if not (folder / "out").exists():
        shutil.copytree(HEAD, folder / "study", ignore=shutil.ignore_patterns("*.md"))
        analysed(sh, folder)
    shutil.copytree(folder, tmp_path / "copy")
    return Result(tmp_path / "copy")


def verify(sh: Shell, result: Result, *more: str | Path) -> tuple[int, dict[str, Any]]:
    """The exit status and the checks by what they are about."""
    done = sh("verify", result.measurements, "--study", result.study, "--json", *more)
    return done.status, {line["what"]: line for line in done.lines}


def verdict(checks: dict[str, Any]) -> str:
    return str(checks["verdict"]["detail"])


def items_of(ds: Dataset, value_type: str) -> list[Any]:
    return [item for item in reports.items(ds) if item.ValueType == value_type]


def say(parameter: str, value: str) -> Callable[[Dataset], None]:
    """Changes one parameter of the algorithm."""

    def change(ds: Dataset) -> None:
        (item,) = [item for item in items_of(ds, "TEXT") if item.TextValue.startswith(parameter)]
        item.TextValue = f"{parameter} {value}".strip()

    return change


def move(points: float) -> Callable[[Dataset], None]:
    """Moves the probability of glioma."""

    def change(ds: Dataset) -> None:
        value = items_of(ds, "NUM")[0].MeasuredValueSequence[0]
        value.NumericValue = round(float(value.NumericValue) + points, 4)

    return change


def test_the_bundled_study_reproduces_exactly(sh: Shell, result: Result) -> None:
    """On the machine that made it a report is computed again with every printed number the same; a person gets a table and a verdict."""
    status, checks = verify(sh, result)
    assert (status, verdict(checks)) == (0, "reproduces exactly")
    assert {check["verdict"] for check in checks.values()} == {"ok"}
    assert checks["probability of glioma"]["report"] == checks["probability of glioma"]["here"] > 90
    assert checks["instances"]["here"] == "24 as they were read"

    told = sh("verify", result.measurements, "--study", result.study)
    assert told.status == 0
    assert told.out.splitlines()[-1] == "reproduces exactly"


@pytest.mark.parametrize(("variant", "enhanced"), [("fp32", False), ("int8", True)], ids=["fp32", "frames, int8"])
def test_other_studies_reproduce_exactly(sh: Shell, tmp_path: Path, variant: str, enhanced: bool) -> None:
    """So does fp32, and so does an Enhanced multi-frame object with its key frames."""
    write_study(tmp_path / "study", tumour="meningioma", seed=3, slices=8, size=128, enhanced=enhanced, series=["t1"])
    made = analysed(sh, tmp_path, variant)

    status, checks = verify(sh, made)

    assert (status, verdict(checks)) == (0, "reproduces exactly")
    assert checks["model"]["report"].endswith(f", {variant}")


def test_a_summary_leads_to_its_measurements(sh: Shell, result: Result) -> None:
    """Given the Summary, the Measurements of the same result are found beside it or in the study's folder; else they are asked for."""
    beside = sh("verify", result.summary, "--study", result.study)
    said = "reproduces exactly; the sentences of the Summary are not compared"
    assert (beside.status, beside.out.splitlines()[-1]) == (0, said)

    shutil.move(result.measurements, result.study / "sr.dcm")
    within = sh("verify", result.summary, "--study", result.study, "--json")
    assert within.status == 0
    assert within.lines[3]["verdict"] == "ok"  # the set: a report among the images is no part of it

    (result.study / "sr.dcm").unlink()
    alone = sh("verify", result.summary, "--study", result.study)
    assert alone.status == 2
    assert "give the Measurements of the same result" in alone.err


def test_a_summary_in_another_language_has_the_same_measurements(sh: Shell, result: Result) -> None:
    """A Summary made later in another language finds the Measurements that were there before it."""
    before = result.measurements.read_bytes()
    assert sh("analyze", result.study, "--out", result.measurements.parent.parent, "--language", "de").status == 0
    assert result.measurements.read_bytes() == before
    assert sh("verify", result.summary, "--study", result.study).status == 0


def test_a_folder_without_the_study(sh: Shell, result: Result, tmp_path: Path) -> None:
    """Nothing can be told of a folder that is empty or holds another study: one line, exit status 2."""
    (tmp_path / "empty").mkdir()
    empty = sh("verify", result.measurements, "--study", tmp_path / "empty")
    assert empty.status == 2 and "none of 0 files" in empty.err
    other = reports.study(tmp_path / "other").instances[0].path.parent
    wrong = sh("verify", result.measurements, "--study", other)
    assert wrong.status == 2 and "holds no instance of the report's study" in wrong.err


def test_a_changed_pixel(sh: Shell, result: Result) -> None:
    """An instance whose bytes are not those that were read is named by its UID, and the report does not reproduce."""
    ds = dcmread(result.slice(12))
    ds.decompress(generate_instance_uid=False)
    ds.PixelData = ds.PixelData[:65000] + b"\1" + ds.PixelData[65001:]
    ds.save_as(result.slice(12))

    status, checks = verify(sh, result)

    assert status == 1
    assert checks["instances"]["here"] == f"23 as they were read; changed: {ds.SOPInstanceUID}"
    assert checks["input set"]["verdict"] == "note"
    assert verdict(checks).startswith("does not reproduce: instances")
    assert checks["finding"]["here"]  # computed all the same, so that a person sees what it changes


def test_the_right_one_of_two_copies(sh: Shell, result: Result) -> None:
    """Where two instances with one UID lie in the folder, that which was read is taken."""
    ds = dcmread(result.slice(12))
    ds.decompress(generate_instance_uid=False)
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(result.study / "a_copy.dcm")

    assert verify(sh, result)[0] == 0


def test_a_missing_slice(sh: Shell, result: Result) -> None:
    """Instances that are not in the folder are named by UID, and nothing is computed from the rest; without any, too."""
    uid = headers.read(result.slice(7)).sop_instance_uid
    result.slice(7).unlink()
    status, checks = verify(sh, result)
    assert status == 1
    assert checks["instances"]["here"] == f"23 as they were read; missing: {uid}"
    assert verdict(checks) == "does not reproduce: instances, answer"
    assert "finding" not in checks

    for path in result.study.glob("t1_*"):
        path.unlink()
    status, checks = verify(sh, result)
    assert (status, checks["instances"]["here"][:28]) == (1, "0 as they were read; missing")


def test_more_than_was_read(sh: Shell, result: Result) -> None:
    """Other instances of the study and other studies in the folder do no harm."""
    ds = dcmread(result.slice(1))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.77"
    ds.save_as(result.study / "another.dcm")
    write_study(result.study / "deeper", seed=9, slices=3, size=64)

    status, checks = verify(sh, result)

    assert (status, verdict(checks)) == (0, "reproduces exactly")
    assert checks["input set"]["verdict"] == "note"


def test_a_probability_that_was_tampered_with(sh: Shell, result: Result) -> None:
    """A number in the report that the network does not give stands beside the one that it gives."""
    before = result.claim.probabilities["glioma"]
    result.change(move(-0.0001))

    status, checks = verify(sh, result)

    assert (status, verdict(checks)) == (1, "does not reproduce: probability of glioma")
    assert (checks["probability of glioma"]["report"], checks["probability of glioma"]["here"]) == (round(before - 0.0001, 4), before)


def test_a_finding_that_was_tampered_with(sh: Shell, result: Result) -> None:
    """The coded finding, its presence and the key instances count like the numbers."""

    def absent(ds: Dataset) -> None:
        (presence,) = [i for i in items_of(ds, "CODE") if i.ConceptNameCodeSequence[0].CodeValue == "121052"]
        presence.ConceptCodeSequence[0].CodeValue, presence.ConceptCodeSequence[0].CodeMeaning = "272519000", "Absent"
        items_of(ds, "IMAGE")[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.5"

    result.change(absent)
    status, checks = verify(sh, result)

    assert (status, verdict(checks)) == (1, "does not reproduce: presence, key instances")
    assert (checks["presence"]["report"], checks["presence"]["here"]) == ("Absent (272519000, SCT)", "Present (52101004, SCT)")


@pytest.mark.parametrize("said", ["CPU", "ONNX Runtime"])
@pytest.mark.parametrize(("points", "status"), [(-12.0, 0), (-26.0, 1)])
def test_elsewhere_a_tolerance_counts(sh: Shell, result: Result, said: str, points: float, status: int) -> None:
    """A report of another CPU or runtime reproduces within what rounding explains, which is told, and no further."""
    result.change(say(said, "of another kind"))
    result.change(move(points))

    got, checks = verify(sh, result)

    assert got == status
    assert checks[said.lower()]["verdict"] == "note"
    if status == 0:
        assert verdict(checks).startswith("reproduces: the same class, every probability within 21.5 percentage points")
    else:
        assert verdict(checks) == "does not reproduce: probability of glioma"


def test_a_report_that_does_not_say_enough(sh: Shell, result: Result) -> None:
    """One without the digests of single instances, as the release before wrote them, is held to that of the set."""
    result.change(say("instances sha256, first 16 digits of each, by ascending UID:", ""))
    assert verify(sh, result)[0] == 0

    ds = dcmread(result.slice(12))
    ds.PatientComments = "changed"
    ds.save_as(result.slice(12))
    status, checks = verify(sh, result)
    assert (status, checks["instances"]["verdict"], checks["input set"]["verdict"]) == (0, "note", "note")
    assert checks["instances"]["here"] == "24 with these UIDs; the report does not say what was in them"


def test_pixels_that_cannot_be_read_any_more(sh: Shell, result: Result) -> None:
    """What stops the computation is said, and the report does not reproduce."""
    ds = dcmread(result.slice(12))
    ds.PixelData = ds.PixelData[:100]
    ds.save_as(result.slice(12))

    status, checks = verify(sh, result)

    assert status == 1
    assert checks["answer"]["verdict"] == "WRONG" and ds.SOPInstanceUID in checks["answer"]["here"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("present", "the report is by brain_tumor_4class 1.0.0, int8 weights sha256 8888"),
        ("ct", "the report is by ct_head 0.1.0, fp32 weights sha256 cccc"),
        ("declined", "nothing was analysed"),
    ],
)
def test_another_models_report(sh: Shell, tmp_path: Path, kind: str, said: str) -> None:
    """A report whose model, version or weights are not here names those that it wants; one without an answer has nothing to verify."""
    _, documents = reports.result(tmp_path / "study", kind)
    path = reports.written(documents, tmp_path / "sr")[-1]

    done = sh("verify", path, "--study", tmp_path / "study")

    assert done.status == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1 or "file" in done.err


def test_a_model_elsewhere(sh: Shell, result: Result, tmp_path: Path) -> None:
    """--model takes a folder; where its weights are other bytes than its manifest says, that is said."""
    folder = tmp_path / "elsewhere" / MODEL
    shutil.copytree(registry.folder(MODEL), folder)
    assert verify(sh, result, "--model", f"{folder}/")[0] == 0

    variant = result.claim.parameter("variant")
    with (folder / f"model_{variant}.onnx").open("ab") as stream:
        stream.write(b"\0")
    done = sh("verify", result.measurements, "--study", result.study, "--model", f"{folder}/")
    assert done.status == 2
    assert result.claim.parameter("weights sha256") in done.err


def test_what_is_no_report_of_ours(sh: Shell, result: Result) -> None:
    """Another's SR, an image and a file that is no DICOM are refused in one line."""
    ds = dcmread(result.summary)
    ds.Manufacturer = "Another"
    ds.save_as(result.out / "another.dcm")
    (result.out / "no.dcm").write_bytes(b"no DICOM")
    for path in (result.out / "another.dcm", result.out / "no.dcm", result.slice(1)):
        done = sh("verify", path, "--study", result.study)
        assert (done.status, "no Structured Report of VitalCheck" in done.err) == (2, True)
    assert sh("verify", result.measurements, "--study", result.out / "nowhere").status == 2


def test_a_claim_holds_all_that_a_report_says(tmp_path: Path) -> None:
    """What was written into the Measurements comes back: model, parameters, finding, probabilities, key frames and region."""
    of, (summary, measurements) = reports.result(tmp_path, "frames")
    said, head = claim.parse(measurements.data), claim.parse(summary.data)
    assert said is not None and head is not None

    assert (said.kind, said.study_uid, said.name, said.version) == ("measurements", of.uid, "brain_tumor_4class", "1.0.0")
    assert (said.parameter("variant"), said.parameter("weights sha256"), said.parameter("input set sha256")) == (
        "int8",
        "8" * 64,
        of.digest,
    )
    assert (said.parameter("recipe"), said.parameter("manifest")) == (reports.MANIFEST.recipe.id, reports.MANIFEST.id)
    assert said.digests == {i.sop_instance_uid: i.sha256[:16] for i in of.instances}
    assert (said.finding, said.presence) == ("Glioma (393564001, SCT)", "Present (52101004, SCT)")
    assert list(said.probabilities.values()) == [97.0, 2.0, 1.0, 0.0]
    assert said.keys == tuple(Source(of.instances[0].sop_instance_uid, frame) for frame in (2, 3, 1))
    assert said.region == (*reports.REGION, reports.REGION[0])
    assert (head.kind, head.result, head.evidence) == ("summary", said.result, said.evidence)
    assert summary.sop_class_uid == EnhancedSRStorage
