"""wire: pynetdicom's server, socket, upper layer and association, made to wait for events instead of asking for them every millisecond.

                          connection
                              |
      Server.finish_request   |   TLS: hands are shaken here, in the connection's own thread
                              v
    Sta2   Upper: A-ASSOCIATE-RQ within acse_seconds, at most BEFORE bytes         else closed
    Sta3   Assoc: EVT_REQUESTED > rejected (Sta13) or accepted
    Sta6   Upper: P-DATA > stream.py: C-STORE > spool; all else > the library      each PDU within pdu_seconds, at most AFTER bytes
           Assoc: C-ECHO, N-ACTION, release, abort; silence of network_seconds     aborted
    Sta13  what is still sent is not read any more, the connection is closed       (the library reads and answers it, for ever)

States and events are those of PS3.8 9.2; the machine itself is the library's. Two threads per association, as there, but both sleep
until the socket, a queue or a timer has something for them. All names of the library that are overridden here are private, so its
version is pinned, and tests/test_wire.py names what changed where another one is installed.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeVar

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from listener import logs
from listener.stream import P_DATA, Malformed, Store, Stream

if TYPE_CHECKING:
    from listener.tls import Door

log = logs.get()

BEFORE, AFTER = 1 << 20, 1 << 24  # bytes of a PDU before and after an association is open; 128 contexts with all syntaxes take 60 kB
NARROW, WIDE = 1 << 14, 1 << 18  # bytes of the read-ahead buffer, before and after the first C-STORE: 64 idle associations keep 1 MB
UNASKED = 64  # connections that have not asked for an association yet; the oldest makes room for the next
LONGEST_SLEEP = 60.0  # s; nothing needs it, but a wake-up that was lost would not be for ever
LINGER = 0.05  # s for the next instance to come, before the reactor goes its round: senders have it ready
_INTERVAL = Struct("@ll")  # struct timeval, socket(7)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds; from where they are counted stands in docs/configuration.md."""

    acse: float
    pdu: float
    network: float


