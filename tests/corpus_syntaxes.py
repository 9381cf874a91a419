"""Transfer syntaxes: each that is supported, labels that lie, and codestreams that are torn."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from corpus import Object, State, case, changed, each, encoded, head, put
from pydicom import dcmread, uid
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames

Bytes = Callable[[bytes], bytes]


def labelled(ds: FileDataset, syntax: str, fragments: list[bytes] | None = None) -> FileDataset:
    """Says `syntax`, whatever is in it; `fragments` become encapsulated Pixel Data (PS3.5 A.4)."""
    ds.file_meta.TransferSyntaxUID = uid.UID(syntax)
    if fragments is not None:
        ds.PixelData = item(b"") + b"".join(map(item, fragments))
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return ds


def by_gdcm(ds: FileDataset, syntax: int) -> FileDataset:
    """Encoded by GDCM: the JPEG family, which pydicom's own encoders leave out. At most 12 bits, so that all of them can hold it."""
    import gdcm

    ds.BitsStored, ds.HighBit = min(ds.BitsStored, 12), min(ds.HighBit, 11)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.dcm", Path(folder) / "out.dcm"
        source.write_bytes(encoded(ds))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        made = dcmread(target)
        made.PixelData  # noqa: B018 - before the file goes
        return made  # type: ignore[return-value]


def compressed(ds: FileDataset, syntax: str = uid.JPEG2000Lossless) -> FileDataset:
    ds.compress(syntax, generate_instance_uid=False)
    return ds


