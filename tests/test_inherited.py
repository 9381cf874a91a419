"""inherited: what reports have from their source, however it is written and however odd."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)
from reports import make, parsed, study, tool, written

from listener import headers
from pipeline.inherited import NoSource


def test_what_a_patient_is_known_by_stays_as_it_came(tmp_path: Path) -> None:
    """A name that is not in its character set and an ID that is too long are copied to the byte; empty type 2 attributes stay empty."""
    emptied = {"StudyID": "", "AccessionNumber": "", "PatientBirthDate": None}
    of = study(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientID="9" * 80, **emptied)
    for one in of.instances:
        one.path.write_bytes(one.path.read_bytes().replace(b"Doe^Jane", b"M\xfcll^J.x"))
    for document in (*make(of), *make(of, "declined")):
        ds = parsed(document)
        assert [ds.get_item(keyword).value for keyword in ("PatientName", "PatientID")] == [b"M\xfcll^J.x", b"9" * 80]
        assert all(keyword in ds and not ds[keyword].value for keyword in emptied)


def test_what_can_be_in_no_name_becomes_a_blank(tmp_path: Path) -> None:
    """An archive that refuses it has no reason to refuse the report; the ID, by which it finds the patient, stays to the byte."""
    of = study(tmp_path, PatientID="ID_12345")
    for one in of.instances:
        one.path.write_bytes(one.path.read_bytes().replace(b"Doe^Jane", b"D\re^J\\n\0").replace(b"ID_12345", b"ID\n12345"))
    for document in (*make(of), *make(of, "declined")):
        ds = parsed(document)
        assert [ds.get_item(keyword).value for keyword in ("PatientName", "PatientID")] == [b"D e^J n ", b"ID\n12345"]


def test_a_backslash_within_a_character_stays(tmp_path: Path) -> None:
    """In GB 18030 and after an escape of ISO 2022 its byte is half of another character."""
    for k, (terms, name) in enumerate({"GB18030": "誠".encode("gb18030"), "\\ISO 2022 IR 87": b"\x1b$B@\\\x1b(B"}.items()):
        of = study(tmp_path / str(k), SpecificCharacterSet=terms.split("\\"))
        assert b"\\" in name
        for one in of.instances:
            one.path.write_bytes(one.path.read_bytes().replace(b"Doe^Jane", name.ljust(8)))
        assert parsed(make(of)[0]).get_item("PatientName").value == name.ljust(8)


ODD = {  # by keyword: bytes that are no value of the attribute, of the length of eight valid ones
    "PatientBirthDate": b"unknown!",
    "PatientSex": b"male    ",
    "StudyDate": b"2026-3-1",
    "StudyTime": b"14:00:61",
    "TimezoneOffsetFromUTC": b"+9999   ",
    "PatientAge": b"45 years",
    "PatientWeight": b"70,5    ",
    "PatientSize": b"NaN     ",
    "StudyDescription": b"one\\two ",
    "PatientComments": b"bell \x07  ",
    "IssuerOfPatientID": b"a\x00b\x1f    ",
    "LastMenstrualDate": b"20260231",
    "ClinicalTrialSponsorName": b"a\\b     ",
}


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
def test_values_without_their_form_are_not_handed_on(implicit: bool, tmp_path: Path) -> None:
    """Dates that are none, numbers with a comma, two values for one, control characters: the report is made, and valid, without them."""
    of = study(tmp_path, implicit=implicit, **dict.fromkeys(ODD, "20110111"))
    for one in of.instances:
        data = one.path.read_bytes()
        for keyword, value in ODD.items():
            length = b"\x08\0\0\0" if implicit else dictionary_VR(keyword).encode() + b"\x08\0"
            tag = struct.pack("<HH", *divmod(tag_for_keyword(keyword) or 0, 1 << 16))
            data = data.replace(tag + length + b"20110111", tag + length + value)
        assert b"20110111" not in data
        one.path.write_bytes(data)
    documents = (*make(of), *make(of, "declined"))
    for document, path in zip(documents, [*written(documents[:2], tmp_path), *written(documents[2:], tmp_path / "declined")], strict=True):
        held = parsed(document)
        assert [keyword for keyword in ODD if held.get(keyword)] == []
        assert str(held.PatientName) == "Doe^Jane"
        assert "Error" not in tool("dciodvfy", path)


@pytest.mark.parametrize("said", ["+1400", "-1200", "+0530", "+1401", "-2460", "nonsense", "+01", ""])
def test_a_clock_that_cannot_be_is_not_told(said: str, tmp_path: Path) -> None:
    """An offset from UTC that is none is left out, and the time is told on the clock of the caller."""
    ds = parsed(make(study(tmp_path, TimezoneOffsetFromUTC=said), "declined")[0])
    if said in ("+1400", "-1200", "+0530"):
        assert ds.TimezoneOffsetFromUTC == said
    else:
        assert "TimezoneOffsetFromUTC" not in ds or not ds.TimezoneOffsetFromUTC
        assert ds.ContentTime == "143015.250000"


def test_a_request_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    """A sequence that holds an ID of two values is not handed on; the document is made and valid."""
    asked, code = Dataset(), Dataset()
    asked.RequestedProcedureID, asked.RequestedProcedureDescription = "RP7", "Head"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "M" * 40, "99LOCAL", "x" * 100
    asked.RequestedProcedureCodeSequence = [code]
    of = study(tmp_path, RequestAttributesSequence=[asked], ProcedureCodeSequence=[code])
    (summary, _) = make(of)
    assert "ProcedureCodeSequence" not in parsed(summary)
    assert "ReferencedRequestSequence" not in parsed(summary)
    assert "Error" not in tool("dciodvfy", *written((summary,), tmp_path))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_every_encoding_gives_the_same_report(syntax: str, tmp_path: Path) -> None:
    """Patient, study and requests come over from big endian, deflated and implicit sources as from any other."""
    asked = Dataset()
    asked.RequestedProcedureID, asked.AccessionNumber = "RP7", "A9"
    of = study(tmp_path, RequestAttributesSequence=[asked], PregnancyStatus=3, PatientWeight="70.5", StudyDescription="Head")
    straight = parsed(make(of, "declined")[0])
    for one in of.instances:
        ds, little, implicit = dcmread(one.path), syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
        plain = Dataset()
        plain.update({element.tag: element for element in ds})
        plain.file_meta, plain.file_meta.TransferSyntaxUID = ds.file_meta, syntax
        plain.save_as(one.path, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    other = parsed(make(headers.group([headers.read(one.path, received_at=0.0) for one in of.instances])[0], "declined")[0])
    for keyword in ("PatientName", "PatientID", "StudyDate", "PregnancyStatus", "PatientWeight", "ReferencedRequestSequence"):
        assert other[keyword] == straight[keyword], keyword
    assert other.PregnancyStatus == 3


def test_no_report_without_its_patient(tmp_path: Path) -> None:
    """A source that cannot be read any more gives a named error with a sentence, not a report that belongs to nobody."""
    of = study(tmp_path)
    of.instances[0].path.write_bytes(b"\0" * 200)
    with pytest.raises(NoSource, match="send it again"):
        make(of, "declined")


def test_flipped_bytes_of_a_source(tmp_path: Path) -> None:
    """Whatever stands in the source's attributes, the report is made and can be read to its last element, or NoSource says why not."""
    asked, random = Dataset(), np.random.default_rng(10)
    asked.RequestedProcedureID = "RP7"
    of = study(tmp_path, RequestAttributesSequence=[asked], PatientComments="none", PatientWeight="70", TimezoneOffsetFromUTC="+0100")
    path = of.instances[0].path
    whole = path.read_bytes()
    made = 0
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(400, len(data) - 2 * 64 * 64, 4):
            data[at] = random.integers(256)
        path.write_bytes(data)
        try:
            document = make(of, "declined")[0]
        except NoSource:
            continue
        made += len([str(element) for element in parsed(document).iterall()]) > 0
    assert made > 30


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