class TooLong(OSError):
    """A PDU that says it is longer than any that we would read."""


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """Listens. Set `patience`, `store` and, on a TLS port, `door` before it serves."""

    request_queue_size = 256  # with the library's 5, a burst of 64 senders loses connections
    daemon_threads = True  # nobody waits for a handshake when we stop
    block_on_close = False
    patience: Patience
    store: Store
    door: Door | None = None  # the library would shake hands in the accept loop, where one silent client stops all

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unasked: dict[Assoc, None] = {}  # oldest first
        self._counting = threading.Lock()
        super().__init__(*args, request_handler=_Handler, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = self.socket.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """A plain connection needs no thread to come in."""
        if self.door:
            super().process_request(request, client_address)
        else:
            self.process_request_thread(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        entered = self.door.enter(request, client_address[0]) if self.door else request
        if entered is not None:
            _bound(entered, self.patience.pdu)
            super().finish_request(entered, client_address)

    def service_actions(self) -> None:
        """The library collects garbage here, which stops every association for its time; what it means to free, we close by hand."""

    def came(self, assoc: Assoc) -> None:
        """A connection that has not asked for anything yet. Of too many, the one that has been silent for longest is closed."""
        with self._counting:
            self._unasked[assoc] = None
            oldest = next(iter(self._unasked)) if len(self._unasked) > UNASKED else None
            if oldest:
                del self._unasked[oldest]
        if oldest:
            oldest.hang_up()

    def asked(self, assoc: Assoc) -> None:
        with self._counting:
            self._unasked.pop(assoc, None)


class _Handler(RequestHandler):  # type: ignore[misc]
    def _create_association(self) -> Assoc:
        """As the library's, with our classes, and without its copy of all contexts, which takes 47 ms."""
        server: Server = self.server
        assoc = Assoc(self.ae, server)
        assoc.set_socket(Socket(assoc, client_socket=self.request))
        acceptor = assoc.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = server.ae_title
        acceptor.address_info, assoc.requestor.address_info = self.local, self.remote
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        acceptor.supported_contexts = server.contexts
        for event, bound in server._handlers.items():
            if event.is_intervention and bound:
                assoc.bind(event, *bound)
            elif isinstance(event, evt.NotificationEvent):
                for handler, arguments in bound:
                    assoc.bind(event, handler, arguments)
        server.came(assoc)
        return assoc


class Socket(AssociationSocket):  # type: ignore[misc]
    """Reads ahead in large pieces, a bounded length in a bounded time. Raises OSError, TimeoutError and TooLong among them."""

    def __init__(self, assoc: Assoc, client_socket: socket.socket) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._buffer = memoryview(bytearray(NARROW))
        self._start = self._end = 0  # what of it is read ahead
        self._deadline = 0.0
        self.before_refill: Callable[[], None] = _nothing  # who still holds what was read ahead

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
        return bool(look.poll(0))

    @property
    def ready_at_once(self) -> bool:
        """Is something read ahead? What TLS has decrypted, poll does not see."""
        return bool(self.buffered or getattr(self.socket, "pending", int)())

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
        """What was read ahead, up to `most` bytes; it stays as it is until `before_refill` is called."""
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

    def forget(self) -> None:
        """Nobody holds what was read ahead any more."""
        self.before_refill = _nothing

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
        self.before_refill()
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            self._start, self._end = 0, connection.recv_into(self._buffer)
        except BlockingIOError as error:
            raise TimeoutError("nothing came for listener.pdu_seconds within a PDU") from error
        return self._end > 0


def _bound(connection: socket.socket, seconds: float) -> None:
    """Reads and writes wait for so long. The kernel counts where it can: a time-out of Python's costs a poll(2) with each of them."""
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
        return
    interval = _INTERVAL.pack(int(seconds), int(seconds % 1 * 1e6))
    connection.setblocking(True)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, interval)


def _nothing() -> None:
    """Nobody holds anything."""


class _Bell:
    """Wakes a thread that polls. Once closed it is silent: its number may be that of a file by then."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = threading.Lock()  # a descriptor that was closed may be that of an instance now, and a ring would be written into it

    def ring(self) -> None:
        with self._closing, suppress(BlockingIOError):
            if self.descriptor >= 0:  # else there is nobody to wake
                os.eventfd_write(self.descriptor, 1)

    def silence(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        with self._closing:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


class _Ringing(queue.Queue[_T]):
    """A queue that wakes whoever waits for it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def _put(self, item: _T) -> None:
        super()._put(item)
        self._ring()


class Upper(DULServiceProvider):  # type: ignore[misc]
    """The upper layer's thread: reads PDUs, and does what the state machine says."""

    def __init__(self, assoc: Assoc) -> None:
        super().__init__(assoc)
        self._bell = _Bell()
        self.to_provider_queue: queue.Queue[Any] = _Ringing(self._bell.ring)
        self.to_user_queue: queue.Queue[Any] = _Ringing(assoc.told)
        self._stream: Stream | None = None

    def kill_dul(self) -> None:
        super().kill_dul()
        self._bell.ring()

    def stop_dul(self) -> bool:
        if self.state_machine.current_state == "Sta1":
            self.kill_dul()
        return bool(super().stop_dul())

    def run_reactor(self) -> None:
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                self._turn()
        except (InvalidEventError, queue.Empty) as error:  # what its state does not know, or what another thread took away
            log.debug("assoc.broken", error=logs.explain(error))
            self._break_off()
        except Exception as error:  # noqa: BLE001 - of one association; the others go on
            log.error("assoc.broken", error=logs.explain(error))
            self._break_off()
        finally:
            if self._stream:
                self._stream.give_up()
            self._bell.close()
            self.assoc.wake()

    def _turn(self) -> None:
        if self.artim_timer.expired:
            self.event_queue.put("Evt18")
        if not self._process_recv_primitive() and self._is_transport_event():
            self._idle_timer.restart()
        try:
            event = self.event_queue.get(block=False)
        except queue.Empty:
            self._sleep()
        else:
            self.state_machine.do_action(event)

    def _sleep(self) -> None:
        """Until there is something to read, to send or to time out."""
        connection: Any = self.socket.socket if self.socket else None
        if self.socket.ready:
            return
        waiting = select.poll()
        waiting.register(self._bell.descriptor, select.POLLIN)
        with suppress(OSError, ValueError, TypeError):  # closed meanwhile: its end rings the bell
            waiting.register(connection, select.POLLIN)
        for descriptor, _ in waiting.poll(1000 * self._time_left()):
            if descriptor == self._bell.descriptor:
                self._bell.silence()

    def more_comes(self) -> bool:
        """Is there something to read before there is anything else to do?"""
        if self.socket.ready_at_once:
            return True
        waiting = select.poll()
        waiting.register(self._bell.descriptor, select.POLLIN)
        waiting.register(self.socket.socket, select.POLLIN)
        ready = [descriptor for descriptor, _ in waiting.poll(1000 * LINGER)]
        return bool(ready) and self._bell.descriptor not in ready

    def _time_left(self) -> float:
        timer = self.artim_timer
        runs = timer._start_time is not None and timer._end_time is None and timer.timeout is not None
        return min(LONGEST_SLEEP, max(0.0, timer.remaining) + 0.001) if runs else LONGEST_SLEEP

    def _is_transport_event(self) -> bool:
        if self.state_machine.current_state == "Sta13":
            self.socket.close()
            return True
        return bool(super()._is_transport_event())

    def _read_pdu_data(self) -> None:
        if self.state_machine.current_state != "Sta6":
            super()._read_pdu_data()
            return
        try:
            self.socket.begin_pdu()
            if self.socket.peek() != P_DATA:
                super()._read_pdu_data()
                return
            self._stream = self._stream or Stream(self, self.assoc.store)
            self.assoc.wait_until_open()
            self._stream.read()
        except Malformed as error:
            log.debug("assoc.malformed", reason=str(error))
            self._break_off()
        except OSError:  # the end of the connection, a PDU that is too long or takes too long
            self.event_queue.put("Evt17")

    def _break_off(self) -> None:
        """A-ABORT by the upper layer (PS3.8 9.3.8), and the end of it."""
        self.assoc.end()
        self._kill_thread = True


class _Messages(DIMSEServiceProvider):  # type: ignore[misc]
    def __init__(self, assoc: Assoc) -> None:
        super().__init__(assoc)
        self.msg_queue: queue.Queue[Any] = _Ringing(assoc.wake)


class Assoc(Association):  # type: ignore[misc]
    """The association's thread: answers what is not C-STORE, and sees its end."""

    def __init__(self, ae: Any, server: Server) -> None:
        self._awake, self._open = threading.Event(), threading.Event()
        self.patience, self.store, self.is_unwanted = server.patience, server.store, False
        super().__init__(ae, "acceptor")
        self._server = server
        self.name = f"AcceptorThread@{id(self):x}"  # by which the library finds its associations
        self.dul, self.dimse = Upper(self), _Messages(self)
        self.acse_timeout, self.network_timeout = self.patience.acse, self.patience.network  # again, for the timers are those of `dul`
        self.dimse_timeout = self.patience.network

    def wake(self) -> None:
        self._awake.set()

    def told(self) -> None:
        """By the upper layer, of a request or an end. Who waits for a place has asked, however many have come since."""
        self._server.asked(self)
        self.wake()

    def wait_until_open(self) -> None:
        """A quick sender's first request is here before our own thread has come back from accepting it."""
        self._open.wait(self.patience.acse)

    def kill(self) -> None:
        self._kill = True
        self.wake()
        super().kill()

    def abort_soon(self) -> None:
        """Once the answer that is being written has gone out."""
        self.is_unwanted = True

    def end(self) -> None:
        """A-ABORT, and the connection is closed, whatever its threads wait for."""
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x02, 0x00
        with suppress(Exception):
            connection = self.dul.socket.socket
            connection.settimeout(0)  # who does not read it does not get it: a stop waits for nobody
            connection.send(abort.encode())
        self.broken()

    def hang_up(self) -> None:
        """From outside, whatever its threads wait for."""
        with suppress(OSError, AttributeError):
            self.dul.socket.socket.shutdown(socket.SHUT_RDWR)

    def broken(self) -> None:
        self.is_aborted, self.is_established, self._kill = True, False, True
        self._open.set()
        evt.trigger(self, evt.EVT_ABORTED, {})
        self.hang_up()

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self._server.asked(self)
            self._open.set()
            self.hang_up()
            evt.trigger(self, evt.EVT_CONN_CLOSE, {"address": self.requestor.address_info})

    def _run_reactor(self) -> None:
        """As the library's, but asleep until something happens."""
        self._open.set()
        while not self._kill:
            self._is_paused = True  # whoever sends a request of ours on this association reads its answer himself
            self._awake.wait(self._time_left())
            self._reactor_checkpoint.wait()
            self._is_paused = False
            self._awake.clear()
            if self._serve() or self._has_ended():
                continue

    def _serve(self) -> bool:
        context, message = self.dimse.get_msg(block=False)
        if message:
            self._serve_request(message, context)
            self.wake()  # there may be another
        return bool(message)

    def _has_ended(self) -> bool:
        """By a release, an abort, a connection that is gone, or silence."""
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released, self.is_established = True, False
            evt.trigger(self, evt.EVT_RELEASED, {})
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted, self.is_established = True, False
            evt.trigger(self, evt.EVT_ABORTED, {})
        elif self.dul.idle_timer_expired():
            self.abort()
        elif self.dul.is_alive():
            return False
        self.kill()
        return True

    def _time_left(self) -> float:
        return min(LONGEST_SLEEP, max(0.0, float(self.dul._idle_timer.remaining)) + 0.001)
