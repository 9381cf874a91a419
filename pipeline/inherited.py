"""What a Structured Report has from its source: the attributes of patient, study and request, however odd.

- What patient and study are known by (names, IDs, accession number) comes as it came, byte for byte and under the source's own
  character set, even where the standard forbids it: a PACS compares bytes, and a "corrected" name would make a second patient.
- Only in names control characters and backslashes become blanks: archives refuse the whole document for them, and find no patient by them.
- A date, a time or a sex that is none stays empty; anything else that has not the form of its value representation is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from pydicom import Dataset, config, dcmwrite
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.filereader import read_dataset
from pydicom.valuerep import VR, validate_value

from pipeline.part10 import BROKEN, HEADER, UNREADABLE, after_meta, encoding, inflated
from pipeline.records import Instance
from pipeline.syntaxes import DEFLATED

# PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.1.3, C.7.2.3: what one patient and one study have in all their objects. The first rows are type 2.
_TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
_COPIED = (
    *_TYPE_2,
    *("TimezoneOffsetFromUTC", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "OtherPatientIDsSequence"),
    *("PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar", "PatientAlternativeCalendar"),
    *("OtherPatientNames", "PatientBirthTime", "PatientBirthName", "PatientMotherBirthName", "QualityControlSubject", "EthnicGroup"),
    *("PatientComments", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence"),
    *("BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization"),
    *("StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "IssuerOfAccessionNumberSequence"),
    *("ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "ConsultingPhysicianIdentificationSequence"),
    *("PhysiciansOfRecordIdentificationSequence", "PhysiciansReadingStudyIdentificationSequence", "RequestingServiceCodeSequence"),
    *("RequestingService", "ProcedureCodeSequence", "ReasonForPerformedProcedureCodeSequence", "ReferencedStudySequence"),
    *(
        "AdmittingDiagnosesDescription",
        "AdmittingDiagnosesCodeSequence",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "PatientBodyMassIndex",
    ),
    *("MedicalAlerts", "Allergies", "SmokingStatus", "PregnancyStatus", "LastMenstrualDate", "PatientState", "Occupation"),
    *("AdditionalPatientHistory", "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription"),
    *("IssuerOfServiceEpisodeIDSequence", "ReasonForVisit", "ReasonForVisitCodeSequence", "PatientSexNeutered"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"),
    *("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
_REQUEST = (  # PS3.3 C.17.2 Referenced Request Sequence, all type 2
    *("AccessionNumber", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
    *("RequestedProcedureID", "RequestedProcedureDescription"),
)
_REQUEST_MORE = (  # and type 3: who issued the numbers, and why the procedure was requested
    *("IssuerOfAccessionNumberSequence", "OrderPlacerIdentifierSequence", "OrderFillerIdentifierSequence"),
    *("ReasonForTheRequestedProcedure", "ReasonForRequestedProcedureCodeSequence"),
)
_SCANNER = (  # PS3.3 C.12.1 Contributing Equipment Sequence; the first one is type 1
    *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "StationName"),
    *("InstitutionName", "InstitutionalDepartmentName"),
)
_OFFSET = re.compile(rb"(-(?=0|1[01]|1200)|\+(?=0|1[0-3]|1400))(\d\d)([0-5]\d) *")  # -1200 to +1400 (PS3.3 table C.12-1)

Encodings = list[str]
_READ = [
    tag_for_keyword(k)
    for k in ("SpecificCharacterSet", *_COPIED, *_REQUEST, *_SCANNER, "RequestAttributesSequence", "ReferencedRequestSequence")
]
_TEXT = frozenset({"LO", "SH", "PN", "LT", "ST", "UT"})
_WRITTEN = frozenset({"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"})
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # in no text; ESC, and in paragraphs TAB, LF, FF, CR may be (PS3.5 6.1.3)
_NO_NAME = re.compile(rb"[\x00-\x1a\x1c-\x1f]")  # second bytes of no character set lie there
_NO_PLAIN_NAME = re.compile(rb"[\x00-\x1a\x1c-\x1f\\]")  # a backslash would make two names of one (PS3.5 6.4)
_BACKSLASH_INSIDE = frozenset({"GB18030", "GBK"})  # as second byte of a character; in ISO 2022 only after an escape
_LONGEST = 0xFFFE  # bytes of a value, in all that is copied byte for byte (PS3.5 7.1.2)


class NoSource(Exception):
    """The attributes of the source cannot be read; without them a report would belong to nobody."""


def read(instance: Instance) -> Dataset:
    """What of the instance's file a report may inherit, and no more: nothing else of it is ever in memory. Raises NoSource."""
    syntax = instance.transfer_syntax_uid
    try:
        with instance.path.open("rb") as file:
            after_meta(file)
            stream: Any = BytesIO(inflated(file, HEADER)) if syntax == DEFLATED else file
            return read_dataset(stream, *encoding(syntax), stop_when=lambda tag, _vr, _length: tag.group >= 0x7FE0, specific_tags=_READ)
    except UNREADABLE as error:
        why = f"instance {instance.sop_instance_uid}: its attributes cannot be read"
        raise NoSource(f"{why}, so no report can be made that belongs to its patient; send it again") from error


