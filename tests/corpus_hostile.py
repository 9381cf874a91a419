"""Values that mean harm where they are shown, joined or believed; and identity: two people under one Study Instance UID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corpus import SECRET, Object, State, case, changed, each, encoded, head, one, put, raw

_TEXTS = {
    "html": b"<script>alert('Geheim')</script><img src=x onerror=alert(1)>",
    "shell": b"$(touch /tmp/geheim); `id` | rm -rf / && echo '",
    "sql": b"Robert'); DROP TABLE studies;--",
    "format": b"%s%n{0.__class__}${jndi:ldap://geheim/a}",
    "crlf": b"Geheim\r\nSet-Cookie: a=b\r\n\r\n{\"event\": \"forged\"}",
    "ansi": b"\x1b[2J\x1b]0;geheim\x07\x1b[31mGeheim",
    "path": b"../../../../etc/passwd",
    "unicode-direction": "\u202eGeheim\u202c\u200b".encode(),
    "long": b"Geheim " * 1400,
}  # fmt: skip
_DECIDING = ("Modality", "BodyPartExamined", "SeriesDescription", "ImageType", "PhotometricInterpretation", "ScanningSequence")
_SHOWN = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "Manufacturer", "StudyID")


def _all(value: bytes) -> Any:
    return lambda ds: [raw(keyword, value)(ds) for keyword in _SHOWN]


for _what, _value in _TEXTS.items():
    each(f"hostile-{_what}", "analysed", change=_all(_value))
    each(f"hostile-{_what}-in-what-decides", "declined", "series 1", change=lambda ds, v=_value: [raw(k, v)(ds) for k in _DECIDING])

_UIDS: dict[str, tuple[bytes, State, str]] = {  # what is no UID would make a report that refers to it invalid
    "traversal": (b"../../../../tmp/geheim", "skipped", "not a UID"),
    "absolute": (b"/etc/passwd", "skipped", "not a UID"),
    "letters": (b"1.2.abc", "skipped", "not a UID"),
    "200-characters": (b"1." * 100, "skipped", "not a UID"),
    "dots": (b"..", "skipped", "not a UID"),
    "spaces": (b"   ", "skipped", "without"),
    "nul": (b"1.2\x003.4", "skipped", "not a UID"),
    "leading-zeros": (b"1.02.003", "analysed", ""),
    "newline": (b"1.2\n3.4", "skipped", "not a UID"),
    "html": (b"<b>1.2</b>", "skipped", "not a UID"),
    "several": (rb"1.2.3\4.5.6", "skipped", "not a UID"),
}
for _what, (_value, _state, _reason) in _UIDS.items():
    each(f"uid-{_what}-SeriesInstanceUID", _state, _reason, change=raw("SeriesInstanceUID", _value))
    each(f"uid-{_what}-FrameOfReferenceUID", "analysed", change=raw("FrameOfReferenceUID", _value))
for _what in ("traversal", "absolute", "letters", "200-characters", "dots", "html", "nul"):
    _bad = _UIDS[_what][0]
    case(f"uid-{_what}-SOPInstanceUID", "skipped", "not a UID")(
        lambda uid, v=_bad: [changed(ds, raw("SOPInstanceUID", v + str(k).encode())) for k, ds in enumerate(head(uid))]
    )
one("uid-of-one-slice-is-none", "analysed", change=raw("SOPInstanceUID", b"<b>geheim</b>"))


@case("uid-traversal-StudyInstanceUID", "skipped", "not a UID")
def traversal(uid: str) -> Sequence[Object]:
    return [changed(ds, raw("StudyInstanceUID", f"../../{uid}".encode())) for ds in head(uid)]


@case("uid-200-characters-StudyInstanceUID", "skipped", "not a UID")
def long_uid(uid: str) -> Sequence[Object]:
    return [changed(ds, raw("StudyInstanceUID", uid.encode() + b".1" * 100)) for ds in head(uid)]


_NUMBERS = {"huge": b"9" * 60, "exponent": b"1e99", "negative-zero": b"-0.0", "hex": b"0x10", "many": b"\\".join([b"1"] * 3000)}
for _what, _value in _NUMBERS.items():
    each(f"number-{_what}", "analysed", change=lambda ds, v=_value: [
        raw(k, v)(ds) for k in ("SeriesNumber", "InstanceNumber", "SliceThickness", "RepetitionTime", "SliceLocation", "PatientWeight")
    ])  # fmt: skip


@case("class-is-ct-content-is-mr", "analysed")
def wrong_class(uid: str) -> Sequence[Object]:
    return [changed(ds, put(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")) for ds in head(uid)]


each("class-is-private", "declined", "its SOP class is none for slices", change=put(SOPClassUID="1.2.840.113619.4.26"))
each("class-is-no-uid", "skipped", "SOPClassUID is not a UID", change=raw("SOPClassUID", b"MR Image"))
each("class-is-verification", "declined", "its SOP class is none for slices", change=put(SOPClassUID="1.2.840.10008.1.1"))


@case("two-elements-of-one-tag", "analysed")
def repeated(uid: str) -> Sequence[Object]:
    """Ascending tags are a must (PS3.5 7.1); a second Patient ID behind the pixels is none."""
    return [encoded(ds) + b"\x10\0\x20\0LO\x06\0OTHER " for ds in head(uid)]


# --- identity -------------------------------------------------------------------------------------------------------------


def mixed(name: str, state: State, reason: str, *, common: dict[str, Any] | None = None, **third: Any) -> None:
    """A head whose third slice says something else of the patient or the study; `common` is what all say."""

    def build(uid: str) -> Sequence[Object]:
        made = head(uid, **(common or {}))
        put(**third)(made[2])
        return made

    case(f"mixed-{name}", state, reason)(build)


mixed("patient-id", "quarantined", "Patient ID", PatientID="OTHER")
mixed("issuer", "quarantined", "Issuers of Patient ID", common={"IssuerOfPatientID": "here"}, IssuerOfPatientID="elsewhere")
mixed("issuer-missing", "analysed", "", IssuerOfPatientID="elsewhere")
mixed("birth-date", "quarantined", "Birth Date", PatientBirthDate="19991231")
mixed("sex", "quarantined", "Sex", PatientSex="M")
mixed("study-date", "quarantined", "Study Date", StudyDate="20200101")
mixed("accession-number", "quarantined", "Accession Number", AccessionNumber="B2")
mixed("names-without-ids", "quarantined", "Name", common={"PatientID": ""}, PatientName="Somebody^Else")
mixed("name-where-one-id-is-missing", "quarantined", "Name", PatientID="", PatientName="Somebody^Else")
mixed("patient-id-missing", "analysed", "", PatientID="")
mixed("birth-date-missing", "analysed", "", PatientBirthDate="")
mixed("sex-missing", "analysed", "", PatientSex="")
mixed("sex-other", "analysed", "", PatientSex="O")
mixed("study-date-missing", "analysed", "", StudyDate="")
mixed("accession-number-missing", "analysed", "", AccessionNumber="")
mixed("name-spelling", "analysed", "", PatientName=SECRET.upper() + "^")
mixed("name-married", "analysed", "", PatientName="Ledig^Patient")
mixed("study-time", "analysed", "", StudyTime="235959")
mixed("study-description", "analysed", "", StudyDescription="other")


@case("mixed-patients-in-two-series", "quarantined", "Patient ID")
def two_series(uid: str) -> Sequence[Object]:
    return [*head(uid), *head(uid, series=2, PatientID="OTHER", SeriesDescription="T2 TSE")]


@case("mixed-in-a-document-beside-the-head", "quarantined", "Patient ID")
def two_kinds(uid: str) -> Sequence[Object]:
    return [*head(uid), changed(head(uid, 1, series=2)[0], put(PixelData=None, Modality="SR", PatientID="OTHER"))]


@case("instance-in-two-series", "analysed")
def two_places(uid: str) -> Sequence[Object]:
    """One SOP Instance UID, two Series Instance UIDs: the first counts."""
    other = head(uid, series=2)
    for a, b in zip(head(uid), other, strict=True):
        b.SOPInstanceUID = a.SOPInstanceUID
    return [*head(uid), *other]
