"""Two patients, or two studies, under one Study Instance UID: seen, named without a value, never merged, and mended by a correction."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from objects import SECRET, dataset, instance, keep, read_headers
from pydicom.uid import EncapsulatedPDFStorage, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from listener import headers
from listener.ledger import Ledger
from listener.rows import Job
from listener.spool import Spool
from pipeline.identity import contradiction
from pipeline.records import Study

WHOLE: dict[str, Any] = {
    "IssuerOfPatientID": "here",
    "PatientBirthDate": "19800229",
    "PatientSex": "F",
    "StudyDate": "20260301",
    "AccessionNumber": "A1",
}


def study(folder: Path, *differences: dict[str, Any]) -> Study:
    """One slice for each of `differences` from `WHOLE`."""
    return headers.group([instance(folder, number=k + 1, **WHOLE | more) for k, more in enumerate(differences)])[0]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"PatientID": "B"}, "2 different Patient IDs"),
        ({"IssuerOfPatientID": "elsewhere"}, "2 different Issuers of Patient ID"),
        ({"PatientBirthDate": "19800301"}, "2 different Patient's Birth Dates"),
        ({"PatientSex": "M"}, "2 different Patient's Sexes"),
        ({"StudyDate": "20260302"}, "2 different Study Dates"),
        ({"AccessionNumber": "A2"}, "2 different Accession Numbers"),
        ({"PatientID": "", "PatientName": "Other^Name"}, "2 different Patient's Names"),
        ({"PatientID": "B", "StudyDate": "20260302"}, "2 different Patient IDs and 2 different Study Dates"),
    ],
)
def test_what_contradicts(other: dict[str, str], named: str, tmp_path: Path) -> None:
    """Each attribute that must agree is named with the number of its values, and no value of it is told."""
    said = contradiction(study(tmp_path, {}, {}, other))
    assert said is not None
    assert f"name {named}" in said
    assert not [value for value in (*other.values(), *WHOLE.values(), SECRET) if len(value) > 1 and value in said]


@pytest.mark.parametrize(
    "other",
    [
        dict.fromkeys(("PatientID", *WHOLE), ""),
        {"PatientID": "", "PatientName": ""},
        {"IssuerOfPatientID": ""},
        {"PatientName": "Married^Name"},
        {"PatientID": "", "PatientName": "geheim ^PATIENT^^"},
        {"PatientID": "", "PatientName": f"{SECRET}=山田^太郎=やまだ", "SpecificCharacterSet": "ISO_IR 192"},
        {"PatientBirthDate": "1980.02.29"},
        {"PatientBirthDate": "19800230"},
        {"PatientBirthDate": "unknown"},
        {"PatientSex": "O"},
        {"PatientSex": "f "},
        {"AccessionNumber": " A1"},
    ],
    ids=str,
)
def test_what_does_not_contradict(other: dict[str, str], tmp_path: Path) -> None:
    """What is empty, no value, or the same in another spelling contradicts nobody, in whichever order the instances come."""
    assert contradiction(study(tmp_path / "a", {}, other)) is None
    assert contradiction(study(tmp_path / "b", other, {})) is None


def test_without_an_id_the_name_is_all_there_is(tmp_path: Path) -> None:
    """Names are compared where IDs are missing: with one another, and with every name that stands beside the ID."""
    nameless, two = {"PatientID": ""}, {"PatientID": "", "PatientName": "Two^B"}
    assert contradiction(study(tmp_path / "a", nameless, two)) is not None
    assert contradiction(study(tmp_path / "b", two, two)) is None
    assert contradiction(study(tmp_path / "c", {}, {"PatientName": "Two^B"}, two)) is None
    assert contradiction(study(tmp_path / "d", {"PatientName": ""}, nameless, two)) is not None


def test_what_others_add_to_a_study(tmp_path: Path) -> None:
    """Of a secondary capture, a derived map and a PDF date and accession number do not count; whose they are does."""
    later = WHOLE | {"StudyDate": "20260305", "AccessionNumber": "B7"}
    one = study(tmp_path, {})
    added = [
        instance(tmp_path, series=2, sop_class_uid=SecondaryCaptureImageStorage, Rows=4, Columns=4, PixelData=b"\0" * 16, **later),
        instance(tmp_path, series=3, ImageType=["DERIVED", "PRIMARY", "ADC"], **later),
        instance(tmp_path, series=4, sop_class_uid=EncapsulatedPDFStorage, **later),
    ]
    assert contradiction(headers.group([*one.instances, *added])[0]) is None
    for k, alien in enumerate(added):
        other = replace(alien, headers=replace(alien.headers, patient="another"))
        assert contradiction(headers.group([*one.instances, other])[0]) is not None, k


def test_no_instances() -> None:
    """A study without instances contradicts nobody."""
    assert contradiction(Study("1.2.3", ())) is None


def test_the_ledger_keeps_digests_only(tmp_path: Path) -> None:
    """What is compared comes back from the ledger as it went in, and no name, date or number of the patient stands in its file."""
    ledger = Ledger(tmp_path)
    made = instance(tmp_path / "spool", **WHOLE | {"PatientName": "Unusual^Namely", "PatientID": "ID4711"}, SeriesDescription="")
    ledger.add(made, can_answer=True)
    kept = ledger.study("1.2.3")
    assert kept is not None
    assert kept.instances[0].headers == made.headers
    assert len(made.headers.patient_birth_date) == 16
    ledger.close()
    held = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.sqlite*"))
    assert made.headers.patient_name.encode() in held
    assert not [word for word in (b"Unusual", b"Namely", b"ID4711", b"19800229", b"20260301") if word in held]


def test_rows_of_an_older_ledger_still_load(tmp_path: Path) -> None:
    """An instance that was kept before there were these digests says nothing with them."""
    ledger = Ledger(tmp_path)
    made = instance(tmp_path / "spool", **WHOLE)
    ledger.add(replace(made, headers=made.headers), can_answer=True)
    with ledger._write() as c:
        for field in ("patient_name", "patient_birth_date", "patient_sex", "study_date", "accession_number"):
            c.exec_driver_sql(f"UPDATE instances SET headers = json_remove(headers, '$.{field}')")
    kept = ledger.study("1.2.3")
    assert kept is not None
    assert kept.instances[0].headers.patient == made.headers.patient
    assert kept.instances[0].headers.study_date == ""


class Node:
    """Receiver and ledger without their processes."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(folder)
        self.spool = Spool(folder, self.ledger, 0)
        self.scratch = folder / "scratch"

    def receive(self, number: int, *, implicit: bool = False, **more: Any) -> str:
        """As C-STORE does; what became of the instance."""
        ds = dataset(number=number, **WHOLE | {"SeriesDescription": "T1 SE", "BodyPartExamined": "HEAD"} | more)
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        return keep(self.spool, ds)[0]

    def judge(self) -> Job:
        read_headers(self.ledger)
        study = self.ledger.answering("1.2.3")
        assert study is not None
        job = self.ledger.queue(study, self.ledger.receiving()["1.2.3"], "quiet for 3 s", time.time())
        assert job is not None
        return job

    def work(self, job: Job) -> str | None:
        """As a worker does; the error of a quarantine."""
        snapshot = self.ledger.begin(job, time.time())
        assert snapshot is not None
        error = contradiction(snapshot.study)
        if error:
            self.ledger.quarantine(job, error, time.time())
        return error