def copy(source: Any, document: Any) -> None:
    """Puts into `document` what `source` (a Dataset) says of patient and study."""
    if source.get("SpecificCharacterSet"):
        document["SpecificCharacterSet"] = source["SpecificCharacterSet"]
    for keyword in _COPIED:
        element = _element(source, keyword)
        if element is not None:
            document[_tag(keyword)] = element
        elif keyword in _TYPE_2:
            setattr(document, keyword, None)


def offset(source: Any) -> timedelta | None:
    """How far east of UTC the clock of `source` goes (PS3.3 table C.12-1); None where it does not say."""
    element = _element(source, "TimezoneOffsetFromUTC")
    found = element and _OFFSET.fullmatch(element.value)
    if not found:
        return None
    east = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return -east if found[1] == b"-" else east


def requests(source: Any, study_uid: str) -> list[Any]:
    """The requests that the study fulfils: as the source says, or gathered from its Request Attributes Sequence."""
    if said := _items(source, "ReferencedRequestSequence"):
        return said
    return [_request(item, source, study_uid) for item in _items(source, "RequestAttributesSequence")]


def _request(item: Any, source: Any, study_uid: str) -> Any:
    request = Dataset()
    request.StudyInstanceUID = item.get("StudyInstanceUID") or study_uid
    request.ReferencedStudySequence = _items(item, "ReferencedStudySequence") or _items(source, "ReferencedStudySequence")
    request.RequestedProcedureCodeSequence = _items(item, "RequestedProcedureCodeSequence")
    encodings = _encodings(source)
    for keyword in _REQUEST:
        tag = _tag(keyword)
        said = [_read(of, tag, encodings).value for of in (item, source) if tag in of and _fits(of, tag, encodings)]
        setattr(request, keyword, next(filter(None, said), None))
    for keyword in _REQUEST_MORE:
        if (element := _element(item, keyword)) is not None:
            request[_tag(keyword)] = element if element.VR == "SQ" else _read(item, _tag(keyword), encodings)
    if not item.get("AccessionNumber") and (issuer := _items(source, "IssuerOfAccessionNumberSequence")):
        request.IssuerOfAccessionNumberSequence = issuer  # of the study's number, which stands in for the request's
    return request


def scanner(source: Any) -> Any:
    """What acquired the source, as an item of Contributing Equipment Sequence; None where it does not name its manufacturer."""
    found = {keyword: _element(source, keyword) for keyword in _SCANNER}
    told = {keyword: element for keyword, element in found.items() if element is not None and element.value.strip(b" \0")}
    if _SCANNER[0] not in told:
        return None
    encodings = _encodings(source)
    item = Dataset(parent_encoding=encodings)
    item.set_original_encoding(False, True, encodings)  # so that it stays as it came, as in the document itself
    for keyword, element in told.items():
        item[_tag(keyword)] = element
    return item


