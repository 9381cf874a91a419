"""scp: the ports, associations as peers.py judges them, and one handler per DIMSE service, each returning a status (PS3.4 table B.2-1).

A C-STORE is answered 0x0000 only after `spool.keep`: bytes and ledger row survive a power cut.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.filewriter import write_file_meta_info
from pynetdicom import AE, _config, evt
from pynetdicom.transport import ThreadedAssociationServer

from listener import config as configuration
from listener import contexts, logs, metrics, peers, tls
from listener.committer import Committer
from listener.errors import CannotUnderstand, NoListen, Refused
from listener.spool import Command, Spool

log = logs.get()

MAXIMUM_PDU = 131072  # bytes; 16384, the library's default, costs a third of the speed
ACSE_TIMEOUT = 30.0  # s, from connection to A-ASSOCIATE-RQ, and for the release
NETWORK_TIMEOUT = 600.0  # s of silence; scanners hold an association open while they scan
SEAT_PATIENCE = 0.25  # s for the end of an association that a sender takes for over: it calls again before its release is booked here


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    request_queue_size = 256  # with the library's 5, a burst of 64 senders loses connections
    daemon_threads = True  # nobody waits for a handshake when we stop
    door: tls.Door | None = None  # of the TLS port; the library would shake hands in the accept loop, where one silent client stops all

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread."""
        entered = self.door.enter(request, client_address[0]) if self.door else request
        if entered is not None:
            super().finish_request(entered, client_address)


@dataclass(slots=True)
class Session:
    """What belongs to one association: who called, and what came."""

    assoc: str  # id in the log
    peer: str
    called: str
    address: str
    instances: int = 0
    accepted: bool = False
    seat: peers.Admitted | None = None  # what it was let in by; None before, and for those that were not

    @property
    def names(self) -> dict[str, str]:
        return {"assoc": self.assoc, "peer": self.peer}