def as_8_bit(ds: FileDataset) -> FileDataset:
    values = (np.frombuffer(ds.PixelData, np.uint16) // 4).astype(np.uint8)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelData = 8, 8, 7, values.tobytes()
    ds["PixelData"].VR = "OB"
    return ds


def torn(change: Bytes, syntax: str = uid.JPEG2000Lossless) -> Callable[[str], Sequence[Object]]:
    """A head whose codestreams went through `change`."""

    def build(study_uid: str) -> Sequence[Object]:
        made = [compressed(ds, syntax) for ds in head(study_uid)]
        return [labelled(ds, syntax, [change(next(generate_frames(ds.PixelData, number_of_frames=1)))]) for ds in made]

    return build


for _name, _syntax in (
    ("implicit", uid.ImplicitVRLittleEndian), ("explicit", uid.ExplicitVRLittleEndian), ("deflated", uid.DeflatedExplicitVRLittleEndian),
):  # fmt: skip
    each(f"syntax-{_name}", "analysed", change=lambda ds, s=_syntax: labelled(ds, s))
for _name, _syntax in (
    ("rle", uid.RLELossless), ("jpegls", uid.JPEGLSLossless), ("jpegls-near", uid.JPEGLSNearLossless), ("jpeg2000", uid.JPEG2000Lossless),
):  # fmt: skip
    each(f"syntax-{_name}", "analysed", change=lambda ds, s=_syntax: compressed(ds, s))
case("syntax-jpeg2000-lossy", "analysed")(
    lambda study_uid: [changed(ds, lambda d: d.compress(uid.JPEG2000, j2k_cr=[4], generate_instance_uid=False)) for ds in head(study_uid)]
)
for _name, _number in (("jpeg-extended", "JPEGExtendedProcess2_4"), ("jpeg-lossless", "JPEGLosslessProcess14"),
                       ("jpeg-lossless-sv1", "JPEGLosslessProcess14_1")):  # fmt: skip
    case(f"syntax-{_name}", "analysed")(lambda study_uid, n=_number: [by_gdcm(ds, _gdcm(n)) for ds in head(study_uid)])


def _gdcm(name: str) -> int:
    import gdcm

    return int(getattr(gdcm.TransferSyntax, name))


case("syntax-jpeg-baseline", "analysed")(lambda study_uid: [by_gdcm(as_8_bit(ds), _gdcm("JPEGBaselineProcess1")) for ds in head(study_uid)])


@case("syntax-big-endian", "analysed")
def big_endian(study_uid: str) -> Sequence[Object]:
    made = []
    for ds in head(study_uid):
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds["PixelData"].VR = "OW"
        made.append(labelled(ds, uid.ExplicitVRBigEndian))
    return made


@case("syntaxes-mixed-in-one-series", "analysed")
def mixed(study_uid: str) -> Sequence[Object]:
    a, b, c = head(study_uid)
    return [a, compressed(b, uid.RLELossless), compressed(c)]


# --- labels that lie ------------------------------------------------------------------------------------------------------

each("unknown-syntax", "quarantined", "transfer syntax", change=lambda ds: labelled(ds, "1.2.3.4.5.6"))
each("private-ge-syntax", "quarantined", "transfer syntax", change=lambda ds: labelled(ds, "1.2.840.113619.5.2"))
each("syntax-is-no-uid", "quarantined", "transfer syntax is not known", change=lambda ds: labelled(ds, "../../etc"))
for _name, _syntax in (("mpeg2", uid.MPEG2MPML), ("mpeg4", uid.MPEG4HP41), ("hevc", uid.HEVCMP51)):
    each(f"syntax-{_name}", "declined", "video", change=lambda ds, s=_syntax: labelled(ds, s, [b"\0" * 512]))
each("says-rle-is-jpegls", "quarantined", "RLE pixel data", change=lambda ds: labelled(compressed(ds, uid.JPEGLSLossless), uid.RLELossless))
each("says-jpegls-is-jpeg2000", "quarantined", "compressed pixel data", change=lambda ds: labelled(compressed(ds), uid.JPEGLSLossless))
each("says-jpeg-is-jpeg2000", "quarantined", "compressed pixel data", change=lambda ds: labelled(compressed(ds), uid.JPEGLosslessSV1))
case("says-jpeg2000-is-raw", "quarantined", "in one piece")(
    lambda study_uid: [relabelled(encoded(ds), uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless) for ds in head(study_uid)]
)
case("syntax-jpeg-xl", "declined", "JPEG XL")(
    lambda study_uid: [
        relabelled(encoded(labelled(ds, uid.JPEG2000Lossless, [b"\xff\x0a" * 64])), uid.JPEG2000Lossless, "1.2.840.10008.1.2.4.110")
        for ds in head(study_uid)
    ]
)


def relabelled(data: bytes, old: str, new: str) -> bytes:
    """Another transfer syntax in the file meta information, padded to the same length; the data set stays as it is."""
    padded = [name.encode() + b"\0" * (len(name) % 2) for name in (old, new)]
    length = max(map(len, padded))
    at = data.index(b"\x02\0\x10\0UI")
    end = at + 8 + struct.unpack("<H", data[at + 6 : at + 8])[0]
    assert data[at + 8 : end].startswith(old.encode())
    value = padded[1].ljust(length, b"\0")
    made = data[:at] + b"\x02\0\x10\0UI" + struct.pack("<H", len(value)) + value + data[end:]
    group = struct.unpack("<I", made[140:144])[0]
    return made[:140] + struct.pack("<I", group + len(value) - (end - at - 8)) + made[144:]


@case("says-implicit-is-explicit", "analysed")
def explicit_as_implicit(study_uid: str) -> Sequence[Object]:
    return [relabelled(encoded(ds), uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian) for ds in head(study_uid)]


@case("says-explicit-is-implicit", "analysed")
def implicit_as_explicit(study_uid: str) -> Sequence[Object]:
    made = [labelled(ds, uid.ImplicitVRLittleEndian) for ds in head(study_uid)]
    return [relabelled(encoded(ds), uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian) for ds in made]


@case("says-big-endian-is-little", "skipped")
def little_as_big(study_uid: str) -> Sequence[Object]:
    return [relabelled(encoded(ds), uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian) for ds in head(study_uid)]


# --- codestreams ----------------------------------------------------------------------------------------------------------

CODED = "compressed|pixel"
for _name, _syntax in (("jpeg2000", uid.JPEG2000Lossless), ("jpegls", uid.JPEGLSLossless), ("rle", uid.RLELossless)):
    case(f"{_name}-cut-to-a-third", "quarantined", CODED)(torn(lambda data: data[: len(data) // 3], _syntax))
    case(f"{_name}-header-only", "quarantined", CODED)(torn(lambda data: data[:32], _syntax))
    case(f"{_name}-garbage", "quarantined", CODED)(torn(lambda data: bytes(range(256)) * 4, _syntax))
    case(f"{_name}-empty", "quarantined", CODED)(torn(lambda data: b"", _syntax))
    each(f"{_name}-of-another-size", "quarantined", CODED, change=lambda ds, s=_syntax: put(Rows=48, Columns=48)(compressed(ds, s)))
case("jpeg2000-65535x65535", "quarantined", CODED)(
    torn(lambda d: d[: d.index(b"\xff\x51") + 6] + struct.pack(">IIII", 65535, 65535, 0, 0) + d[d.index(b"\xff\x51") + 22 :])
)
case("jpegls-65535x65535", "quarantined", CODED)(
    torn(lambda d: d[: d.index(b"\xff\xf7") + 5] + b"\xff" * 4 + d[d.index(b"\xff\xf7") + 9 :], uid.JPEGLSLossless)
)
case("rle-200-segments", "quarantined", CODED)(torn(lambda d: struct.pack("<I", 200) + d[4:], uid.RLELossless))
case("rle-offsets-beyond", "quarantined", CODED)(torn(lambda d: struct.pack("<3I", 2, 64, 2**31) + d[12:], uid.RLELossless))


def _encapsulated(name: str, state: State, reason: str, make: Bytes) -> None:
    """A JPEG 2000 head whose whole Pixel Data value is `make`(codestream)."""

    def build(study_uid: str) -> Sequence[Object]:
        made = []
        for ds in (compressed(ds) for ds in head(study_uid)):
            ds.PixelData = make(next(generate_frames(ds.PixelData, number_of_frames=1)))
            made.append(ds)
        return made

    case(name, state, reason)(build)


def item(data: bytes) -> bytes:
    data += b"\0" * (len(data) % 2)
    return b"\xfe\xff\0\xe0" + struct.pack("<I", len(data)) + data


_encapsulated("offset-table-empty", "analysed", "", lambda d: item(b"") + item(d))
_encapsulated("offset-table-wrong", "analysed", "", lambda d: item(struct.pack("<I", 999999)) + item(d))
_encapsulated("offset-table-too-long", "analysed", "", lambda d: item(struct.pack("<5I", *range(0, 500, 100))) + item(d))
_encapsulated("offset-table-missing", "quarantined", CODED, item)
_encapsulated("frame-in-fragments", "analysed", "", lambda d: item(b"") + item(d[:100]) + item(d[100:200]) + item(d[200:]))
_encapsulated("fragments-of-two-frames", "analysed", "", lambda d: item(b"") + item(d) + item(d))
_encapsulated("thousand-empty-fragments", "analysed", "", lambda d: item(b"") + item(b"") * 1000 + item(d))
_encapsulated("no-fragments", "quarantined", CODED, lambda d: item(b""))
_encapsulated("item-longer-than-file", "quarantined", CODED, lambda d: item(b"") + b"\xfe\xff\0\xe0\xff\xff\xff\x7f" + d)
