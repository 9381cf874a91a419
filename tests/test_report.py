"""report: what the two Structured Reports hold, and what strangers' validators say of them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import objects
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from listener import headers
from models.manifest import Artifact, DataSource, Label, Manifest
from pipeline import report
from pipeline.readable import readable
from pipeline.records import Affine, Choice, Document, Finding, Instance, PassedOver, Point, Prediction, Source, Study

NOW = datetime(2026, 3, 1, 14, 30, 15, 250_000, tzinfo=UTC)
SLICES = 4
REGION = ((20.0, 20.0), (40.0, 20.0), (40.0, 44.5), (20.0, 44.5))
MANIFEST = Manifest(
    name="brain_tumor_4class",
    version="1.0.0",
    labels=[
        Label(name="glioma", value="393564001", scheme="SCT", meaning="Glioma"),
        Label(name="meningioma", value="302820008", scheme="SCT", meaning="Intracranial meningioma"),
        Label(name="pituitary", value="127024001", scheme="SCT", meaning="Neoplasm of pituitary gland"),
        Label(name="notumor", value="281900007", scheme="SCT", meaning="No abnormality detected"),
    ],
    artifacts={
        "fp32": Artifact(file="model_fp32.onnx", sha256="f" * 64, bytes=12),
        "int8": Artifact(file="model_int8.onnx", sha256="8" * 64, bytes=3),
    },
    learned_from=[DataSource(name="BRISC 2025", licence="CC BY 4.0", citation="")],
    limits=["Gliomas that do not enhance are missed more often – see the card."],
)
FINDINGS = {
    "present": ("glioma", (0.97, 0.02, 0.0, 0.01)),
    "absent": ("notumor", (0.01, 0.02, 0.0, 0.97)),
    "unsure": ("meningioma", (0.1, 0.4, 0.1, 0.4)),
}
NAMES = {  # Specific Character Set -> a name in it (PS3.5 annexes H, I, J, K; PS3.3 C.12.1.1.2)
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 101": "Wałęsa^Łucja",
    "ISO_IR 144": "Люкceмбypг^Ия",
    "ISO_IR 126": "Διονυσιος^Νικος",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 192": "Wang^XiaoDong=王^小东",
    "GB18030": "Wang^XiaoDong=王^小东",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
}


VALID_MR = {  # what dciodvfy asks of an MR image beyond what objects.dataset writes
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "PatientSex": "F",
    "StudyDate": "20260301",
    "StudyTime": "140000",
    "AccessionNumber": "A1",
    "FrameOfReferenceUID": "2.25.13",
    "PositionReferenceIndicator": "",
    "Manufacturer": "Scanner",
    "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
    "ScanningSequence": "GR",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "MRAcquisitionType": "2D",
    "EchoTime": 10,
    "RepetitionTime": 500,
    "EchoTrainLength": 1,
    "SliceThickness": 5,
    "PatientPosition": "HFS",
}


def instance(folder: Path, number: int, *, frames: int = 0, implicit: bool = False, **attributes: Any) -> Instance:
    """One MR slice, or an Enhanced MR object of `frames` frames, written to `folder` and read back."""
    ds = objects.dataset("2.25.1", series=3, number=number, **VALID_MR | attributes)
    objects.pixels(ds, np.zeros((64, 64), np.uint16))
    if frames:
        ds.SOPClassUID, ds.NumberOfFrames, ds.PixelData = EnhancedMRImageStorage, frames, frames * ds.PixelData
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return headers.read(objects.write(folder, ds), received_at=0.0)


def study(folder: Path, **attributes: Any) -> Study:
    count = 1 if attributes.get("frames") else SLICES
    return headers.group([instance(folder, n + 1, **attributes) for n in range(count)])[0]


def make(of: Study, call: str = "present", *, region: tuple[Point, ...] = REGION, **prediction: Any) -> tuple[Document, ...]:
    """The documents for a finding of that `call`, on slices 2, 3 and 1 of the study; `declined` for none."""
    passed = (PassedOver("2.25.2", 1, "MR", "localizer"), PassedOver("2.25.4", 4, "MR", "T2-weighted, not T1-weighted"))
    if call == "declined":
        choice = Choice(None, "no T1-weighted head series: series 1 (MR): localizer", passed, expected=True)
        return report.make(of, choice, None, None, MANIFEST, NOW)
    frames = of.instances[0].headers.number_of_frames
    sources = tuple(Source(i.sop_instance_uid, k + 1 if frames > 1 else None) for i in of.instances for k in range(frames))
    label, probabilities = FINDINGS[call]
    finding = Finding(
        label=label,
        call=call,  # type: ignore[arg-type]
        probability=probabilities[MANIFEST.label_names.index(label)],
        probabilities=dict(zip(MANIFEST.label_names, probabilities, strict=True)),
        key_sources=() if call == "absent" else (sources[1], sources[2], sources[0]),
        region=region if call != "absent" else (),
    )
    zeros = np.zeros((len(sources), 4), np.float32)
    said = {"variant": "int8", "agreement": "agree", "compared": 3, **prediction}
    predicted = Prediction(sources, zeros, None, zeros[:, 0], Affine(1, 0, 0, 0, 1, 0), **said)
    choice = Choice(of.series[0], "T1-weighted head series after contrast", passed, expected=True)
    return report.make(of, choice, finding, predicted, MANIFEST, NOW)


def result(folder: Path, kind: str) -> tuple[Study, tuple[Document, ...]]:
    """A study in `folder` and the documents of one of the KINDS."""
    if kind == "differ":
        of = study(folder)
        return of, make(of, variant="fp32", agreement="differ", differing=2)
    if kind == "frames":
        of = study(folder, frames=5)
        return of, make(of)
    of = study(folder)
    return of, make(of, kind)


KINDS = ("present", "absent", "unsure", "differ", "frames", "declined")


def written(documents: tuple[Document, ...], folder: Path) -> list[Path]:
    paths = [folder / f"{document.kind}.dcm" for document in documents]
    for path, document in zip(paths, documents, strict=True):
        path.write_bytes(document.data)
    return paths


def sentences(document: Document) -> list[str]:
    return [item.TextValue for item in items(parsed(document)) if item.ValueType == "TEXT"]


def items(ds: Any) -> list[Any]:
    """All content items below `ds`, in order of reading."""
    return [item for child in ds.get("ContentSequence", []) for item in (child, *items(child))]


def parsed(document: Document) -> Any:
    return dcmread(BytesIO(document.data))


def tool(*command: str | Path) -> str:
    """What a command-line tool printed; skips where it is not installed."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", check=False, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_validators_of_every_kind_of_result(kind: str, tmp_path: Path) -> None:
    """dciodvfy and, over study and reports together, dcentvfy find no error in any kind of result, and dsrdump reads it."""
    of, documents = result(tmp_path, kind)
    paths = written(documents, tmp_path)
    for path in paths:
        assert "Error" not in tool("dciodvfy", path)
        dumped = tool("dsrdump", path)
        assert "UNVERIFIED" in dumped and "E: " not in dumped
    assert "Error" not in tool("dcentvfy", *(i.path for i in of.instances), *paths)