def test_an_element_of_no_known_kind_is_not_handed_on(tmp_path: Path) -> None:
    """A private element within a request whose value representation is none would make the document unreadable; the request is left out."""
    asked = Dataset()
    asked.RequestedProcedureID = "RP7"
    asked.add_new(0x00091001, "LO", "PRIVATES")
    of = study(tmp_path, ReferencedRequestSequence=[asked])
    assert "ReferencedRequestSequence" in parsed(make(of, "declined")[0])
    path = of.instances[0].path
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"LO\x08\0PRIVATES", b"QQ\x08\0PRIVATES"))
    assert path.read_bytes() != whole
    assert "ReferencedRequestSequence" not in parsed(make(of, "declined")[0])


def test_the_scanner_had_a_part_in_it(tmp_path: Path) -> None:
    """What acquired the images stands in Contributing Equipment, to the byte and without an institution that the source does not name."""
    term, there = ["", "ISO 2022 IR 87"], "東京病院"
    told = {"ManufacturerModelName": "MR 1", "DeviceSerialNumber": "0815", "SoftwareVersions": ["a", "b"], "StationName": ""}
    of = study(tmp_path, SpecificCharacterSet=term, InstitutionName=there, **told)
    for document in (*make(of), *make(of, "declined")):
        scanner, ours = parsed(document).ContributingEquipmentSequence
        assert (scanner.Manufacturer, scanner.DeviceSerialNumber, list(scanner.SoftwareVersions)) == ("Scanner", "0815", ["a", "b"])
        assert scanner.InstitutionName == there and "StationName" not in scanner
        assert dcmread(of.instances[0].path).get_item("InstitutionName").value in document.data
        assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        assert (ours.Manufacturer, ours.PurposeOfReferenceCodeSequence[0].CodeValue) == ("VitalCheck", "109102")
        assert "InstitutionName" not in ours and "InstitutionName" not in parsed(document)
    for document in make(study(tmp_path / "unnamed", Manufacturer="")):
        assert [item.Manufacturer for item in parsed(document).ContributingEquipmentSequence] == ["VitalCheck"]


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


