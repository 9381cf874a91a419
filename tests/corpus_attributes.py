"""Missing, empty and wrong attributes: by default the head is analysed all the same."""

from __future__ import annotations

from corpus import SECRET, State, case, changed, each, head, one, put, raw
from pydicom.datadict import dictionary_VR

NO_PIXELS = "no pixel data"
_WITHOUT: dict[str, tuple[State, str]] = {  # what its absence means; all other attributes are missed by nobody
    "StudyInstanceUID": ("skipped", "without StudyInstanceUID"),
    "SeriesInstanceUID": ("skipped", "without SeriesInstanceUID"),
    "SOPInstanceUID": ("skipped", "without SOPInstanceUID"),
    "SOPClassUID": ("skipped", "without SOPClassUID"),
    "Modality": ("declined", "series 1 .*modality"),
    "Rows": ("declined", NO_PIXELS),
    "Columns": ("declined", NO_PIXELS),
    "PixelData": ("declined", NO_PIXELS),
    "PhotometricInterpretation": ("declined", "greyscale"),
    "BitsAllocated": ("quarantined", "BitsAllocated"),
}
_REQUIRED = (  # type 1 and 2 of the MR Image IOD (PS3.3 A.4.3)
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
    *("StudyID", "AccessionNumber", "Modality", "SeriesInstanceUID", "SeriesNumber", "PatientPosition", "FrameOfReferenceUID"),
    *("PositionReferenceIndicator", "Manufacturer", "InstanceNumber", "ImageType", "PixelSpacing", "ImageOrientationPatient"),
    *("ImagePositionPatient", "SliceThickness", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelData", "ScanningSequence", "SequenceVariant", "ScanOptions"),
    *("MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength", "SOPClassUID", "SOPInstanceUID"),
)
_OPTIONAL = ("SeriesDescription", "ProtocolName", "StudyDescription", "BodyPartExamined", "SpecificCharacterSet")

for _keyword in (*_REQUIRED, *_OPTIONAL):
    each(f"without-{_keyword}", *_WITHOUT.get(_keyword, ("analysed", "")), change=put(**{_keyword: None}))
for _keyword in _REQUIRED:
    if dictionary_VR(_keyword) != "UI" and _keyword not in ("PixelData",):
        each(f"empty-{_keyword}", *_WITHOUT.get(_keyword, ("analysed", "")), change=raw(_keyword, b""))

_WRONG: dict[str, dict[str, bytes]] = {
    "SeriesNumber": {"letters": b"one", "huge": b"99999999999999", "negative": b"-5", "fraction": b"1.5", "several": rb"1\2\3"},
    "InstanceNumber": {"letters": b"first", "huge": b"2147483648", "negative": b"-1", "fraction": b"1.5"},
    "PixelSpacing": {
        "letters": rb"wide\wide", "negative": rb"-1\-1", "zero": rb"0\0", "nan": rb"nan\nan", "infinite": rb"inf\inf",
        "single": b"1", "triple": rb"1\1\1", "huge": rb"1e9\1e9", "tiny": rb"1e-9\1e-9", "comma": rb"0,9\0,9", "uneven": rb"0.5\1.5",
    },
    "SliceThickness": {"letters": b"thick", "negative": b"-5", "zero": b"0", "nan": b"nan", "huge": b"1e30"},
    "ImagePositionPatient": {"letters": rb"a\b\c", "nan": rb"nan\nan\nan", "pair": rb"1\2", "huge": rb"1e30\1e30\1e30"},
    "ImageOrientationPatient": {"letters": rb"a\b\c\d\e\f", "nan": rb"nan\nan\nan\nan\nan\nan", "five": rb"1\0\0\0\1"},
    "RepetitionTime": {"letters": b"long", "negative": b"-500", "nan": b"nan", "huge": b"1e300"},
    "EchoTime": {"letters": b"short", "negative": b"-12", "nan": b"nan", "several": rb"12\24"},
    "PatientBirthDate": {"letters": b"yesterday", "no-date": b"20261399", "range": b"19600101-19700101"},
    "StudyDate": {"letters": b"yesterday", "no-date": b"20260231", "dotted": b"2026.01.05", "year-0": b"00000101"},
    "StudyTime": {"letters": b"noon", "no-time": b"256199", "colons": b"09:00:00"},
    "PatientSex": {"word": b"FEMALE", "number": b"2", "lower": b"f"},
    "Modality": {"lower": b"mr"},
    "ImageType": {"single": b"ORIGINAL", "empty-values": rb"\\\\", "twenty": b"\\".join([b"X"] * 20)},
}  # fmt: skip

for _keyword, _values in _WRONG.items():
    for _what, _value in _values.items():
        each(f"{_keyword}-{_what}", "analysed", change=raw(_keyword, _value))

each("Modality-two", "declined", "modality", change=raw("Modality", rb"CT\PT"))
each("Rows-zero", "declined", NO_PIXELS, change=put(Rows=0))
each("Rows-more-than-sent", "quarantined", "bytes", change=put(Rows=64))
each("Columns-fewer-than-sent", "analysed", change=put(Columns=16))
each("Rows-wrong-vr", "analysed", change=raw("Rows", b"32", "IS"))
each("Rows-three-bytes", "declined", NO_PIXELS, change=raw("Rows", b"\x20\x00\x01\x00\x01\x00", "US"))
each("BitsAllocated-7", "quarantined", "BitsAllocated", change=put(BitsAllocated=7))
each("BitsAllocated-0", "quarantined", "BitsAllocated", change=put(BitsAllocated=0))
each("BitsStored-beyond", "analysed", change=put(BitsStored=99))
each("SamplesPerPixel-2", "declined", "greyscale", change=put(SamplesPerPixel=2))
each("SamplesPerPixel-0", "analysed", change=put(SamplesPerPixel=0))
each("PixelRepresentation-7", "analysed", change=put(PixelRepresentation=7))
each("PhotometricInterpretation-unknown", "declined", "greyscale", change=put(PhotometricInterpretation="GREY"))
each("NumberOfFrames-letters", "analysed", change=raw("NumberOfFrames", b"many"))
each("NumberOfFrames-one", "analysed", change=put(NumberOfFrames="1"))
each("NumberOfFrames-zero", "analysed", change=put(NumberOfFrames="0"))
each("NumberOfFrames-negative", "analysed", change=raw("NumberOfFrames", b"-3"))
each("NumberOfFrames-two-without-the-second", "quarantined", "bytes|frames", change=put(NumberOfFrames="2"))
each("PatientID-wrong-vr", "analysed", change=raw("PatientID", b"\x01\x02\x03\x04", "UL"))
each("SeriesDescription-as-sequence", "analysed", change=raw("SeriesDescription", b"", "SQ"))
each("PixelSpacing-as-float", "analysed", change=raw("PixelSpacing", b"\0\0\x80?\0\0\x80?", "FL"))
each("unknown-vr", "analysed", change=raw("StudyID", b"1234", "UN"))
each("private-elements", "analysed", change=lambda ds: ds.private_block(0x0019, SECRET, create=True).add_new(1, "OB", b"\xff" * 3001))
each("retired-group-length", "analysed", change=raw("StudyID", b"", "SH"))
one("one-slice-without-pixels", "analysed", change=put(PixelData=None))
one("one-slice-without-position", "analysed", change=put(ImagePositionPatient=None))
one("one-slice-without-uid", "analysed", change=put(SOPInstanceUID=None))
one("one-slice-without-modality", "analysed", change=put(Modality=None))


@case("everything-optional-removed", "analysed")
def bare(uid: str) -> list[object]:
    """Nothing but UIDs, modality, a description and pixels."""
    keep = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality", "SeriesDescription", "PixelData"}
    keep |= {"Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"}
    keep |= {"PhotometricInterpretation", "BodyPartExamined"}
    return [changed(ds, lambda d: [d.pop(e.tag) for e in list(d) if e.keyword not in keep]) for ds in head(uid)]


@case("nothing-but-uids", "declined", "modality|pixel")
def nothing(uid: str) -> list[object]:
    keep = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"}
    return [changed(ds, lambda d: [d.pop(e.tag) for e in list(d) if e.keyword not in keep]) for ds in head(uid)]
