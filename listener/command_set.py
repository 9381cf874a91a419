"""command_set: the commands that stream.py answers itself, C-STORE and C-ECHO, as bytes (PS3.7 6.3.1: Implicit VR Little Endian).

    element  group <H | number <H | length <L | value

All others are the library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from pynetdicom.sop_class import Verification

LONGEST = 1 << 21  # bytes of a command set; a C-STORE request has some 300, and a UID of a megabyte still gets its status
C_STORE_RQ, C_STORE_RSP, C_ECHO_RQ, C_ECHO_RSP = 0x0001, 0x8001, 0x0030, 0x8030  # PS3.7 E.1-1
NO_DATA_SET = 0x0101
_GROUP_LENGTH, _SOP_CLASS, _FIELD, _MESSAGE, _ANSWERED = 0x0000, 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET, _STATUS, _COMMENT, _INSTANCE = 0x0800, 0x0900, 0x0902, 0x1000
_ELEMENT, _US, _UL = Struct("<HHL"), Struct("<H"), Struct("<L")


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request (PS3.7 9.3.1.1), as far as we read it."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


def store_request(command: bytes | bytearray) -> StoreRequest | None:
    """The C-STORE request in `command`; None where it is another one. Raises ValueError where it is no command set."""
    found = _elements(command)
    if _number(found, _FIELD) != C_STORE_RQ or _number(found, _MESSAGE) is None:
        return None
    return StoreRequest(
        message_id=_number(found, _MESSAGE) or 0,
        sop_class_uid=_uid(found.get(_SOP_CLASS, b"")),
        sop_instance_uid=_uid(found.get(_INSTANCE, b"")),
        has_data_set=_number(found, _DATA_SET) != NO_DATA_SET,
    )


def echo_request(command: bytes) -> int | None:
    """Message ID of the C-ECHO request (PS3.7 9.3.5.1) in `command`; None where it is no such one. Raises ValueError."""
    found = _elements(command)
    is_echo = _number(found, _FIELD) == C_ECHO_RQ and _number(found, _DATA_SET) == NO_DATA_SET
    return _number(found, _MESSAGE) if is_echo else None


def echo_response(message_id: int) -> bytes:
    """0x0000 (PS3.7 9.3.5.2)."""
    elements = [(_SOP_CLASS, Verification.encode()), (_FIELD, _US.pack(C_ECHO_RSP)), (_ANSWERED, _US.pack(message_id))]
    return _set([*elements, (_DATA_SET, _US.pack(NO_DATA_SET)), (_STATUS, _US.pack(0x0000))])


def store_response(request: StoreRequest, status: int, comment: str = "") -> bytes:
    """The answer (PS3.7 table 9.3-2). `comment` goes to Error Comment (PS3.7 C.1.4), LO, so its first 64 characters do."""
    elements = [(_FIELD, _US.pack(C_STORE_RSP)), (_ANSWERED, _US.pack(request.message_id)), (_DATA_SET, _US.pack(NO_DATA_SET))]
    elements += [(_SOP_CLASS, request.sop_class_uid.encode("ascii", "replace")[:64])]
    elements += [(_STATUS, _US.pack(status)), (_INSTANCE, request.sop_instance_uid.encode("ascii", "replace")[:64])]
    if comment:
        elements.append((_COMMENT, comment.encode("ascii", "replace")[:64].ljust(len(comment[:64]) + len(comment[:64]) % 2)))
    return _set(elements)


def _set(elements: list[tuple[int, bytes]]) -> bytes:
    body = b"".join(_element(number, value) for number, value in sorted(elements) if value)
    return _element(_GROUP_LENGTH, _UL.pack(len(body))) + body


def _elements(command: bytes | bytearray) -> dict[int, bytes]:
    """Values by element number. Raises ValueError."""
    found, at = {}, 0
    while at < len(command):
        if at + _ELEMENT.size > len(command):
            raise ValueError("it is cut off")
        group, number, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        if group != 0 or at + length > len(command):
            raise ValueError("it holds what is no element of group 0000")
        found[number] = bytes(command[at : at + length])
        at += length
    return found


def _number(found: dict[int, bytes], number: int) -> int | None:
    value = found.get(number, b"")
    return int(_US.unpack(value)[0]) if len(value) == _US.size else None


def _uid(value: bytes) -> str:
    """Without its padding (PS3.5 9.1); one trailing space is sent too, and harmless."""
    text = value.decode("ascii", "replace")
    return text[:-1] if text[-1:] in ("\0", " ") else text


def _element(number: int, value: bytes) -> bytes:
    padded = value + b"\0" * (len(value) % 2)
    return _ELEMENT.pack(0, number, len(padded)) + padded