ISSUER = {"UniversalEntityID": "1.2.840.99", "UniversalEntityIDType": "ISO"}


def test_who_issued_a_number_is_told_with_it(tmp_path: Path) -> None:
    """Issuers of patient ID, accession number and orders, and the reasons of a request, come over as the source has them."""
    asked = _item(AccessionNumber="A9", RequestedProcedureID="RP7", ReasonForTheRequestedProcedure="Kopfschmerz, früh")
    asked.IssuerOfAccessionNumberSequence = [_item(LocalNamespaceEntityID="RIS 9")]
    asked.ReasonForRequestedProcedureCodeSequence = [_item(CodeValue="25064002", CodingSchemeDesignator="SCT", CodeMeaning="Headache")]
    more = {
        "IssuerOfPatientID": "HOSPITAL",
        "IssuerOfPatientIDQualifiersSequence": [_item(**ISSUER)],
        "OtherPatientIDsSequence": [_item(PatientID="OLD", IssuerOfPatientID="ELSEWHERE", TypeOfPatientID="TEXT")],
        "IssuerOfAccessionNumberSequence": [_item(LocalNamespaceEntityID="RIS 1")],
    }
    of = study(tmp_path, RequestAttributesSequence=[asked, _item(RequestedProcedureID="RP8")], **more)
    for document, path in zip(make(of), written(make(of), tmp_path / "sr"), strict=True):
        ds = parsed(document)
        assert all(ds[keyword] == dcmread(of.instances[0].path)[keyword] for keyword in more)
        first, second = ds.ReferencedRequestSequence
        assert first.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "RIS 9"
        assert first.ReasonForTheRequestedProcedure == "Kopfschmerz, früh"
        assert first.ReasonForRequestedProcedureCodeSequence[0].CodeMeaning == "Headache"
        assert (second.AccessionNumber, second.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID) == ("A1", "RIS 1")
        assert "Error" not in tool("dciodvfy", path)
