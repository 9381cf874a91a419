"""committer: storage commitment at work. Requests are taken on the association's thread, everything slow is done on threads of its own.

    asked        persisted, then answered                          association's thread
    _checking    every file read from disk, one request at a time  one thread
    _reporting   what is due, to each peer                         one thread, and one more for each peer that is being told

Where a report goes: on the association that asked, where that is open GRACE seconds later; else to the address and `port` that
listener.peers has for the peer, again and again until it is accepted. All of it is rows of the ledger, so a restart goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import groupby
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from listener import commitment, commitment_wire, logs, metrics
from listener.commitment import GRACE, KEPT, PROCESSING_FAILURE, Commitment, Copy, Due, Reference
from listener.commitment_wire import Asking
from listener.config import Listener, Peer
from listener.errors import NotTaken
from listener.ledger import Ledger
from listener.peers import within

log = logs.get()

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3600.0  # s between two attempts, doubled each time: a scanner is rebooted, or off until Monday
IDLE = 30.0  # s between two looks for work that nobody announced
CHUNK = 500  # instances looked up, read and promised together
PEERS_AT_ONCE = 8
NO_WAY = "the association that asked is closed and its peer has no port; set listener.peers[].port and restart, and it is sent"
Way = Callable[[Commitment], str]


class Committer:
    """Storage commitment SCP of the receiver process."""

    def __init__(self, settings: Listener, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._asking: dict[int, Asking] = {}  # by id, while its association may be open
        self._taking = threading.Lock()  # so that no request is checked before it is known which association it came on
        self._telling: set[str] = set()  # peers that are being told
        self._stop, self._to_check, self._to_report = threading.Event(), threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Takes up what was open when we ended."""
        with self._ledger.transaction(write=True) as c:
            commitment.wake(c, time.time())
        for work, wake in ((self._check_all, self._to_check), (self._report_all, self._to_report)):
            thread = threading.Thread(target=self._again_and_again, args=(work, wake), name=work.__name__, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, patience: float) -> None:
        """What is under way may end within `patience` s; the rest is done after the next start."""
        self._stop.set()
        self._to_check.set()
        self._to_report.set()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _again_and_again(self, work: Callable[[], float], wake: threading.Event) -> None:
        """`work` says in how many seconds it wants to be called, unless it is woken."""
        while not self._stop.is_set():
            wake.clear()
            try:
                wait = work()
            except SQLAlchemyError as error:
                log.error("ledger.failed", error=logs.explain(error))
                wait = FIRST_PAUSE
            wake.wait(wait)

    # Asked

    def asked(self, event: Any, names: Mapping[str, str]) -> int:
        """The status of an N-ACTION: 0x0000 only when the request survives a power cut. `names` are those of its association in the log."""
        try:
            request = commitment_wire.read(event)
            with self._taking:
                number = self._persist(request)
                self._asking[number] = Asking(event.assoc, event.context)
        except NotTaken as refusal:
            metrics.commitments.labels(outcome="refused").inc()
            log.warning("commitment.refused", **names, status=f"0x{refusal.status:04X}", reason=refusal.why)
            return refusal.status
        self._to_check.set()
        metrics.commitments.labels(outcome="requested").inc()
        log.info("commitment.requested", **names, transaction_uid=request.transaction_uid, count=len(request.references))
        return 0x0000

    def _persist(self, request: commitment.Request) -> int:
        try:
            with self._ledger.transaction(write=True) as c:
                return commitment.ask(c, request, time.time())
        except SQLAlchemyError as error:
            why = f"ledger: {getattr(error, 'orig', None) or type(error).__name__}; free or mend the disk of state.dir"
            raise NotTaken(commitment_wire.RESOURCE_LIMITATION, why) from error

    # Checked

    def _check_all(self) -> float:
        with self._taking, self._ledger.transaction() as c:
            waiting = commitment.unchecked(c)
        for number in waiting:
            self._check(number)
            if self._stop.is_set():
                break
        self._to_report.set()
        return IDLE

    def _check(self, number: int) -> None:
        with self._ledger.transaction() as c:
            asked = commitment.load(c, number)
        references, reasons = asked.request.references, list[int]()
        for start in range(0, len(references), CHUNK):
            reasons += self._judge(references[start : start + CHUNK])
            if self._stop.is_set():
                return  # half of it is worth nothing; all of it is checked after the next start
        asking, now = self._asking.get(number), time.time()
        due = asked.requested_at + GRACE if asking else now
        with self._ledger.transaction(write=True) as c:
            commitment.checked(c, number, reasons, now, max(now, due))

    def _judge(self, references: Sequence[Reference]) -> list[int]:
        """Reads the files, and records the promise before it is told."""
        with self._ledger.transaction() as c:
            held = commitment.copies(c, {reference.sop_instance_uid for reference in references}, self._ledger.folder)
        reasons = [commitment.reason_against(reference, held.get(reference.sop_instance_uid, ())) for reference in references]
        kept: list[Copy] = []
        for reference, reason in zip(references, reasons, strict=True):
            copies = held.get(reference.sop_instance_uid, [])
            kept += copies if reason == KEPT else ()
            if reason == PROCESSING_FAILURE:
                log.error("spool.altered", study_uid=copies[0].study_uid, sop_instance_uid=reference.sop_instance_uid)
        with self._ledger.transaction(write=True) as c:
            changed = commitment.promise(c, kept, time.time())
        late = [PROCESSING_FAILURE if reference.sop_instance_uid in changed else KEPT for reference in references]
        return [reason or afterwards for reason, afterwards in zip(reasons, late, strict=True)]

    # Reported

    def _report_all(self) -> float:
        """A thread for each peer that has something to be told and is not being told; seconds until the next report is due."""
        now = time.time()
        with self._ledger.transaction() as c:
            due, later = commitment.due(c, now), commitment.next_due(c, now)
        for peer, of_peer in groupby(sorted(due, key=lambda d: (d.peer, d.address)), key=lambda d: d.peer):
            if peer in self._telling or len(self._telling) >= PEERS_AT_ONCE:
                continue  # whoever is done with a peer wakes us
            self._telling.add(peer)
            threading.Thread(target=self._tell, args=(peer, list(of_peer)), name="commitment-report", daemon=True).start()
        return IDLE if later is None else min(IDLE, max(0.05, later - now))

    def _tell(self, peer: str, due: Sequence[Due]) -> None:
        try:
            elsewhere = [report for report in due if not self._tell_here(report)]
            for place, reports in groupby(elsewhere, key=lambda d: (self._where(d), d.called)):
                self._tell_there(peer, *place, list(reports))
        except SQLAlchemyError as error:
            log.error("ledger.failed", error=logs.explain(error))
            self._stop.wait(FIRST_PAUSE)
        finally:
            self._telling.discard(peer)
            self._to_report.set()

    def _tell_here(self, due: Due) -> bool:
        """On the association that asked; True where that settled it."""
        asking = self._asking.get(due.id)
        if asking is None or not asking.is_open:
            self._asking.pop(due.id, None)
            return False

        def here(report: Commitment) -> str:
            if self._asking.get(due.id) is asking:  # else it was asked again meanwhile, and is told again
                self._asking.pop(due.id, None)
            return commitment_wire.here(asking, report)

        return self._attempt(due, here, alone=self._where(due) is None)

    def _tell_there(self, peer: str, place: tuple[str, int] | None, called: str, due: Sequence[Due]) -> None:
        """To the place that the configuration names; all that are due on one association."""
        if place is None:
            for report in due:
                self._failed(report, NO_WAY)
            return
        with commitment_wire.reporting(*place, peer, called) as way:
            for report in due:
                if self._stop.is_set():
                    return
                if isinstance(way, str):
                    self._failed(report, way)
                else:
                    self._attempt(report, way)

    def _attempt(self, due: Due, way: Way, *, alone: bool = True) -> bool:
        """Tells one report; whether it was accepted. A failure counts where it was the only way (`alone`)."""
        with self._ledger.transaction() as c:
            report = commitment.load(c, due.id)
        if not report.reasons:  # asked again in this moment
            return True
        try:
            objection = way(report)
        except Exception as error:  # noqa: BLE001 - a peer that hangs up between two of our calls may end in any of the library's errors
            objection = f"the report could not be sent: {logs.explain(error)}"
        if objection and alone:
            self._failed(due, objection)
        if not objection:
            self._reported(report, due)
        return not objection or alone

    def _reported(self, report: Commitment, due: Due) -> None:
        with self._ledger.transaction(write=True) as c:
            commitment.reported(c, due, time.time())
        metrics.commitments.labels(outcome="reported").inc()
        metrics.committed_instances.labels(outcome="kept").inc(len(report.reasons) - report.failures)
        metrics.committed_instances.labels(outcome="failed").inc(report.failures)
        facts = {"peer": report.request.peer, "transaction_uid": report.request.transaction_uid}
        log.info("commitment.reported", **facts, count=len(report.reasons), failures=report.failures, attempt=due.attempts + 1)

    def _failed(self, due: Due, why: str) -> None:
        """Due again later, if there is anywhere to send it."""
        attempt = due.attempts + 1
        pause = pause_after(attempt) if self._where(due) else None
        with self._ledger.transaction(write=True) as c:
            commitment.not_reported(c, due, attempt, why, None if pause is None else time.time() + pause)
        metrics.commitments.labels(outcome="failed").inc()
        log.warning("commitment.failed", peer=due.peer, attempt=attempt, reason=why, next_in_s=pause)

    def _where(self, due: Due) -> tuple[str, int] | None:
        return where(due, self._settings.peers)


def pause_after(attempt: int) -> float:
    """Seconds until the next one."""
    return float(min(FIRST_PAUSE * 2 ** min(attempt - 1, 20), LONGEST_PAUSE))


def where(due: Due, peers: Iterable[Peer]) -> tuple[str, int] | None:
    """Host and port that a peer's reports go to: its `host` where that is an address, else where it asked from. None: it has no `port`."""

    for peer in peers:
        if peer.ae_title == due.peer and peer.port and (peer.host is None or within(due.address, peer.host)):
            return (peer.host if peer.host and _is_address(peer.host) else due.address), peer.port
    return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