class Scp:
    """Our storage, verification and storage commitment SCP. `on_kept` is called after each instance that was new."""

    def __init__(self, settings: configuration.Listener, spool: Spool, on_kept: Callable[[], None], committer: Committer) -> None:
        self._settings, self._spool, self._on_kept, self._committer = settings, spool, on_kept, committer
        self._sessions: dict[Any, Session] = {}
        _config.LOG_HANDLER_LEVEL = "none"  # the library would describe every PDU
        self._ae = AE(settings.ae_title)
        self._ae.supported_contexts = contexts.supported()
        self._ae.maximum_pdu_size = MAXIMUM_PDU
        self._ae.maximum_associations = settings.max_associations
        self._ae.acse_timeout, self._ae.dimse_timeout, self._ae.network_timeout = ACSE_TIMEOUT, NETWORK_TIMEOUT, NETWORK_TIMEOUT
        self._servers: list[_Server] = []
        self._seats = threading.Condition()
        self.port: int | None = None  # listened on, once started; None: TLS only
        self.tls_port: int | None = None  # None: plain only

    def start(self) -> int:
        """Listens on the plain port, on that of TLS, or on both; the first of them. Raises NoListen, and ConfigError of a certificate."""
        secured, door = self._settings.tls, self._door()
        if not secured.only:
            self.port = self._listen(self._settings.port, "listener.port", None)
        if door:
            self.tls_port = self._listen(secured.port, "listener.tls.port", door)
        return self.port or self.tls_port or 0

    def _door(self) -> tls.Door | None:
        secured = self._settings.tls
        if not secured.enabled:
            return None
        shown = tls.standing(secured)
        metrics.tls_certificate_expires.labels(of="listener").set(shown.expires_at)
        most, of_one = self._settings.max_associations, self._settings.max_associations_per_peer
        return tls.Door(tls.context(secured), secured.handshake_seconds, most, of_one)

    def _listen(self, port: int, key: str, door: tls.Door | None) -> int:
        """The port that was asked for, or the free one that was found."""
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_REJECTED, self._on_full),
            (evt.EVT_RELEASED, self._on_end, ["released"]),
            (evt.EVT_ABORTED, self._on_end, ["aborted"]),
            (evt.EVT_CONN_CLOSE, self._on_end, ["lost"]),
            (evt.EVT_DATA_RECV, _acknowledge),
            (evt.EVT_C_ECHO, self.handle_echo),
            (evt.EVT_C_STORE, self.handle_store),
            (evt.EVT_N_ACTION, self.handle_commitment),
        ]
        address = (self._settings.host, port)
        try:
            server = self._ae.make_server(address, evt_handlers=handlers, server_class=_Server)
        except OSError as error:
            raise NoListen(*address, error.strerror or "refused", key) from error
        server.door = door
        self._ae._servers.append(server)  # as AE.start_server does, which offers no server_class
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name=key, daemon=True).start()
        return int(server.server_address[1])

    @property
    def listening(self) -> bool:
        return bool(self._servers)

    def stop(self, patience: float) -> None:
        """Accepts no more, waits up to `patience` s for open associations, and aborts what is left of them."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.shutdown()
        deadline = time.monotonic() + patience
        while self._ae.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        self._ae.shutdown()

    # Association

    def _on_requested(self, event: Any) -> None:
        """Deny by default: who is not admitted is rejected before anything is negotiated, also where judging fails."""
        assoc, request = event.assoc, event.assoc.requestor.primitive
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        session = self._sessions[assoc] = Session(uuid.uuid4().hex[:8], calling, called, assoc.requestor.address)
        verdict: peers.Admitted | peers.Rejected = peers.Rejected("it could not be judged", peers.CALLING_UNKNOWN)
        try:
            verdict = self._judged(session, assoc.dul.socket.socket)
        finally:  # the library goes on with an association whose handler failed
            if isinstance(verdict, peers.Rejected):
                self._rejected(session, verdict.why)
                assoc.acse.send_reject(*verdict.answer)
                assoc.kill()

    def _judged(self, session: Session, connection: Any) -> peers.Admitted | peers.Rejected:
        shown, secured = tls.fingerprint(connection), isinstance(connection, ssl.SSLSocket)
        verdict = peers.judge(peers.Caller(session.peer, session.called, session.address, shown, secured), self._settings)
        return self._seated(session, verdict) if isinstance(verdict, peers.Admitted) else verdict

    def _seated(self, session: Session, admitted: peers.Admitted) -> peers.Admitted | peers.Rejected:
        """Takes one of the places that its block has, which `_on_end` gives back."""
        with self._seats:
            if not self._seats.wait_for(lambda: self._taken(session, admitted) < admitted.most, SEAT_PATIENCE):
                return peers.Rejected(f"{admitted.most} associations of it are open (max_associations_per_peer)", peers.LIMIT_EXCEEDED)
            session.seat = admitted
        return admitted

    def _taken(self, session: Session, admitted: peers.Admitted) -> int:
        """Associations that are open under the same name by the same block."""
        open_now = [other for assoc, other in list(self._sessions.items()) if assoc.is_alive()]
        return sum(other.seat == admitted and other.peer == session.peer for other in open_now)

    def _on_full(self, event: Any) -> None:
        self._rejected(self._sessions[event.assoc], "listener.max_associations are open")

    def _rejected(self, session: Session, why: str) -> None:
        metrics.associations.labels(outcome="rejected").inc()
        log.warning("assoc.rejected", **session.names, called=session.called, address=session.address, reason=why)

    def _on_accepted(self, event: Any) -> None:
        session = self._sessions.get(event.assoc)
        if session is None:  # hung up while it was being let in
            return
        session.accepted = True
        metrics.associations.labels(outcome="accepted").inc()
        metrics.open_associations.inc()
        log.info("assoc.accepted", **session.names, called=session.called, address=session.address)

    def _on_end(self, event: Any, how: str) -> None:
        """The first of release, abort and closed connection; what was acknowledged stays."""
        with self._seats:
            session = self._sessions.pop(event.assoc, None)
            self._seats.notify_all()
        if session is None or not session.accepted:  # it was rejected
            return
        metrics.open_associations.dec()
        if how != "released":
            metrics.associations.labels(outcome="aborted").inc()
        log.info(f"assoc.{how}", **session.names, instances=session.instances)

    # DIMSE services

    def handle_echo(self, event: Any) -> int:
        log.debug("echo.answered", **self._sessions[event.assoc].names)
        return 0x0000

    def handle_store(self, event: Any) -> int:
        session = self._sessions[event.assoc]
        request, began = event.request, time.perf_counter()
        try:
            status = self._store(event, session)
        except Refused as error:
            metrics.instances.labels(outcome="refused").inc()
            shown = {"sop_class_uid": str(request.AffectedSOPClassUID), "sop_instance_uid": error.uid, "status": f"0x{error.status:04X}"}
            log.warning("instance.refused", **session.names, **shown, reason=error.why)
            status = error.status
        metrics.store_seconds.observe(time.perf_counter() - began)
        return status

    def handle_commitment(self, event: Any) -> tuple[int, None]:
        return self._committer.asked(event, self._sessions[event.assoc].names), None

    def _store(self, event: Any, session: Session) -> int:
        request, began = event.request, time.perf_counter()
        if request.DataSet is None:
            raise CannotUnderstand("the request came without a data set")
        command = Command(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), session.peer, session.called)
        data = request.DataSet.getvalue()
        outcome, instance = self._spool.keep((_part_10_head(event.file_meta), data), command)
        session.instances += 1
        metrics.instances.labels(outcome=outcome).inc()
        facts = {"study_uid": instance.study_uid, "sop_instance_uid": instance.sop_instance_uid}
        if outcome == "kept":
            metrics.received_bytes.inc(instance.size)
            ms = round((time.perf_counter() - began) * 1000, 1)
            log.info("instance.kept", **session.names, **facts, bytes=instance.size, ms=ms)
            self._on_kept()
        elif outcome == "conflict":
            log.error("instance.conflict", **session.names, **facts, reason="same UID, other bytes: kept aside, not mixed in")
        else:
            log.info(f"instance.{outcome}", **session.names, **facts)
        return 0x0000


def _acknowledge(event: Any) -> None:
    """Lets the kernel acknowledge what came at once; it forgets that it was asked (tcp(7)), so we ask with each PDU.

    A sender that sets no TCP_NODELAY, as dcmtk and pynetdicom, keeps the rest of a data set until its command is acknowledged, which
    takes 40 ms unasked: 55 ms an instance, measured, instead of 12.
    """
    connection = event.assoc.dul.socket
    if connection and connection.socket:
        with suppress(OSError):  # it hung up meanwhile
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _part_10_head(meta: Any) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1)."""
    head = BytesIO()
    head.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(head, meta)
    return head.getvalue()
