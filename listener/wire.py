"""wire: pynetdicom's server and association (connection.py and upper.py with them), which wait for events instead of polling for them.

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

import queue
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from listener.connection import Socket, set_patience
from listener.stream import Store
from listener.upper import LONGEST_SLEEP, Ringing, Upper

if TYPE_CHECKING:
    from listener.tls import Door

UNASKED = 64  # connections that have not asked for an association yet; the oldest makes room for the next


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds; from where they are counted stands in docs/configuration.md."""

    acse: float
    pdu: float
    network: float


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
            set_patience(entered, self.patience.pdu)
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


class _Messages(DIMSEServiceProvider):  # type: ignore[misc]
    def __init__(self, assoc: Assoc) -> None:
        super().__init__(assoc)
        self.msg_queue: queue.Queue[Any] = Ringing(assoc.wake)


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
