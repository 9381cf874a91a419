"""A sender that writes its own PDUs, so that it can be as rude as it likes.

PDUs are big endian (PS3.8 9.3), command sets implicit VR little endian (PS3.7 6.3.1).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from peers import Node, wait_for
from pydicom.uid import ExplicitVRLittleEndian, RawDataStorage
from pynetdicom.sop_class import Verification

STORE, ECHO = 1, 3  # presentation context ids
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
C_STORE_RQ, C_STORE_RSP, C_ECHO_RQ, C_ECHO_RSP, C_CANCEL_RQ = 0x0001, 0x8001, 0x0030, 0x8030, 0x0FFF
COMMAND, LAST = 1, 2  # bits of a PDV's message control header (PS3.8 E.2)
NO_DATA_SET, DATA_SET = 0x0101, 0x0000


class Ended(Exception):
    """The peer closed, reset or aborted the association."""


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxL", kind, len(body) if length is None else length) + body


def pdv(context: int, control: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack(">LBB", len(value) + 2 if length is None else length, context, control) + value


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def associate_rq(calling: str = "CT01", called: str = "VITALCHECK", sop_class: str = RawDataStorage) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2) for storage and verification in explicit VR little endian."""
    contexts = b""
    for number, abstract, transfer in ((STORE, sop_class, ExplicitVRLittleEndian), (ECHO, Verification, "1.2.840.10008.1.2")):
        items = _item(0x30, abstract.encode()) + _item(0x40, transfer.encode())
        contexts += _item(0x20, bytes([number, 0, 0, 0]) + items)
    user = _item(0x50, _item(0x51, struct.pack(">L", 0)) + _item(0x52, b"1.2.3.4"))
    names = called.ljust(16).encode() + calling.ljust(16).encode()
    return pdu(ASSOCIATE_RQ, b"\0\1\0\0" + names + bytes(32) + _item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + user)


def element(number: int, value: bytes) -> bytes:
    """One element of group 0000, implicit VR little endian (PS3.7 6.3.1)."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def command(field: int, *elements: bytes, data: int = NO_DATA_SET, message_id: int = 1, group_length: int | None = None) -> bytes:
    """A command set; `elements` come last, `group_length` may lie."""
    body = element(0x0100, struct.pack("<H", field)) + element(0x0110, struct.pack("<H", message_id))
    body += element(0x0800, struct.pack("<H", data)) + b"".join(elements)
    return element(0, struct.pack("<L", len(body) if group_length is None else group_length)) + body


def store_rq(uid: bytes | None, *, sop_class: str = RawDataStorage, message_id: int = 1, group_length: int | None = None) -> bytes:
    """C-STORE-RQ (PS3.7 9.3.1.1), its elements in the order of their tags."""
    body = (
        element(0x0002, sop_class.encode())
        + element(0x0100, struct.pack("<H", C_STORE_RQ))
        + element(0x0110, struct.pack("<H", message_id))
    )
    body += element(0x0700, b"\0\0") + element(0x0800, struct.pack("<H", DATA_SET))
    body += b"" if uid is None else element(0x1000, uid)
    return element(0, struct.pack("<L", len(body) if group_length is None else group_length)) + body


def element_of(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element in explicit VR little endian (PS3.5 7.1.2)."""
    value += b"\0" * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + (struct.pack("<xxL", len(value)) if vr == b"OB" else struct.pack("<H", len(value))) + value


