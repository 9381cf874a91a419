"""scp: who may associate, and one handler per DIMSE service, each returning a status (PS3.4 table B.2-1).

A C-STORE is answered 0x0000 only after `spool.keep`: bytes and ledger row survive a power cut.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from pydicom.filewriter import write_file_meta_info
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer

from listener import config as configuration
from listener import contexts, logs, metrics
from listener.errors import CannotUnderstand, NoListen, NotStorage, Refused
from listener.spool import Command, Spool

log = logs.get()

MAXIMUM_PDU = 131072  # bytes; 16384, the library's default, costs a third of the speed
ACSE_TIMEOUT = 30.0  # s, from connection to A-ASSOCIATE-RQ, and for the release
NETWORK_TIMEOUT = 600.0  # s of silence; scanners hold an association open while they scan
CALLING_UNKNOWN, CALLED_UNKNOWN = (1, 1, 3), (1, 1, 7)  # result, source, reason: PS3.8 table 9-21


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    request_queue_size = 256  # with the library's 5, a burst of 64 senders loses connections


@dataclass(slots=True)
class Session:
    """What belongs to one association: who called, and what came."""

    assoc: str  # id in the log
    peer: str
    called: str
    address: str
    instances: int = 0
    accepted: bool = False

    @property
    def names(self) -> dict[str, str]:
        return {"assoc": self.assoc, "peer": self.peer}


class Scp:
    """Our storage and verification SCP. `on_kept` is called after each instance that was new."""

    def __init__(self, settings: configuration.Listener, spool: Spool, on_kept: Callable[[], None]) -> None:
        self._settings, self._spool, self._on_kept = settings, spool, on_kept
        self._sessions: dict[Any, Session] = {}
        _config.LOG_HANDLER_LEVEL = "none"  # the library would describe every PDU
        self._ae = AE(settings.ae_title)
        self._ae.supported_contexts = contexts.supported([Verification])  # each association gets what it proposes (_offer)
        self._ae.maximum_pdu_size = MAXIMUM_PDU
        self._ae.maximum_associations = settings.max_associations
        self._ae.acse_timeout, self._ae.dimse_timeout, self._ae.network_timeout = ACSE_TIMEOUT, NETWORK_TIMEOUT, NETWORK_TIMEOUT
        self._server: Any = None

    def start(self) -> int:
        """Listens; the port. Raises NoListen."""
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_REJECTED, self._on_full),
            (evt.EVT_RELEASED, self._on_end, ["released"]),
            (evt.EVT_ABORTED, self._on_end, ["aborted"]),
            (evt.EVT_CONN_CLOSE, self._on_end, ["lost"]),
            (evt.EVT_DATA_RECV, _acknowledge),
            (evt.EVT_SOP_COMMON, self._on_services),
            (evt.EVT_C_ECHO, self.handle_echo),
            (evt.EVT_C_STORE, self.handle_store),
        ]
        address = (self._settings.host, self._settings.port)
        try:
            self._server = self._ae.make_server(address, evt_handlers=handlers, server_class=_Server)
        except OSError as error:
            raise NoListen(*address, error.strerror or "refused", "listener.port") from error
        self._ae._servers.append(self._server)  # as AE.start_server does, which offers no server_class
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="scp", daemon=True).start()
        return int(self._server.server_address[1])

    @property
    def listening(self) -> bool:
        return self._server is not None

    def stop(self, patience: float) -> None:
        """Accepts no more, waits up to `patience` s for open associations, and aborts what is left of them."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        deadline = time.monotonic() + patience
        while self._ae.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        self._ae.shutdown()

    # Association

    def _on_requested(self, event: Any) -> None:
        """Deny by default: an unknown caller is rejected before anything is negotiated."""
        assoc = event.assoc
        request, address = assoc.requestor.primitive, assoc.requestor.address
        session = Session(uuid.uuid4().hex[:8], request.calling_ae_title.strip(), request.called_ae_title.strip(), address)
        self._sessions[assoc] = session
        objection = objection_to(session, self._settings)
        if objection is None:
            self._offer(assoc, request)
            return
        why, answer = objection
        self._rejected(session, why)
        assoc.acse.send_reject(*answer)
        assoc.kill()

    def _offer(self, assoc: Any, request: Any) -> None:
        """What this association may negotiate: of what it proposes that which we store, and C-ECHO."""
        other = contexts.others(assoc.requestor.sop_class_common_extended.values())
        proposed = [context.abstract_syntax for context in request.presentation_context_definition_list]
        wanted = [name for name in proposed if name not in other]
        assoc.acceptor.supported_contexts = contexts.supported(wanted, private=self._settings.private_sop_classes)

    def _on_services(self, event: Any) -> dict[str, Any]:
        return dict(contexts.services(context.abstract_syntax for context in event.assoc.acceptor.supported_contexts))

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
        session = self._sessions.pop(event.assoc, None)
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

    def _store(self, event: Any, session: Session) -> int:
        request, began = event.request, time.perf_counter()
        if request.DataSet is None:
            raise CannotUnderstand("the request came without a data set")
        if not contexts.is_storage(event.context.abstract_syntax):
            raise NotStorage("its presentation context is of another service than storage")
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


def objection_to(session: Session, settings: configuration.Listener) -> tuple[str, tuple[int, int, int]] | None:
    """Why this caller is rejected, and the A-ASSOCIATE-RJ that says so; None where it may come in."""
    if settings.require_called_ae_title and session.called != settings.ae_title:
        return "called AE title not recognised", CALLED_UNKNOWN
    if settings.allow_any_peer:
        return None
    known = [peer for peer in settings.peers if peer.ae_title == session.peer]
    if not known:
        return "calling AE title not recognised; name it in listener.peers", CALLING_UNKNOWN
    if not any(peer.host is None or within(session.address, peer.host) for peer in known):
        return "calling AE title is known, but not from this address", CALLING_UNKNOWN
    return None


def within(address: str, network: str) -> bool:
    """Is `address` in `network`? An IPv4 address that arrives mapped into IPv6 counts as IPv4."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip in ip_network(network, strict=False)


def _part_10_head(meta: Any) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1)."""
    head = BytesIO()
    head.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(head, meta)
    return head.getvalue()
