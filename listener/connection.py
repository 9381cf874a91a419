"""connection: the socket of an association. Reads ahead in large pieces, a bounded length in a bounded time.

recv_into > buffer > `some`: views of it, without a copy, that hold until more is read
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING

from pynetdicom.transport import AssociationSocket

if TYPE_CHECKING:
    from listener.wire import Assoc

BEFORE, AFTER = 1 << 20, 1 << 24  # bytes of a PDU before and after an association is open; 128 contexts with all syntaxes take 60 kB
NARROW, WIDE = 1 << 14, 1 << 18  # bytes of the read-ahead buffer, before and after the first C-STORE: 64 idle associations keep 1 MB
_INTERVAL = Struct("@ll")  # struct timeval, socket(7)


class TooLong(OSError):
    """A PDU that says it is longer than any that we would read."""


class Socket(AssociationSocket):  # type: ignore[misc]
    """Reads ahead in large pieces, a bounded length in a bounded time. Raises OSError, TimeoutError and TooLong among them."""

    def __init__(self, assoc: Assoc, client_socket: socket.socket) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._buffer = memoryview(bytearray(NARROW))
        self._start = self._end = 0  # what of it is read ahead
        self._deadline = 0.0

    @property
    def buffered(self) -> int:
        return self._end - self._start

    @property
    def ready(self) -> bool:
        """Is there something to read, or the end?"""
        if self.socket is None or not self._is_connected:
            return False
        if self.ready_at_once:
            return True
        look = select.poll()  # select.select ends at the 1024th file
        try:
            look.register(self.socket, select.POLLIN)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False
        return bool(look.poll(0)) and self.is_for_us()

    @property
    def ready_at_once(self) -> bool:
        """Is something read ahead? What TLS has decrypted, poll does not see."""
        return bool(self.buffered or getattr(self.socket, "pending", int)())

    def is_for_us(self) -> bool:
        """Of what has come over TLS, is anything data? New keys are none (RFC 8446 4.6.3), and who waited for more would wait in vain."""
        connection = self.socket
        if not isinstance(connection, ssl.SSLSocket):
            return True
        connection.settimeout(0)
        try:
            self._start, self._end = 0, connection.recv_into(self._buffer)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True  # its end, which the next to read is told
        finally:
            with suppress(OSError):
                connection.settimeout(self.assoc.patience.pdu)
        return True

    def recv(self, nr_bytes: int) -> bytearray:
        """The library's: all of `nr_bytes`, or what came before the end. The six bytes of a header begin a new PDU."""
        if nr_bytes > (AFTER if self.assoc.is_established else BEFORE):
            raise TooLong(f"a PDU of {nr_bytes} bytes")
        self.begin_pdu()
        found = bytearray()
        while len(found) < nr_bytes and (self.buffered or self._refill()):
            found += self.some(nr_bytes - len(found))
        return found

    def begin_pdu(self) -> None:
        self._deadline = time.monotonic() + self.assoc.patience.pdu

    def peek(self) -> int:
        """The first byte of what comes next; -1 at the end."""
        return self._buffer[self._start] if self.buffered or self._refill() else -1

    def take(self, count: int) -> bytes:
        """Exactly so many bytes. Raises ConnectionError where they end before."""
        found = bytes(self.some(count))
        while len(found) < count:
            if not self._refill():
                raise ConnectionError("the connection ended within a PDU")
            found += self.some(count - len(found))
        return found

    def some(self, most: int) -> memoryview:
        """What was read ahead, up to `most` bytes; it stays as it is until more is read."""
        stop = min(self._end, self._start + most)
        found = self._buffer[self._start : stop]
        self._start = stop
        return found

    def more(self) -> None:
        """Reads on, over what was read ahead before. Raises ConnectionError at the end."""
        if not self._refill():
            raise ConnectionError("the connection ended within a PDU")

    def widen(self) -> None:
        """Instances are coming."""
        if len(self._buffer) < WIDE:
            wide = memoryview(bytearray(WIDE))
            wide[: self.buffered] = self._buffer[self._start : self._end]
            self._buffer, self._start, self._end = wide, 0, self.buffered

    def _refill(self) -> bool:
        """Called with nothing read ahead; False at the end.

        The kernel is asked to acknowledge at once, each time, for it forgets that (tcp(7)): a sender that sets no TCP_NODELAY, as dcmtk
        and pynetdicom, keeps the rest of a data set until its command is acknowledged, 40 ms unasked.
        """
        connection = self.socket
        if connection is None:
            return False
        if time.monotonic() > self._deadline:
            raise TimeoutError("a PDU took longer than listener.pdu_seconds")
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            self._start, self._end = 0, connection.recv_into(self._buffer)
        except BlockingIOError as error:
            raise TimeoutError("nothing came for listener.pdu_seconds within a PDU") from error
        return self._end > 0


def set_patience(connection: socket.socket, seconds: float) -> None:
    """Reads and writes wait for so long. The kernel counts where it can: a time-out of Python's costs a poll(2) with each of them."""
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
        return
    interval = _INTERVAL.pack(int(seconds), int(seconds % 1 * 1e6))
    connection.setblocking(True)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, interval)
