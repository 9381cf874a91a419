"""report: what the two Structured Reports hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reports import FINDINGS, GAP, KINDS, MANIFEST, REGION, instance, items, make, parsed, result, sentences, study

from listener import headers
from models.manifest import Artifact, StudyRule
from pipeline.records import (
    AS_STORED,
    Geometry,
)
from scripts.readable import readable


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    """Made again, and from instances that arrived in another order, the documents are the same to the byte."""
    of = headers.group([instance(tmp_path, n, PatientComments=f"comment {n}") for n in (1, 2, 3)])[0]
    turned = replace(of, series=(replace(of.series[0], instances=of.series[0].instances[::-1]),))
    assert [d.data for d in make(of)] == [d.data for d in make(of)]
    assert make(of, "declined")[0].data == make(turned, "declined")[0].data


def test_another_input_variant_manifest_or_weights_gives_other_uids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UIDs hang on the set of instances, the variant, the weights, the manifest and the kind of document, and lie under 2.25."""
    of = study(tmp_path)
    uids = {d.sop_instance_uid for d in (*make(of), *make(of, variant="fp32"), *make(of, "declined"))}
    fewer = replace(of, series=(replace(of.series[0], instances=of.series[0].instances[:3]),))
    uids |= {d.sop_instance_uid for d in make(fewer)}
    other = MANIFEST.model_copy(update={"artifacts": {"int8": Artifact(file="model_int8.onnx", sha256="9" * 64, bytes=3)}})
    monkeypatch.setattr("reports.MANIFEST", other)
    uids |= {d.sop_instance_uid for d in make(of)}
    monkeypatch.setattr("reports.MANIFEST", other.model_copy(update={"rule": StudyRule(present=0.5)}))
    uids |= {d.sop_instance_uid for d in make(of)}
    assert len(uids) == 11
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_date_and_time_are_the_callers(tmp_path: Path) -> None:
    """Dates and times are `now`, told on the clock of the source where it names one."""
    ds = parsed(make(study(tmp_path))[0])
    assert (ds.ContentDate, ds.ContentTime, ds.SeriesDate) == ("20260301", "143015.250000", "20260301")
    ds = parsed(make(study(tmp_path, TimezoneOffsetFromUTC="+1000"))[0])
    assert (ds.ContentDate, ds.ContentTime, ds.TimezoneOffsetFromUTC) == ("20260302", "003015.250000", "+1000")


@pytest.mark.parametrize("kind", KINDS)
def test_references_stay_within_the_study(kind: str, tmp_path: Path) -> None:
    """Every reference names an instance of the study that was analysed, and the evidence holds all of these."""
    of, documents = result(tmp_path, kind)
    held = {i.sop_instance_uid for i in of.instances}
    for document in documents:
        ds = parsed(document)
        named = {ref.ReferencedSOPInstanceUID for item in items(ds) for ref in item.get("ReferencedSOPSequence", [])}
        evidence = {
            ref.ReferencedSOPInstanceUID
            for study_item in ds.get("CurrentRequestedProcedureEvidenceSequence", [])
            for series in study_item.ReferencedSeriesSequence
            for ref in series.ReferencedSOPSequence
        }
        assert named <= evidence
        assert evidence == (set() if kind.endswith("declined") else held)