def _element(source: Any, keyword: str) -> Any:
    """The element for the document; None where the source has none that may stand there."""
    tag = _tag(keyword)
    if tag not in source:
        return None
    raw, vr = _held(source, tag), dictionary_VR(tag)
    if vr == "SQ":
        return source[tag] if _items(source, keyword) else None
    if not isinstance(raw, RawDataElement) or len(raw.value or b"") > _LONGEST:
        return None
    known_by = keyword in _TYPE_2 and vr in _TEXT
    if not known_by and not _fits(source, tag, _encodings(source)):
        return None
    if vr == "US":  # as a number, for its bytes may stand in another order
        return _read(source, tag, _encodings(source))
    value = _name(source, raw.value or b"") if vr == "PN" else raw.value or b""
    return raw._replace(VR=vr, value=value + b" " * (len(value) % 2))  # not decoded and encoded again, so that it stays as it came


def _name(source: Any, value: bytes) -> bytes:
    """With blanks for what can be in no name."""
    wide = b"\x1b" in value or not _BACKSLASH_INSIDE.isdisjoint(map(str.upper, _encodings(source)))
    return (_NO_NAME if wide else _NO_PLAIN_NAME).sub(b" ", value)


def _items(ds: Any, keyword: str) -> list[Any]:
    """The items of a sequence; none where it is no sequence, or where anything in it has not its form or cannot be written."""
    tag = _tag(keyword)
    try:
        found = list(ds[tag].value or []) if tag in ds else []
        fit = all(isinstance(item, Dataset) and all(_fits(*element) for element in _elements(item, _encodings(ds))) for item in found)
        for item in found if fit else ():
            dcmwrite(BytesIO(), item, implicit_vr=False, little_endian=True)
    except BROKEN:
        return []
    return found if fit else []


def _elements(ds: Any, encodings: Encodings) -> Iterator[tuple[Any, int, Encodings]]:
    """Every element within `ds` that is no sequence: the data set that it stands in, and its tag."""
    for tag in list(ds.keys()):
        if _held(ds, tag).VR == "SQ":
            for item in ds[tag].value or []:
                yield from _elements(item, encodings)
        else:
            yield ds, tag, encodings


def _fits(ds: Any, tag: int, encodings: Encodings) -> bool:
    """Whether the value has the form of its value representation and the number of values that the dictionary allows (PS3.5 6.2, PS3.6)."""
    raw = _held(ds, tag)
    if not isinstance(raw, RawDataElement):  # made by us
        return True
    if not dictionary_has_tag(tag):  # private, or newer than our dictionary
        return raw.VR is None or raw.VR in VR.__members__
    value, vr = raw.value or b"", dictionary_VR(tag)
    if raw.VR not in (None, "UN", *vr.split(" or ")):
        return False
    try:
        values = _values(ds, tag, encodings)
        if len(values) > 1 and dictionary_VM(tag) == "1":
            return False
        if vr in _TEXT and _CONTROL.search(value.rstrip(b"\0")):
            return False
        for each in values:
            validate_value(vr, each, config.RAISE)
            if vr == "DA" and each:  # a form is not a date yet
                datetime.strptime(each, "%Y%m%d")
    except BROKEN:
        return False
    return tag != _tag("TimezoneOffsetFromUTC") or not value or bool(_OFFSET.fullmatch(value))


def _values(ds: Any, tag: int, encodings: Encodings) -> list[Any]:
    """Text decoded; numbers, dates and codes as they are written, for a number that pydicom made of them always has its form."""
    value, vr = _held(ds, tag).value or b"", dictionary_VR(tag)
    if vr in _WRITTEN:
        return list(value.decode("ascii").rstrip(" \0").split("\\"))
    read = _read(ds, tag, encodings)
    return [] if read.is_empty else list(read.value) if read.VM > 1 else [read.value]


def _read(ds: Any, tag: int, encodings: Encodings) -> Any:
    """The element, decoded; but not within `ds`, where it stays as it came."""
    raw = _held(ds, tag)
    if not isinstance(raw, RawDataElement):
        return raw
    return convert_raw_data_element(raw._replace(VR=dictionary_VR(tag)), encoding=encodings)


def _held(ds: Any, tag: int) -> Any:
    """The element as it was read; `get_item` alone would convert it where it is empty."""
    return ds.get_item(tag, keep_deferred=True)


def _encodings(ds: Any) -> Encodings:
    terms = ds.get("SpecificCharacterSet")
    return convert_encodings(terms) if terms else [default_encoding]


def _tag(keyword: str) -> int:
    return int(tag_for_keyword(keyword) or 0)
