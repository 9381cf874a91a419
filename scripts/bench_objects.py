"""What `make bench-receive` sends: CT, MR and one large multi-frame instance, as the bytes of their C-STORE requests.

    data set > C-STORE-RQ > P-DATA-TF PDUs with placeholders for UIDs > (per instance) the same bytes with UIDs of its own

Encoded once and patched in place: what the sender then does for an instance costs next to nothing, and is the same for every receiver.
"""

from __future__ import annotations

import functools
import itertools
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, MRImageStorage
from pynetdicom.dsutils import encode

PRESENTATION_CONTEXT = {CTImageStorage: 3, MRImageStorage: 5, EnhancedMRImageStorage: 7}
C_STORE_RQ, MEDIUM, HAS_DATA_SET = 0x0001, 0x0000, 0x0001  # PS3.7 E.1-1: Command Field, Priority, Command Data Set Type (not 0x0101)
P_DATA_TF, COMMAND, LAST = 4, 1, 2  # PS3.8 9.3.5; E.2: message control header
_ROOT = 10**38  # UIDs under 2.25 (PS3.5 B.2) of one length, 44 characters, so that one can be written over another
STUDY, SERIES, INSTANCE = (f"2.25.{_ROOT + k}" for k in (1, 2, 3))  # placeholders
HEAD = 4096  # bytes of a request before which all placeholders stand
_numbers = itertools.count(time.time_ns())


@dataclass(frozen=True)
class Kind:
    """An instance to be sent. `associations` is the most that send it at once: 64 times 64 MB are not a question of receiving."""

    name: str
    sop_class_uid: str
    modality: str
    rows: int
    columns: int
    frames: int
    associations: int = 1024
    tool: bool = False  # sent by processes of storescu (bench_tools.py), else by our own sockets

    def each(self, associations: int, *, quick: bool = False) -> int:
        """Instances that each association sends, as one study: enough for a time that can be told, few enough for minutes."""
        if self.frames > 1:
            return 1
        if self.tool:
            return max(4, 24 // associations) if quick else max(12, 240 // associations)
        return max(4, 24 // associations) if quick else max(10, 100 // associations)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("CT", CTImageStorage, "CT", 512, 512, 1),
        Kind("CT by storescu", CTImageStorage, "CT", 512, 512, 1, tool=True),
        Kind("MR", MRImageStorage, "MR", 256, 256, 1),
        Kind("multi-frame", EnhancedMRImageStorage, "MR", 256, 256, 512, associations=4),
    )
}


def new_uid() -> str:
    """One that no run had before."""
    return f"2.25.{_ROOT + next(_numbers)}"


def data_set(kind: Kind) -> bytes:
    """In Explicit VR Little Endian: noise for pixels, and placeholders for the UIDs of study, series and instance."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = kind.sop_class_uid, INSTANCE, STUDY, SERIES
    ds.ImageType, ds.Modality, ds.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], kind.modality, "Noise"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Bench^Noise", "BENCH", "", ""
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = "20260101", "120000", "", "", "1"
    ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription, ds.BodyPartExamined = 1, 1, "noise for a benchmark", "ABDOMEN"
    ds.FrameOfReferenceUID, ds.ImageOrientationPatient, ds.ImagePositionPatient = STUDY, [1, 0, 0, 0, 1, 0], [0, 0, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = [0.7, 0.7], 1.0, 1, -1024
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = kind.rows, kind.columns, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    if kind.frames > 1:
        ds.NumberOfFrames = kind.frames
    ds.add_new(0x7FE00010, "OW", _noise(kind.rows * kind.columns * kind.frames))
    return encode(ds, is_implicit_vr=False, is_little_endian=True) or b""


def _noise(pixels: int) -> bytes:
    return np.random.default_rng(0).integers(0, 4096, pixels, np.uint16).tobytes()


@dataclass(frozen=True)
class Request:
    """A whole C-STORE request as PDUs: `head` with the places of placeholders, and the `rest`. `size`: bytes of the data set alone."""

    head: bytes
    rest: bytes
    places: dict[str, tuple[int, ...]]
    size: int

    def named(self, uids: dict[str, str]) -> bytes:
        """`head` with UIDs in place of their placeholders."""
        head = bytearray(self.head)
        for placeholder, uid in uids.items():
            for place in self.places[placeholder]:
                head[place : place + len(uid)] = uid.encode()
        return bytes(head)


@functools.cache
def request(kind: Kind, maximum: int) -> Request:
    """For a receiver whose PDUs may have `maximum` bytes after the PDU header (PS3.8 D.1)."""
    ds = data_set(kind)
    context = PRESENTATION_CONTEXT[kind.sop_class_uid]
    pdus = b"".join([*p_data(command_set(kind.sop_class_uid), context, COMMAND, maximum), *p_data(ds, context, 0, maximum)])
    head = pdus[:HEAD]
    places = {placeholder: tuple(_places(head, placeholder.encode())) for placeholder in (STUDY, SERIES, INSTANCE)}
    return Request(head, pdus[HEAD:], places, len(ds))


def _places(head: bytes, placeholder: bytes) -> Iterator[int]:
    place = head.find(placeholder)
    while place >= 0:
        yield place
        place = head.find(placeholder, place + 1)


def command_set(sop_class_uid: str) -> bytes:
    """C-STORE-RQ (PS3.7 9.3.1.1) for the placeholder instance. One request at a time is open, so its Message ID may always be 1."""
    elements = ((0x0002, _padded(sop_class_uid)), (0x0100, us(C_STORE_RQ)), (0x0110, us(1)), (0x0700, us(MEDIUM)))
    return command([*elements, (0x0800, us(HAS_DATA_SET)), (0x1000, _padded(INSTANCE))])


def command(elements: list[tuple[int, bytes]]) -> bytes:
    """Elements of group 0, Implicit VR Little Endian, under their Command Group Length (PS3.7 6.3.1)."""
    body = b"".join(struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def p_data(message: bytes, context: int, control: int, maximum: int) -> Iterator[bytes]:
    """`message` as P-DATA-TF PDUs of one PDV each (PS3.8 9.3.5), `maximum` bytes at most: 4 of length, context, control, fragment."""
    step = maximum - 6
    for start in range(0, len(message), step):
        fragment = message[start : start + step]
        last = LAST if start + step >= len(message) else 0
        yield struct.pack(">BBLLBB", P_DATA_TF, 0, len(fragment) + 6, len(fragment) + 2, context, control | last) + fragment


def _padded(uid: str) -> bytes:
    """UIDs have an even length (PS3.5 9.1)."""
    return uid.encode() + b"\0" * (len(uid) % 2)


def us(value: int) -> bytes:
    return struct.pack("<H", value)
