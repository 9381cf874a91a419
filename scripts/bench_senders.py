"""The senders of `make bench-receive`: bare sockets that write C-STORE requests made beforehand and read the answers.

    connect > A-ASSOCIATE > write a whole request, read its C-STORE-RSP, ... > A-RELEASE

One thread for each association; it sleeps in `sendall` or `recv` nearly all the time. All receivers get the same bytes, in PDUs as large as
each allows. TCP_NODELAY is set, as on any sender that was made to be fast. Like most scanners it has one request open at a time
(PS3.7 D.3.3.3: no asynchronous operations).
"""

from __future__ import annotations

import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.uid import ExplicitVRLittleEndian

from scripts.bench_objects import (
    COMMAND,
    INSTANCE,
    LAST,
    P_DATA_TF,
    PRESENTATION_CONTEXT,
    SERIES,
    STUDY,
    Kind,
    command,
    new_uid,
    p_data,
    request,
    us,
)

CALLED, CALLING = "VITALCHECK", "BENCH"
EXPLICIT = str(ExplicitVRLittleEndian)
VERIFICATION, ECHO_CONTEXT, C_ECHO_RQ, NO_DATA_SET = "1.2.840.10008.1.1", 1, 0x0030, 0x0101  # PS3.4 A.4; PS3.7 9.3.5.1
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
IMPLEMENTATION = "2.25.314159265358979323846264338327950288"
LARGEST = 131072  # bytes: the largest PDU that dcmtk takes or makes
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RQ, RELEASE_RP = 1, 2, 3, 5, 6  # PS3.8 9.3.1
PATIENCE = 60.0  # s for any answer
STATUS = 0x0900


class NotSent(Exception):
    """One line: what the receiver did instead of answering."""


class Rejected(NotSent):
    """A-ASSOCIATE-RJ: the receiver has as many associations as it takes."""


@dataclass(frozen=True)
class Burst:
    """What became of senders that started together. `seconds` from the first connection to the last acknowledgement."""

    instances: int = 0  # acknowledged with 0x0000
    bytes: int = 0  # of their data sets
    seconds: float = 0.0
    rejected: int = 0  # associations
    failures: tuple[str, ...] = ()
    uids: tuple[str, ...] = field(default=(), repr=False)  # SOP Instance UIDs that were acknowledged

    @property
    def rate(self) -> float:
        """Instances in a second; nan where something was not acknowledged: half a result is none."""
        return self.instances / self.seconds if self.instances and not (self.rejected or self.failures) else float("nan")


class Association:
    """One association as requestor, established. Raises Rejected, NotSent or OSError; so does every method."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.sendall(associate_rq())
            kind, body = read_pdu(self._socket)
            if kind != ASSOCIATE_AC:
                raise Rejected("rejected") if kind == ASSOCIATE_RJ else NotSent(f"PDU type {kind} instead of A-ASSOCIATE-AC")
            self.accepted, self.maximum = negotiated(body)
        except BaseException:
            self._socket.close()
            raise

    def store(self, kind: Kind, count: int) -> Iterator[tuple[str, int]]:
        """Sends `count` new instances of one new study; for each its SOP Instance UID and the status it was answered with."""
        if PRESENTATION_CONTEXT[kind.sop_class_uid] not in self.accepted:
            raise NotSent(f"{kind.name}: no presentation context was accepted")
        template, study, series = request(kind, self.maximum), new_uid(), new_uid()
        for _ in range(count):
            uid = new_uid()
            self._socket.sendall(template.named({STUDY: study, SERIES: series, INSTANCE: uid}))
            self._socket.sendall(template.rest)
            yield uid, self._status()

    def echo(self) -> int:
        """C-ECHO; the status."""
        elements = [(0x0002, VERIFICATION.encode() + b"\0"), (0x0100, us(C_ECHO_RQ)), (0x0110, us(1)), (0x0800, us(NO_DATA_SET))]
        self._socket.sendall(b"".join(p_data(command(elements), ECHO_CONTEXT, COMMAND, self.maximum)))
        return self._status()

    def release(self) -> None:
        """A-RELEASE-RQ, and then the connection closed."""
        with self._socket:
            self._socket.sendall(struct.pack(">BBLL", RELEASE_RQ, 0, 4, 0))
            kind, _ = read_pdu(self._socket)
        if kind != RELEASE_RP:
            raise NotSent(f"PDU type {kind} instead of A-RELEASE-RP")

    def close(self) -> None:
        self._socket.close()

    def _status(self) -> int:
        """Of the response (PS3.7 9.3.1.2): its command set may come in fragments."""
        command_set = b""
        while True:
            kind, body = read_pdu(self._socket)
            if kind != P_DATA_TF:
                raise NotSent(f"PDU type {kind} instead of a response")
            for control, fragment in pdvs(body):
                command_set += fragment
                if control & LAST:
                    return struct.unpack("<H", elements_of(command_set)[STATUS])[0]  # type: ignore[no-any-return]


# --- a burst ----------------------------------------------------------------------------------------------------------


def burst(port: int, kind: Kind, associations: int, each: int) -> Burst:
    """`associations` senders connect at once and send `each` instances. Nothing is raised: failures are told."""
    try:
        size = _prepare(port, kind)
    except (NotSent, OSError) as error:
        return Burst(failures=(str(error),))
    barrier, senders = threading.Barrier(associations), [_Sender(port, kind, each) for _ in range(associations)]
    threads = [threading.Thread(target=sender.run, args=(barrier,), daemon=True) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    uids = [uid for sender in senders for uid in sender.uids]
    return Burst(
        instances=len(uids),
        bytes=len(uids) * size,
        seconds=max(sender.ended for sender in senders) - min(sender.started for sender in senders),
        rejected=sum(sender.rejected for sender in senders),
        failures=tuple(failure for sender in senders for failure in sender.failures),
        uids=tuple(uids),
    )


def _prepare(port: int, kind: Kind) -> int:
    """Makes the request for the PDUs that this receiver takes, before the clock starts; bytes of its data set."""
    assoc = Association(port)
    assoc.release()
    return request(kind, assoc.maximum).size


class _Sender:
    """One thread of a burst, and what it found."""

    def __init__(self, port: int, kind: Kind, each: int) -> None:
        self._port, self._kind, self._each = port, kind, each
        self.uids: list[str] = []
        self.failures: list[str] = []
        self.rejected, self.started, self.ended = 0, 0.0, 0.0

    def run(self, barrier: threading.Barrier) -> None:
        barrier.wait()
        self.started = time.perf_counter()
        try:
            self._send()
        except Rejected:
            self.rejected = 1
        except (NotSent, OSError, ValueError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
        self.ended = self.ended or time.perf_counter()

    def _send(self) -> None:
        assoc = Association(self._port)
        try:
            for uid, status in assoc.store(self._kind, self._each):
                if status == 0x0000:
                    self.uids.append(uid)
                else:
                    self.failures.append(f"status 0x{status:04X}")
            self.ended = time.perf_counter()
            assoc.release()
        finally:
            assoc.close()


def echo_ms(port: int, count: int) -> float:
    """Median ms from a C-ECHO request to its response, on one association that does nothing else."""
    assoc = Association(port)
    times = []
    for _ in range(count):
        started = time.perf_counter()
        if assoc.echo() != 0x0000:
            raise NotSent("C-ECHO was not answered with 0x0000")
        times.append(time.perf_counter() - started)
    assoc.release()
    return statistics.median(times) * 1000


def set_up_ms(port: int, count: int) -> float:
    """Median ms from the connection to A-ASSOCIATE-AC, one association after the other."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        assoc = Association(port)
        times.append(time.perf_counter() - started)
        assoc.release()
    return statistics.median(times) * 1000