def test_each_document_has_a_new_series(tmp_path: Path) -> None:
    """Summary and Measurements are new SR series of the source's study, one each so that viewers list both, complete and unverified."""
    summary, measurements = (parsed(document) for document in make(study(tmp_path)))
    assert len({summary.SeriesInstanceUID, measurements.SeriesInstanceUID, "2.25.1.3"}) == 3
    assert (summary.StudyInstanceUID, summary.Modality, summary.SeriesNumber, measurements.SeriesNumber) == ("2.25.1", "SR", 9001, 9002)
    assert (summary.CompletionFlag, summary.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "8" * 64 in summary.ContributingEquipmentSequence[-1].ContributionDescription


@pytest.mark.parametrize(
    ("kind", "finding", "presence"),
    [("present", "393564001", "52101004"), ("absent", "108369006", "272519000"), ("unsure", "302820008", "373068000")],
)
def test_measurements_hold_the_finding(kind: str, finding: str, presence: str, tmp_path: Path) -> None:
    """The coded finding, its presence and each label's probability stand in the Measurements as they were given, in percent."""
    ds = parsed(result(tmp_path, kind)[1][1])
    group = next(i for i in items(ds) if i.ConceptNameCodeSequence[0].CodeMeaning == "Measurement Group")
    said = {i.ConceptNameCodeSequence[0].CodeMeaning: i for i in group.ContentSequence}
    assert said["Finding"].ConceptCodeSequence[0].CodeValue == finding
    assert said["Presence of property"].ConceptCodeSequence[0].CodeValue == presence
    numbers = {
        n.ContentSequence[0].ConceptCodeSequence[0].CodeValue: float(n.MeasuredValueSequence[0].NumericValue)
        for n in group.ContentSequence
        if n.ValueType == "NUM"
    }
    assert numbers == pytest.approx({label.value: 100 * p for label, p in zip(MANIFEST.labels, FINDINGS[kind][1], strict=True)})


@pytest.mark.parametrize(("kind", "uid", "frame"), [("present", "2.25.1.3.2", None), ("frames", "2.25.1.3.1", 2)])
def test_the_region_is_drawn_on_the_key_slice(kind: str, uid: str, frame: int | None, tmp_path: Path) -> None:
    """The region is a closed polyline in pixels of the first key image, or of its frame."""
    ds = parsed(result(tmp_path, kind)[1][1])
    region = next(i for i in items(ds) if i.ValueType == "SCOORD")
    points = np.array(region.GraphicData).reshape(-1, 2)
    assert region.GraphicType == "POLYLINE"
    np.testing.assert_allclose(points, [*REGION, REGION[0]])
    (reference,) = region.ContentSequence[0].ReferencedSOPSequence
    assert (reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")) == (uid, frame)


def test_the_region_stays_on_the_image(tmp_path: Path) -> None:
    """Corners beyond the edge of the image, which the padding to a square allows, are drawn on the edge."""
    ds = parsed(make(study(tmp_path), region=((-3.0, 10.0), (70.0, 10.0), (30.0, 80.0)))[1])
    drawn = np.array(next(i for i in items(ds) if i.ValueType == "SCOORD").GraphicData).reshape(-1, 2)
    np.testing.assert_allclose(drawn, [(0, 10), (64, 10), (30, 64), (0, 10)])


def test_summary_says_the_finding_first(tmp_path: Path) -> None:
    """The first sentence is the finding with its certainty in word and number, the next says where to look."""
    said = sentences(make(study(tmp_path))[0])
    assert said[0] == "Brain tumour found, certainty high (99%): most likely glioma (97%)."
    assert said[1] == "Best seen on series 3, image 2; then images 3 and 1."


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("present", "AI result, not verified by a physician. Research use only, not a medical device."),
        ("present", "Not read: series 4 (MR): T2-weighted, not T1-weighted."),
        ("present", f"Model brain_tumor_4class 1.0.0, variant int8 (8-bit), weights sha256 {'8' * 64}."),
        ("present", "The two variants of the model, int8 and fp32, gave the same answer on 3 of 3 compared slices."),
        ("present", "Gliomas that do not enhance are missed more often - see the card."),
        ("present", "The model learned from BRISC 2025 (CC BY 4.0)."),
        ("present", "The probabilities are the model's own; they are not calibrated on whole studies."),
        ("absent", "No brain tumour found, certainty high (97%)."),
        ("unsure", "Unsure whether there is a brain tumour (probability 60%); if there is one, most likely intracranial meningioma (40%)."),
        ("differ", "The two variants of the model disagreed on 2 of 3 compared slices; fp32, the full-precision one, is reported."),
        ("frames", "Suspected glioma: see series 3, image 1, frame 2."),
        ("declined", "Not analysed, because there is no T1-weighted head series."),
        ("declined", "AI result, not verified by a physician. Research use only, not a medical device."),
        ("declined", "The model brain_tumor_4class 1.0.0 reads only T1-weighted MR series of the head."),
        ("present", "The outline on that image shows where the model sees its evidence; it is not the border of a brain tumour."),
        ("present", "The model read series 3 (MR, 4 slices): T1-weighted head series after contrast."),
        (
            "odd",
            "The model read series 3 (MR, 4 coronal slices 6.0 mm apart, 15 degrees oblique): T1-weighted head series after contrast.",
        ),
        ("odd", GAP),
        ("revised", "This result replaces an earlier one of 2 instances of the study; it was made from 4."),
        ("no map", "This model shows no place within an image: it names slices and draws no outline."),
        (
            "unlike",
            "The pictures are unlike those that the model learned from (brightness inside the head and contrast inside the head): "
            "read this result with caution.",
        ),
        ("ct", "Intracranial haemorrhage found, certainty moderate (90%)."),
        ("ct", "Other possibilities: no haemorrhage 10%."),
        ("ct", "Suspected intracranial haemorrhage: see series 3, image 2."),
        ("ct", "The model knows only intracranial haemorrhage: any other disease is neither found nor excluded."),
        ("ct absent", "No intracranial haemorrhage found, certainty high (over 99%)."),
        ("ct absent", "The AI saw no sign of intracranial haemorrhage."),
        ("ct unsure", "Unsure whether there is an intracranial haemorrhage (probability 50%)."),
        ("ct unsure", "An intracranial haemorrhage is neither found nor excluded: see series 3, image 2."),
        ("ct declined", "The model ct_head 0.1.0 reads only CT series of the head."),
    ],
)
def test_summary_says(kind: str, sentence: str, tmp_path: Path) -> None:
    """Each kind of result says in a whole sentence what it must."""
    assert sentence in sentences(result(tmp_path, kind)[1][0])