def data_set(uid: str, size: int = 2000, *, study: str | bytes = "1.2.99", sop_class: str = RawDataStorage) -> bytes:
    """A raw data object of `size` bytes and a few: all of it is decided by `uid`, no two are alike. It starts no work."""
    study = study.encode() if isinstance(study, str) else study
    names = element_of(0x00080016, b"UI", sop_class.encode()) + element_of(0x00080018, b"UI", uid.encode())
    names += element_of(0x00080060, b"CS", b"OT") + element_of(0x0020000D, b"UI", study) + element_of(0x0020000E, b"UI", b"1.2.99.1")
    pattern = uid.encode() + bytes(range(256))
    values = (pattern * (size // len(pattern) + 1))[:size]
    return names + element_of(0x00420011, b"OB", values)  # Encapsulated Document: any element without an end would do


class Rude:
    """A connection to our port. It says only what it is told to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=3)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Rude:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        """Raises Ended where the peer hung up."""
        try:
            self.socket.sendall(b"".join(parts))
        except (ConnectionError, TimeoutError) as error:
            raise Ended(str(error)) from error

    def fragments(self, context: int, control: int, values: Iterable[bytes]) -> None:
        """Each value as a PDV in a PDU of its own, the last of them marked as such."""
        held = list(values)
        for index, value in enumerate(held):
            self.send(pdu(P_DATA, pdv(context, control | (LAST if index == len(held) - 1 else 0), value)))

    def associate(self, **names: str) -> Rude:
        """Raises Ended where we are not let in."""
        self.send(associate_rq(**names))
        kind, _ = self.receive()
        if kind != ASSOCIATE_AC:
            raise Ended(f"answered by a PDU of type {kind}")
        return self

    def receive(self, seconds: float = 3.0) -> tuple[int, bytes]:
        """The next PDU: its type, and what follows its length. Raises Ended, or TimeoutError after `seconds`."""
        self.socket.settimeout(seconds)
        kind, length = struct.unpack(">BxL", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            try:
                more = self.socket.recv(count - len(got))
            except ConnectionError as error:
                raise Ended(str(error)) from error
            if not more:
                raise Ended("closed")
            got += more
        return bytes(got)

    def answer(self, seconds: float = 3.0) -> dict[int, bytes]:
        """The elements of the next command set that comes, by element number. Raises Ended where an abort comes instead."""
        values = bytearray()
        while True:
            kind, body = self.receive(seconds)
            if kind != P_DATA:
                raise Ended(f"answered by a PDU of type {kind}")
            for control, value in _values(body):
                values += value
                if control & LAST:
                    return elements(bytes(values))

    def status(self, seconds: float = 3.0) -> int:
        """The status of the next answer (PS3.7 C)."""
        return int.from_bytes(self.answer(seconds)[0x0900], "little")

    def echo(self) -> int:
        self.send(pdu(P_DATA, pdv(ECHO, COMMAND | LAST, echo_rq())))
        return self.status()

    def store(self, uid: str, data: bytes, *, fragment: int = 16000, message_id: int = 1) -> int:
        """An orderly C-STORE; its status."""
        self.send(pdu(P_DATA, pdv(STORE, COMMAND | LAST, store_rq(uid.encode(), message_id=message_id))))
        self.fragments(STORE, 0, cut(data, fragment))
        return self.status(10)

    def release(self) -> None:
        self.send(pdu(RELEASE_RQ, bytes(4)))
        assert self.receive()[0] == RELEASE_RP

    def ending(self, seconds: float) -> bool:
        """Does the peer close or abort within `seconds`? Whatever else it says meanwhile is passed over."""
        deadline = time.monotonic() + seconds
        with suppress(TimeoutError):
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                try:
                    if not self.socket.recv(65536):
                        return True
                except ConnectionError:
                    return True
        return False


def echo_rq() -> bytes:
    """C-ECHO-RQ (PS3.7 9.3.5.1)."""
    body = element(0x0002, Verification.encode()) + element(0x0100, struct.pack("<H", C_ECHO_RQ)) + element(0x0110, b"\1\0")
    body += element(0x0800, struct.pack("<H", NO_DATA_SET))
    return element(0, struct.pack("<L", len(body))) + body


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _values(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(message control header, value) of each PDV in the body of a P-DATA-TF (PS3.8 9.3.5)."""
    at = 0
    while at < len(body):
        length, _context, control = struct.unpack_from(">LBB", body, at)
        yield control, body[at + 6 : at + 4 + length]
        at += 4 + length


def elements(command_set: bytes) -> dict[int, bytes]:
    """A command set by element number."""
    found, at = {}, 0
    while at < len(command_set):
        _group, number, length = struct.unpack_from("<HHL", command_set, at)
        found[number] = command_set[at + 8 : at + 8 + length]
        at += 8 + length
    return found


@contextmanager
def sender(port: int, **names: str) -> Iterator[Rude]:
    """An association that is let in."""
    with Rude(port) as rude:
        yield rude.associate(**names)


def stored(spool: Path, uid: str) -> bytes:
    """What lies in the spool of the data set: the file without preamble and file meta information (PS3.10 7.1)."""
    (path,) = spool.glob(f"*/{uid}.dcm")
    whole = path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


_numbers = count(1)


def new_uid() -> str:
    """A SOP Instance UID that no other call gives."""
    return f"1.2.99.1.{next(_numbers)}"


def serves(node: Node) -> None:
    """C-ECHO and C-STORE of a newcomer are answered within 3 s, and what is stored is what was sent; no part stays in the spool."""
    uid, began = new_uid(), time.monotonic()
    with sender(node.port) as rude:
        assert rude.echo() == 0x0000
        assert rude.store(uid, data_set(uid)) == 0x0000
        assert time.monotonic() - began < 3.0
        rude.release()
    assert stored(node.spool, uid) == data_set(uid)
    wait_for(lambda: not list((node.spool / "incoming").iterdir()), 3, "an empty spool/incoming")


@contextmanager
def flat(pid: int, mebibytes: int = 12) -> Iterator[None]:
    """The resident memory of `pid` never grows by more meanwhile, not even for a moment (proc(5): clear_refs, VmHWM)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the high-water mark is now what it has
    before = _high_water(pid)
    yield
    grown = (_high_water(pid) - before) >> 20
    assert grown < mebibytes, f"{grown} MiB more"


def _high_water(pid: int) -> int:
    """Bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10