# --- PS3.8 ------------------------------------------------------------------------------------------------------------


def associate_rq() -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2) for verification and storage, Explicit VR Little Endian."""
    classes = {ECHO_CONTEXT: VERIFICATION, **{context: sop_class for sop_class, context in PRESENTATION_CONTEXT.items()}}
    contexts = b"".join(
        item(0x20, bytes([context, 0, 0, 0]) + item(0x30, sop_class.encode()) + item(0x40, ExplicitVRLittleEndian.encode()))
        for context, sop_class in classes.items()
    )
    user = item(0x51, struct.pack(">L", LARGEST)) + item(0x52, IMPLEMENTATION.encode())
    titles = CALLED.ljust(16).encode() + CALLING.ljust(16).encode() + bytes(32)
    body = b"\0\1\0\0" + titles + item(0x10, APPLICATION_CONTEXT.encode()) + contexts + item(0x50, user)
    return struct.pack(">BBL", ASSOCIATE_RQ, 0, len(body)) + body


def negotiated(body: bytes) -> tuple[frozenset[int], int]:
    """From A-ASSOCIATE-AC (PS3.8 9.3.3): accepted presentation contexts, and how large our PDUs may be (D.1; 0: any size)."""
    fields = list(items(body[68:]))
    accepted = frozenset(value[0] for kind, value in fields if kind == 0x21 and value[2] == 0)
    sizes = [struct.unpack(">L", size)[0] for kind, user in fields if kind == 0x50 for sub, size in items(user) if sub == 0x51]
    return accepted, min([size for size in sizes if size] + [LARGEST])


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def items(body: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 4 <= len(body):
        kind, _, length = struct.unpack_from(">BBH", body, place)
        yield kind, body[place + 4 : place + 4 + length]
        place += 4 + length


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """(type, what comes after the length) of the next PDU. Raises NotSent where the connection ends."""
    kind, _, length = struct.unpack(">BBL", _exactly(connection, 6))
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = connection.recv(count - len(got))
        if not more:
            raise NotSent("the connection was closed")
        got += more
    return got


def pdvs(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(message control header, fragment) of each presentation data value (PS3.8 9.3.5.1)."""
    place = 0
    while place + 6 <= len(body):
        length, _, control = struct.unpack_from(">LBB", body, place)
        yield control, body[place + 6 : place + 4 + length]
        place += 4 + length


def elements_of(command_set: bytes) -> dict[int, bytes]:
    """Values of a command set by their element number."""
    values, place = {}, 0
    while place + 8 <= len(command_set):
        _, element, length = struct.unpack_from("<HHL", command_set, place)
        values[element] = command_set[place + 8 : place + 8 + length]
        place += 8 + length
    return values