@pytest.mark.parametrize("kind", ["ct", "ct absent", "ct unsure", "ct declined"])
def test_nothing_of_another_model_is_said(kind: str, tmp_path: Path) -> None:
    """The documents of a CT model speak neither of tumours nor of MR; its codes are its own."""
    documents = result(tmp_path, kind)[1]
    said = "\n".join(readable(document.data) for document in documents).replace("Not read: series", "")
    lines = [line for line in said.splitlines() if not line.strip().startswith(("1 (MR)", "4 (MR)"))]
    assert not [line for line in lines if "umour" in line or "eoplasm" in line or "MRI" in line or "glioma" in line]
    if len(documents) == 2:
        held = {i.ConceptCodeSequence[0].CodeValue for i in items(parsed(documents[1])) if i.ValueType == "CODE"}
        assert {"25045-6", "1386000", "1101003"} <= held
        assert not {"25056-3", "108369006"} & held


@pytest.mark.parametrize(
    ("geometry", "told"),
    [
        (Geometry(), "4 slices"),
        (Geometry("axial", 4.9, AS_STORED, 6.04), "4 axial slices 6.0 mm apart"),
        (Geometry("sagittal", 5.0, AS_STORED, None), "4 sagittal slices, 5 degrees oblique"),
    ],
)
def test_how_the_slices_lie(geometry: Geometry, told: str, tmp_path: Path) -> None:
    """The Summary says plane, distance and obliquity where they are known."""
    assert any(f"(MR, {told})" in sentence for sentence in sentences(make(study(tmp_path), geometry=geometry)[0]))
    assert Geometry("axial", between=5.0).told(1) == "1 axial slice"


def test_what_is_odd_comes_first_of_the_limitations(tmp_path: Path) -> None:
    """A gap is named before what holds for every study, and how the slices were turned stands with the algorithm."""
    summary, measurements = result(tmp_path, "odd")[1]
    (limitations,) = (i for i in items(parsed(summary)) if i.ConceptNameCodeSequence[0].CodeMeaning == "Limitations")
    assert limitations.ContentSequence[0].TextValue == GAP
    parameters = [i.TextValue for i in items(parsed(measurements)) if i.ConceptNameCodeSequence[0].CodeValue == "111002"]
    assert parameters[-1] == "slices coronal, 15.2 degrees oblique, turned for the network: transposed, columns reversed"
    as_stored = [i.TextValue for i in items(parsed(make(study(tmp_path))[1])) if i.ConceptNameCodeSequence[0].CodeValue == "111002"]
    assert as_stored[-1].endswith("turned for the network: as stored")


def test_no_outline_is_spoken_of_where_none_is_drawn(tmp_path: Path) -> None:
    """Without a region the Summary mentions no outline, and the Measurements hold none and a title that viewers open as text."""
    summary, measurements = make(study(tmp_path), region=())
    assert parsed(measurements).ConceptNameCodeSequence[0].CodeValue == "126001"
    assert parsed(make(study(tmp_path))[1]).ConceptNameCodeSequence[0].CodeValue == "126000"
    assert not any("outline" in sentence for sentence in sentences(summary))
    assert not any(item.ValueType == "SCOORD" for item in items(parsed(measurements)))


def test_a_model_without_a_map_says_so(tmp_path: Path) -> None:
    """Only of a model without evidence maps, and where there is something to look for, the Summary says that no place is shown."""
    of = study(tmp_path)
    told = {(call, maps is None): sentences(make(of, call, region=(), evidence=maps)[0]) for call in ("present", "unsure", "absent")
            for maps in (None, np.zeros((4, 4, 1, 1), np.float32))}  # fmt: skip
    said = {what for what, each in told.items() if any("shows no place" in sentence for sentence in each)}
    assert said == {("present", True), ("unsure", True)}


def test_readable(tmp_path: Path) -> None:
    """Both documents read as plain indented text, without a name of the patient."""
    summary, measurements = (readable(document.data) for document in make(study(tmp_path)))
    assert summary.startswith("AI Result, Not Verified\n  Findings\n    Brain tumour found")
    assert "      AI, unverified: glioma: 97.0 %" in measurements.splitlines()
    assert "Doe" not in summary + measurements


def test_the_institution_is_that_of_our_device(tmp_path: Path) -> None:
    """Whose node it is stands with our device alone, spelt as the source's character set can; another name is another document."""
    of = study(tmp_path, InstitutionName="Elsewhere", SpecificCharacterSet="ISO_IR 100")
    ours, nobodys = make(of, institution="Klinikum Köln"), make(of)
    for document, other in zip(ours, nobodys, strict=True):
        ds = parsed(document)
        scanner, us = ds.ContributingEquipmentSequence
        assert (ds.InstitutionName, us.InstitutionName, scanner.InstitutionName) == ("Klinikum Köln", "Klinikum Köln", "Elsewhere")
        assert ds.AuthorObserverSequence[0].InstitutionName == "Klinikum Köln"
        assert "InstitutionName" not in parsed(other) and document.sop_instance_uid != other.sop_instance_uid
    greek = study(tmp_path / "b", SpecificCharacterSet="ISO_IR 126")
    assert parsed(make(greek, institution="Klinikum Köln")[0]).InstitutionName == "Klinikum Koeln"
    assert parsed(make(greek, institution=64 * "ü")[0]).InstitutionName == 32 * "ue"