def test_a_corrected_study_is_retried(tmp_path: Path) -> None:
    """Sent again with the right patient, an instance counts from `studies retry` on; the wrong one is kept aside, and both files stay."""
    node = Node(tmp_path)
    node.receive(1), node.receive(2, PatientID="WRONG")
    assert node.work(node.judge()) is not None
    assert node.work(node.ledger.retry("1.2.3", time.time())) is not None  # nothing was corrected

    assert node.receive(2) == "conflict"
    retried = node.ledger.retry("1.2.3", time.time())
    assert node.work(retried) is None
    facts = node.ledger.describe("1.2.3")
    assert [step["note"] for step in facts["history"] if step["state"] == "queued"] == ["quiet for 3 s", "retry", "retry, 1 corrected"]
    assert len(facts["kept_aside"]) == 1
    assert facts["kept_aside"][0]["sha256"] not in {held["sha256"] for held in facts["instances"]}
    kept = node.ledger.study("1.2.3")
    assert kept is not None and kept.digest == retried.digest
    assert headers.read(kept.instances[1].path).sha256 == kept.instances[1].sha256
    assert node.ledger.paths() == {path for path in (tmp_path / "spool").rglob("*.*") if path.is_file()}
    assert node.receive(2) == "duplicate"


def test_a_correction_may_come_in_another_transfer_syntax(tmp_path: Path) -> None:
    """Sent again in another transfer syntax, as a quarantine may ask for, an instance of a quarantined study counts from a retry on."""
    node = Node(tmp_path)
    node.receive(1), node.receive(2, PatientID="WRONG")
    assert node.receive(2, implicit=True, PatientID="WRONG") == "other_syntax"  # nothing is known to be wrong yet
    assert node.work(node.judge()) is not None

    assert node.receive(2, implicit=True) == "conflict"
    assert node.work(node.ledger.retry("1.2.3", time.time())) is None
    kept = node.ledger.study("1.2.3")
    assert kept is not None and kept.instances[1].transfer_syntax_uid == ImplicitVRLittleEndian


