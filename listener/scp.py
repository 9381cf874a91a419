"""scp: the ports, associations as peers.py judges them, and what is answered besides C-STORE and C-ECHO (stream.py, storing.py).

wire.py: a connection > EVT_REQUESTED: may it come in? > contexts it may use > C-STORE, C-ECHO, N-ACTION > its end
"""

from __future__ import annotations

import ssl
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import Verification

from listener import config as configuration
from listener import contexts, logs, metrics, peers, tls
from listener.committer import Committer
from listener.errors import NoListen
from listener.spool import Spool
from listener.storing import Session, Storing
from listener.wire import Patience, Server
from pipeline.records import Instance

log = logs.get()

MAXIMUM_PDU = 131072  # bytes; 16384, the library's default, costs a third of the speed
SEAT_PATIENCE = 0.25  # s for the end of an association that a sender takes for over: it calls again before its release is booked here


class Scp:
    """Our storage, verification and storage commitment SCP. `on_kept` is called after each instance that was new."""

    def __init__(self, settings: configuration.Listener, spool: Spool, on_kept: Callable[[Instance], None], committer: Committer) -> None:
        self._settings, self._spool, self._committer = settings, spool, committer
        self._sessions: dict[Any, Session] = {}
        self._storing = Storing(spool, self._sessions, on_kept, settings.max_refused)
        self._patience = Patience(settings.acse_seconds, settings.pdu_seconds, settings.network_seconds)
        _config.LOG_HANDLER_LEVEL = "none"  # the library would describe every PDU
        self._ae = AE(settings.ae_title)
        self._ae.supported_contexts = contexts.supported([Verification])  # each association gets what it proposes (_offer)
        self._ae.maximum_pdu_size = MAXIMUM_PDU
        self._ae.maximum_associations = 1 << 30  # counted here: the library would count connections that have not asked for anything
        self._ae.network_timeout = settings.network_seconds
        self._servers: list[Server] = []
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
            (evt.EVT_RELEASED, self._on_end, ["released"]),
            (evt.EVT_ABORTED, self._on_end, ["aborted"]),
            (evt.EVT_CONN_CLOSE, self._on_end, ["lost"]),
            (evt.EVT_SOP_COMMON, self._on_services),
            (evt.EVT_N_ACTION, self.handle_commitment),
        ]
        address = (self._settings.host, port)
        try:
            server = self._ae.make_server(address, evt_handlers=handlers, server_class=Server)
        except OSError as error:
            raise NoListen(*address, error.strerror or "refused", key) from error
        server.door, server.patience, server.store = door, self._patience, self._storing
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
        for assoc in self._ae.active_associations:
            assoc.end()

    # Association

    def _on_requested(self, event: Any) -> None:
        """Deny by default: who is not admitted is rejected before anything is negotiated, also where judging fails."""
        assoc, request = event.assoc, event.assoc.requestor.primitive
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        session = self._sessions[assoc] = Session(uuid.uuid4().hex[:8], calling, called, assoc.requestor.address)
        verdict: peers.Admitted | peers.Rejected = peers.Rejected("it could not be judged", peers.CONGESTED)
        try:
            verdict = self._judged(session, assoc.dul.socket.socket)
        finally:  # the library goes on with an association whose handler failed
            if isinstance(verdict, peers.Rejected):
                self._rejected(session, verdict.why)
                assoc.acse.send_reject(*verdict.answer)
                assoc.kill()
            else:
                self._offer(assoc, request)

    def _judged(self, session: Session, connection: Any) -> peers.Admitted | peers.Rejected:
        shown, secured = tls.fingerprint(connection), isinstance(connection, ssl.SSLSocket)
        verdict = peers.judge(peers.Caller(session.peer, session.called, session.address, shown, secured), self._settings)
        return self._seated(session, verdict) if isinstance(verdict, peers.Admitted) else verdict

    def _seated(self, session: Session, admitted: peers.Admitted) -> peers.Admitted | peers.Rejected:
        """Takes one of the places that its block has, which `_on_end` gives back."""
        try:
            is_full = self._spool.is_full
        except OSError as error:  # a mount that is gone; senders are to try again
            return peers.Rejected(f"state.dir cannot be read ({error.strerror}); mend its disk or mount", peers.CONGESTED)
        if is_full:
            return peers.Rejected("less than state.min_free_bytes is free; free the disk of state.dir", peers.CONGESTED)
        with self._seats:
            if not self._seats.wait_for(lambda: self._open_now() < self._settings.max_associations, SEAT_PATIENCE):
                return peers.Rejected("listener.max_associations are open", peers.LIMIT_EXCEEDED)
            if not self._seats.wait_for(lambda: self._taken(session, admitted) < admitted.most, SEAT_PATIENCE):
                return peers.Rejected(f"{admitted.most} associations of it are open (max_associations_per_peer)", peers.LIMIT_EXCEEDED)
            session.seat = admitted
        return admitted

    def _open_now(self) -> int:
        return sum(other.seat is not None and assoc.is_alive() for assoc, other in list(self._sessions.items()))

    def _taken(self, session: Session, admitted: peers.Admitted) -> int:
        """Associations that are open under the same name by the same block."""
        open_now = [other for assoc, other in list(self._sessions.items()) if assoc.is_alive()]
        return sum(other.seat == admitted and other.peer == session.peer for other in open_now)

    def _offer(self, assoc: Any, request: Any) -> None:
        """What this association may negotiate: of what it proposes that which we store, and the services that we answer."""
        other = contexts.others(assoc.requestor.sop_class_common_extended.values())
        proposed = [context.abstract_syntax for context in request.presentation_context_definition_list]
        wanted = [name for name in proposed if name not in other]
        assoc.acceptor.supported_contexts = contexts.supported(wanted, private=self._settings.private_sop_classes)

    def _on_services(self, event: Any) -> dict[str, Any]:
        return dict(contexts.services(context.abstract_syntax for context in event.assoc.acceptor.supported_contexts))

    def _rejected(self, session: Session, why: str) -> None:
        metrics.associations.labels(outcome="rejected").inc()
        log.warning("assoc.rejected", **session.names, called=session.called, address=session.address, reason=why)

    def _on_accepted(self, event: Any) -> None:
        with self._seats:  # `_on_end` on the other thread takes off only what was added here
            session = self._sessions.get(event.assoc)
            if session is None:  # hung up while it was being let in
                return
            session.accepted = True
            metrics.open_associations.inc()
        metrics.associations.labels(outcome="accepted").inc()
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

    def handle_commitment(self, event: Any) -> tuple[int, None]:
        return self._committer.asked(event, self._sessions[event.assoc].names), None