def test_pixelmed_finds_the_measurements_valid(tmp_path: Path) -> None:
    """PixelMed's validator finds no error in TID 1500, neither with a region (TID 1410) nor without one (TID 1501)."""
    jar = Path("/usr/share/java/pixelmed.jar")
    if shutil.which("java") is None or not jar.exists():
        pytest.skip("java or libpixelmed-java is not installed")
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # halves the time of so short a run
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]  # Java 17 forbids so long a style sheet
    running = []
    for kind in ("present", "absent"):
        folder = tmp_path / kind
        folder.mkdir()
        _, measurements = written(result(folder, kind)[1], folder)
        command = ["java", *quick, *limits, "-cp", str(jar), "com.pixelmed.validate.DicomSRValidator", str(measurements)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for process in running:
        said, _ = process.communicate(timeout=240)
        assert "Found Root Template TID_1500" in said and "IOD validation complete" in said
        assert "Error" not in said, said


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    """Made again, and from instances that arrived in another order, the documents are the same to the byte."""
    of = headers.group([instance(tmp_path, n, PatientComments=f"comment {n}") for n in (1, 2, 3)])[0]
    turned = replace(of, series=(replace(of.series[0], instances=of.series[0].instances[::-1]),))
    assert [d.data for d in make(of)] == [d.data for d in make(of)]
    assert make(of, "declined")[0].data == make(turned, "declined")[0].data


def test_another_input_variant_or_weights_gives_other_uids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UIDs hang on the set of instances, the variant, the weights and the kind of document, and lie under 2.25."""
    of = study(tmp_path)
    uids = {d.sop_instance_uid for d in (*make(of), *make(of, variant="fp32"), *make(of, "declined"))}
    fewer = replace(of, series=(replace(of.series[0], instances=of.series[0].instances[:3]),))
    uids |= {d.sop_instance_uid for d in make(fewer)}
    other = MANIFEST.model_copy(update={"artifacts": {"int8": Artifact(file="model_int8.onnx", sha256="9" * 64, bytes=3)}})
    monkeypatch.setattr("test_report.MANIFEST", other)
    uids |= {d.sop_instance_uid for d in make(of)}
    assert len(uids) == 9
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize("terms", NAMES)
def test_character_sets(terms: str, implicit: bool, tmp_path: Path) -> None:
    """Names and descriptions keep their characters and their bytes under the source's own character set."""
    name, terms_in = NAMES[terms], terms.split("\\") if "\\" in terms else terms
    of = study(tmp_path, implicit=implicit, SpecificCharacterSet=terms_in, PatientName=name, StudyDescription=name.split("=")[-1])
    for document in make(of):
        source, copy = dcmread(of.instances[0].path), parsed(document)
        assert copy.SpecificCharacterSet == source.SpecificCharacterSet
        for keyword in ("PatientName", "StudyDescription"):
            assert copy.get_item(keyword).value == source.get_item(keyword).value
        assert str(copy.PatientName) == name


def test_what_the_source_says_wrongly_survives(tmp_path: Path) -> None:
    """Text that is not in its character set and a weight that is no number are copied as they came; empty type 2 attributes stay empty."""
    wrong = {b"Doe^Jane": b"M\xfcll^J.x", b"Before": b"S\xe4ge\\-", b"DS\x02\x0070": b"DS\x02\x007,"}
    emptied = {"PatientID": "", "AccessionNumber": "", "PatientBirthDate": None}
    of = study(tmp_path, SpecificCharacterSet="ISO_IR 192", StudyDescription="Before", PatientWeight="70", **emptied)
    for one in of.instances:
        data = one.path.read_bytes()
        for right, bad in wrong.items():
            data = data.replace(right, bad)
        one.path.write_bytes(data)
    for document in (*make(of), *make(of, "declined")):
        ds = parsed(document)
        copied = [ds.get_item(keyword).value for keyword in ("PatientName", "StudyDescription", "PatientWeight")]
        assert copied == [b"M\xfcll^J.x", b"S\xe4ge\\-", b"7,"]
        assert all(keyword in ds and not ds[keyword].value for keyword in emptied)


def test_requests(tmp_path: Path) -> None:
    """The order is named as the source names it, wherever the source keeps it."""
    asked = Dataset()
    asked.RequestedProcedureID, asked.RequestedProcedureDescription, asked.AccessionNumber = "RP7", "Kopf Schädel", "A9"
    for document in make(study(tmp_path, RequestAttributesSequence=[asked])):
        (request,) = parsed(document).ReferencedRequestSequence
        assert (request.RequestedProcedureID, request.AccessionNumber, request.StudyInstanceUID) == ("RP7", "A9", "2.25.1")
        assert request.RequestedProcedureDescription == "Kopf Schädel"
        assert parsed(document).AccessionNumber == "A1"
    asked.StudyInstanceUID, asked.FillerOrderNumberImagingServiceRequest = "2.25.99", "F1"
    (request,) = parsed(make(study(tmp_path, ReferencedRequestSequence=[asked]))[0]).ReferencedRequestSequence
    assert (request.StudyInstanceUID, request.FillerOrderNumberImagingServiceRequest) == ("2.25.99", "F1")


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
        assert evidence == (set() if kind == "declined" else held)


def test_each_document_has_a_new_series(tmp_path: Path) -> None:
    """Summary and Measurements are new SR series of the source's study, one each so that viewers list both, complete and unverified."""
    summary, measurements = (parsed(document) for document in make(study(tmp_path)))
    assert len({summary.SeriesInstanceUID, measurements.SeriesInstanceUID, "2.25.1.3"}) == 3
    assert (summary.StudyInstanceUID, summary.Modality, summary.SeriesNumber, measurements.SeriesNumber) == ("2.25.1", "SR", 9001, 9002)
    assert (summary.CompletionFlag, summary.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "8" * 64 in summary.ContributingEquipmentSequence[0].ContributionDescription


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
        ("unsure", "Unsure whether there is a brain tumour (60%); if there is one, it is most likely intracranial meningioma (40%)."),
        ("differ", "The two variants of the model disagreed on 2 of 3 compared slices; fp32, the full-precision one, is reported."),
        ("frames", "Suspected glioma: see series 3, image 1, frame 2."),
        ("declined", "Not analysed, because there is no T1-weighted head series."),
        ("declined", "AI result, not verified by a physician. Research use only, not a medical device."),
    ],
)
def test_summary_says(kind: str, sentence: str, tmp_path: Path) -> None:
    """Each kind of result says in a whole sentence what it must."""
    assert sentence in sentences(result(tmp_path, kind)[1][0])


def test_no_outline_is_spoken_of_where_none_is_drawn(tmp_path: Path) -> None:
    """Without a region the Summary mentions no outline, and the Measurements hold none and a title that viewers open as text."""
    summary, measurements = make(study(tmp_path), region=())
    assert parsed(measurements).ConceptNameCodeSequence[0].CodeValue == "126001"
    assert parsed(make(study(tmp_path))[1]).ConceptNameCodeSequence[0].CodeValue == "126000"
    assert not any("outline" in sentence for sentence in sentences(summary))
    assert not any(item.ValueType == "SCOORD" for item in items(parsed(measurements)))


def test_readable(tmp_path: Path) -> None:
    """Both documents read as plain indented text, without a name of the patient."""
    summary, measurements = (readable(document.data) for document in make(study(tmp_path)))
    assert summary.startswith("AI Result, Not Verified\n  Findings\n    Brain tumour found")
    assert "      Probability of glioma: 97.0 %" in measurements.splitlines()
    assert "Doe" not in summary + measurements