@pytest.mark.parametrize("implicit", [False, True])
def test_a_correction_comes_with_the_rest_of_its_study(tmp_path: Path, implicit: bool) -> None:
    """Sent again whole, a study is opened again by what was missing, and quarantined again with the wrong one; the right one counts."""
    node = Node(tmp_path)
    node.receive(1), node.receive(2, PatientID="WRONG")
    assert node.work(node.judge()) is not None
    assert node.receive(3) == "kept"
    assert node.receive(2, implicit=implicit) == "conflict"
    assert node.work(node.judge()) is not None
    assert node.work(node.ledger.retry("1.2.3", time.time())) is None


def test_what_was_corrected_stays_corrected(tmp_path: Path) -> None:
    """What stands aside after a correction, the wrong one and an earlier correction, comes back with no later retry."""
    node = Node(tmp_path)
    node.receive(1), node.receive(2, PatientID="WRONG")
    assert node.work(node.judge()) is not None
    for attempt in ("still wrong", "right"):
        assert node.receive(2, PatientID="WRONG" if attempt == "still wrong" else "SECRET", SeriesDescription=attempt) == "conflict"
        node.work(node.ledger.retry("1.2.3", time.time()))
    held = node.ledger.study("1.2.3").instances[1].sha256  # type: ignore[union-attr]
    node.work(node.ledger.retry("1.2.3", time.time()))
    assert node.ledger.study("1.2.3").instances[1].sha256 == held  # type: ignore[union-attr]


def test_a_late_copy_of_the_wrong_one_undoes_no_correction(tmp_path: Path) -> None:
    """Sent again after the retry that took the correction, it stands aside, whatever goes wrong with the study then."""
    node = Node(tmp_path)
    node.receive(1), node.receive(2, PatientID="WRONG")
    assert node.work(node.judge()) is not None
    assert node.receive(2) == "conflict"
    retried = node.ledger.retry("1.2.3", time.time())
    assert node.receive(2, PatientID="WRONG") == "conflict"
    node.ledger.quarantine(retried, "No space left on device", time.time())
    assert node.work(node.ledger.retry("1.2.3", time.time())) is None


def test_another_syntax_of_another_patient_is_kept(tmp_path: Path) -> None:
    """What differs in more than its transfer syntax is no copy: acknowledged, so it is kept aside."""
    node = Node(tmp_path)
    node.receive(1)
    assert node.receive(1, implicit=True) == "other_syntax"
    assert node.receive(1, implicit=True, PatientID="ANOTHER") == "conflict"
    assert len(node.ledger.describe("1.2.3")["kept_aside"]) == 1


def test_a_correction_that_is_sent_again_counts_again(tmp_path: Path) -> None:
    """The same bytes were kept aside before the quarantine; sent once more after it, they are what a retry takes."""
    node = Node(tmp_path)
    node.receive(1), node.receive(2, PatientID="WRONG")
    assert node.receive(2) == "conflict"
    assert node.work(node.judge()) is not None
    assert node.receive(2) == "conflict"
    assert node.work(node.ledger.retry("1.2.3", time.time())) is None
    assert len(node.ledger.describe("1.2.3")["kept_aside"]) == 1


def test_one_instance_in_two_studies_is_told(tmp_path: Path) -> None:
    """Both are kept, and each study names the other."""
    ledger = Ledger(tmp_path)
    spool = Spool(tmp_path, ledger, 0)
    for study in ("1.2.3", "1.2.4"):
        assert keep(spool, dataset(study, SOPInstanceUID="1.2.9"))[0] == "kept"
    assert ledger.describe("1.2.3")["also_elsewhere"] == [{"sop_instance_uid": "1.2.9", "study": "1.2.4"}]
    assert ledger.describe("1.2.4")["also_elsewhere"] == [{"sop_instance_uid": "1.2.9", "study": "1.2.3"}]


def test_what_came_before_the_quarantine_is_no_correction(tmp_path: Path) -> None:
    """Other bytes under the same UID, kept aside before anything was wrong, are not taken by a retry."""
    node = Node(tmp_path)
    node.receive(1), node.receive(2, PatientID="WRONG")
    assert node.receive(2) == "conflict"
    assert node.work(node.judge()) is not None
    assert node.work(node.ledger.retry("1.2.3", time.time())) is not None


def test_a_correction_that_is_gone_costs_nothing(tmp_path: Path) -> None:
    """Where the file of a correction has been lost, the study is retried as it is."""
    node = Node(tmp_path)
    node.receive(1), node.receive(2, PatientID="WRONG")
    node.work(node.judge())
    node.receive(2)
    for aside in (tmp_path / "spool").rglob("*.aside"):
        aside.unlink()
    assert node.work(node.ledger.retry("1.2.3", time.time())) is not None
