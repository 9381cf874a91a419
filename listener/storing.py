"""storing: C-STORE, from its command to its status (PS3.4 table B.2-1), as stream.py calls for it.

0x0000 is answered only after `spool.keep`: bytes and ledger row survive a power cut. What is refused is swallowed to its end, so that the
association goes on, and answered with its status; the sentence that the log has stands in Error Comment, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from listener import contexts, logs, metrics, peers
from listener.command_set import StoreRequest
from listener.errors import CannotUnderstand, NotStorage, OutOfResources, Refused
from listener.incoming import Command, Incoming
from listener.spool import Outcome, Spool
from listener.stream import Sink
from pipeline.records import Instance

log = logs.get()


@dataclass(slots=True)
class Session:
    """What belongs to one association: who called, and what came."""

    assoc: str  # id in the log
    peer: str
    called: str
    address: str
    instances: int = 0
    refused: int = 0  # that belong to no study of ours: refused, whatever they were
    accepted: bool = False
    seat: peers.Admitted | None = None  # what it was let in by; None before, and for those that were not

    @property
    def names(self) -> dict[str, str]:
        return {"assoc": self.assoc, "peer": self.peer}


class Storing:
    """The Store of every association. `on_kept` is told of each instance that was new."""

    def __init__(self, spool: Spool, sessions: Mapping[Any, Session], on_kept: Callable[[Instance], None], most_refused: int) -> None:
        self._spool, self._sessions, self._on_kept, self._most_refused = spool, sessions, on_kept, most_refused

    def begin(self, assoc: Any, request: StoreRequest, context: Any) -> Sink:
        session = self._session(assoc)
        try:
            return self._receive(session, request, context)
        except Refused as refusal:
            return _Swallowed(refusal)

    def end(self, assoc: Any, request: StoreRequest, sink: Sink) -> tuple[int, str]:
        session, began = self._session(assoc), time.perf_counter()
        try:
            if not isinstance(sink, _Instance):
                raise sink.refusal if isinstance(sink, _Swallowed) else TypeError(sink)
            if sink.refusal:
                raise sink.refusal
            self._keep(session, sink.incoming, began)
            return 0x0000, ""
        except Refused as refusal:
            return self._refuse(assoc, session, request, refusal)
        finally:
            metrics.store_seconds.observe(time.perf_counter() - began)

    def echoed(self, assoc: Any) -> None:
        session = self._sessions.get(assoc)
        if session:
            log.debug("echo.answered", **session.names)

    def give_up(self, assoc: Any, sink: Sink) -> None:  # noqa: ARG002 - as Store has it
        if isinstance(sink, _Instance):
            self._spool.give_up(sink.incoming)

    def _session(self, assoc: Any) -> Session:
        """Raises ConnectionError where another thread has ended the association: silence, a stop, too much that was refused."""
        session = self._sessions.get(assoc)
        if session is None:
            raise ConnectionAbortedError("the association was ended while an instance came in")
        return session

    def _receive(self, session: Session, request: StoreRequest, context: Any) -> _Instance:
        if not contexts.is_storage(context.abstract_syntax):
            raise NotStorage("its presentation context is of another service than storage", request.sop_instance_uid)
        if not request.has_data_set:
            raise CannotUnderstand("the request came without a data set", request.sop_instance_uid)
        syntax = str(context.transfer_syntax[0])
        command = Command(request.sop_class_uid, request.sop_instance_uid, session.peer, session.called, syntax)
        return _Instance(self._spool.receive(command), self._spool)

    def _keep(self, session: Session, incoming: Incoming, began: float) -> None:
        outcome, instance = self._spool.keep(incoming)
        session.instances += 1
        metrics.instances.labels(outcome=outcome).inc()
        self._tell(session, outcome, instance, began)
        if outcome == "kept":
            metrics.received_bytes.inc(instance.size)
            self._on_kept(instance)

    def _tell(self, session: Session, outcome: Outcome, instance: Instance, began: float) -> None:
        facts = {**session.names, "study_uid": instance.study_uid, "sop_instance_uid": instance.sop_instance_uid}
        if outcome == "kept":
            log.info("instance.kept", **facts, bytes=instance.size, ms=round((time.perf_counter() - began) * 1000, 1))
        elif outcome == "conflict":
            log.error("instance.conflict", **facts, reason="same UID, other bytes: kept aside, not mixed in")
        else:
            log.info(f"instance.{outcome}", **facts)

    def _refuse(self, assoc: Any, session: Session, request: StoreRequest, refusal: Refused) -> tuple[int, str]:
        """Logs it. A peer that sends one thing after another that belongs nowhere is sent away; a full disk is not its fault."""
        metrics.instances.labels(outcome="refused").inc()
        shown = {"sop_class_uid": request.sop_class_uid[:64], "sop_instance_uid": refusal.uid[:64], "status": f"0x{refusal.status:04X}"}
        log.warning("instance.refused", **session.names, **shown, reason=refusal.why)
        session.refused += not isinstance(refusal, OutOfResources)
        if session.refused >= self._most_refused:
            log.error("assoc.useless", **session.names, count=session.refused, reason="listener.max_refused instances belonged to no study")
            assoc.abort_soon()
        return refusal.status, refusal.why


class _Instance:
    """Writes to the spool; once that fails, swallows."""

    def __init__(self, incoming: Incoming, spool: Spool) -> None:
        self.incoming, self._spool = incoming, spool
        self.refusal: Refused | None = None

    def write(self, chunk: bytes | memoryview) -> None:
        if self.refusal:
            return
        try:
            self.incoming.write(chunk)
        except Refused as refusal:
            self.refusal = refusal
            self._spool.give_up(self.incoming)


@dataclass(frozen=True, slots=True)
class _Swallowed:
    """What was refused before its data set came."""

    refusal: Refused

    def write(self, chunk: bytes | memoryview) -> None:
        """Nothing of it is kept."""
