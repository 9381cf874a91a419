"""uids: which instance is this? The four UIDs out of the first bytes of a data set, in some 50 microseconds.

    group <H | number <H | VR | length | value      (PS3.5 7.1.2, 7.1.3; elements come in order of their tags)

Only what every scanner writes is read here. Where anything is unusual - big endian, deflated, a sequence of undefined length before the
UIDs, a UID that is none - the answer is None, and `headers.read` says what it is.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import NamedTuple

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

_CLASS, _INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_OTHERS = frozenset({ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian})
_EXPLICIT, _IMPLICIT, _LENGTH = Struct("<HH2sH"), Struct("<HHL"), Struct("<L")
_LONG = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)*")
_UNDEFINED = 0xFFFFFFFF


class Uids(NamedTuple):
    sop_class: str
    sop_instance: str
    study: str
    series: str


def read(head: bytes | bytearray, transfer_syntax_uid: str) -> Uids | None:
    """The UIDs, where the beginning of the data set `head` reaches as far as the last of them."""
    found: dict[int, str] = {}
    explicit = head[4:6].isalpha() and head[4:6].isupper()  # what the first element shows, as headers.read takes it
    at, tag = 0, 0
    while transfer_syntax_uid not in _OTHERS and tag < _SERIES and at + 12 <= len(head):
        if explicit:
            group, number, vr, length = _EXPLICIT.unpack_from(head, at)
            at += 8
            if vr in _LONG:
                length = _LENGTH.unpack_from(head, at)[0]
                at += 4
        else:
            group, number, length = _IMPLICIT.unpack_from(head, at)
            at += 8
        before, tag = tag, group << 16 | number
        if length == _UNDEFINED or tag < before:
            return None
        if tag in (_CLASS, _INSTANCE, _STUDY, _SERIES):
            found[tag] = _text(head[at : at + length])
        at += length
    uids = [found.get(wanted, "") for wanted in (_CLASS, _INSTANCE, _STUDY, _SERIES)]
    return Uids(*uids) if all(uids) and at <= len(head) else None


def _text(value: bytes | bytearray) -> str:
    """Empty where it is no UID of at most 64 characters (PS3.5 9.1)."""
    text = value.rstrip(b"\0 ")
    return text.decode() if len(text) <= 64 and _UID.fullmatch(text) else ""
