"""commitment_wire: storage commitment as it is said on the wire (PS3.4 annex J): N-ACTION read, N-EVENT-REPORT sent.

A report goes either way:

- On the association that asked, if that is still open (`here`). The library's Association.send_n_event_report is not used for it: it stops
  the thread that serves requests and takes whatever message comes next for the response, so that a C-STORE sent in the same moment aborts
  the association and a release waits for its time-out. We queue the request and listen for the response, and everything is served
  meanwhile. Command and data set travel in one PDU where they fit (PS3.8 9.3.5 allows it), because no fragment of another message may come
  between them (PS3.7 6.3.1), and a C-STORE response may be queued at any moment by another thread.
- On an association of our own (`reporting`), for which we propose to be its SCP (SCP/SCU role selection, PS3.7 D.3.3.4): the role that
  sends reports. Nothing else happens on it, and requestor.py leaves the response to who waits for it, so there the library's call is safe.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role, evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RQ
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext, PresentationContextTuple
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from listener.commitment import KEPT, Commitment, Reference, Request
from listener.errors import NotTaken
from listener.headers import is_uid
from listener.requestor import associated
from pipeline.attributes import text, value
from pipeline.part10 import UNREADABLE

MOST_REFERENCES = 100_000  # of one request; they take 7 to 15 MB and 3 to 4 s to read. A study of the largest scanners has some 10 000
HERE_TIMEOUT = 10.0  # s for a response on the association that asked; a peer that listens there answers at once
ACCEPTED = frozenset({0x0000, 0x0107, 0x0116})  # success and the two warnings of PS3.7 annex C.4
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]  # no deflated one: 15 MB of it may be 15 GB of references
_REQUEST_COMMITMENT = 1  # Action Type ID, PS3.4 table J.3-1
_ALL_KEPT, _FAILURES_EXIST = 1, 2  # Event Type ID, PS3.4 table J.3-2
_RESPONSE = 0x8100  # Command Field of an N-EVENT-REPORT-RSP, PS3.7 E.1
_CLASS, _INSTANCE = 0x00081150, 0x00081155  # Referenced SOP Class UID, Referenced SOP Instance UID
_PDV_HEADER = 5  # bytes before each fragment: length and context id (PS3.8 table 9-23)
# The statuses of PS3.7 10.1.4.1.10 that we answer with
_PROCESSING_FAILURE, _NO_SUCH_INSTANCE, _INVALID_ARGUMENT, _NO_SUCH_CLASS = 0x0110, 0x0112, 0x0115, 0x0118
_NO_SUCH_ACTION, RESOURCE_LIMITATION = 0x0123, 0x0213


@dataclass(frozen=True, slots=True)
class Asking:
    """The association that a request came on, and the presentation context that it used."""

    assoc: Any
    context: PresentationContextTuple

    @property
    def is_open(self) -> bool:
        return bool(self.assoc.is_established)


def context() -> PresentationContext:
    """What our SCP accepts: peers are its SCU."""
    offered = build_context(StorageCommitmentPushModel, SYNTAXES)
    offered.scu_role, offered.scp_role = True, False
    return offered


# N-ACTION


def read(event: Any) -> Request:
    """The request of an N-ACTION. Raises NotTaken."""
    rq = event.request
    if rq.RequestedSOPClassUID != StorageCommitmentPushModel:
        raise NotTaken(_NO_SUCH_CLASS, "no N-ACTION of that SOP class is served")
    if rq.RequestedSOPInstanceUID != StorageCommitmentPushModelInstance:
        raise NotTaken(_NO_SUCH_INSTANCE, f"not the well-known SOP Instance {StorageCommitmentPushModelInstance}")
    if rq.ActionTypeID != _REQUEST_COMMITMENT:
        raise NotTaken(_NO_SUCH_ACTION, "its Action Type ID is not 1, request storage commitment")
    ds = _information(event)
    transaction_uid = text(ds, "TransactionUID")
    if not is_uid(transaction_uid):
        raise NotTaken(_INVALID_ARGUMENT, "its Transaction UID is missing or not a UID")
    who = event.assoc.requestor
    called = event.assoc.requestor.primitive.called_ae_title.strip()
    return Request(who.ae_title.strip(), called, who.address, transaction_uid, _references(ds))


def _information(event: Any) -> Dataset:
    if event.request.ActionInformation is None:
        raise NotTaken(_INVALID_ARGUMENT, "it came without Action Information")
    syntax = event.context.transfer_syntax
    try:
        return decode(event.request.ActionInformation, syntax.is_implicit_VR, syntax.is_little_endian)
    except UNREADABLE as error:
        raise NotTaken(_PROCESSING_FAILURE, f"its Action Information cannot be read ({type(error).__name__})") from error


def _references(ds: Dataset) -> tuple[Reference, ...]:
    """Each once, in their order."""
    items = value(ds, "ReferencedSOPSequence") or ()
    if len(items) > MOST_REFERENCES:
        raise NotTaken(RESOURCE_LIMITATION, f"it refers to more than {MOST_REFERENCES} instances; ask for fewer at a time")
    try:
        found = dict.fromkeys(Reference(_uid(item, _CLASS), _uid(item, _INSTANCE)) for item in items)
    except UNREADABLE as error:
        raise NotTaken(_INVALID_ARGUMENT, "its Referenced SOP Sequence holds no items, or items without UIDs") from error
    if not found:
        raise NotTaken(_INVALID_ARGUMENT, "its Referenced SOP Sequence is missing or empty")
    return tuple(found)


def _uid(item: Dataset, tag: int) -> str:
    """As it stands in the bytes: pydicom's own way takes 40 us for each, and there may be 200 000. Raises ValueError and its like."""
    raw = item.get_item(tag).value
    uid = (raw.decode("ascii") if isinstance(raw, bytes) else str(raw)).rstrip("\0 ")
    if not is_uid(uid):
        raise ValueError
    return uid


# N-EVENT-REPORT


def report(commitment: Commitment) -> tuple[int, Dataset]:
    """Event Type ID and Event Information (PS3.4 table J.3-2)."""
    ds = Dataset()
    ds.TransactionUID = commitment.request.transaction_uid
    answers = list(zip(commitment.request.references, commitment.reasons, strict=True))
    if kept := [_item(reference) for reference, reason in answers if reason == KEPT]:
        ds.ReferencedSOPSequence = kept
    if failed := [_item(reference, reason) for reference, reason in answers if reason != KEPT]:
        ds.FailedSOPSequence = failed
    return (_FAILURES_EXIST if failed else _ALL_KEPT), ds


def _item(reference: Reference, reason: int = KEPT) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference
    if reason != KEPT:
        item.FailureReason = reason
    return item


def here(asking: Asking, commitment: Commitment) -> str:
    """Sends the report on the association that asked; empty, or why it was not accepted."""
    answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    number = commitment.id % 0xFFFF + 1  # Message ID

    def on_message(event: Any) -> None:
        command = event.message.command_set
        if command.get("CommandField") == _RESPONSE and command.get("MessageIDBeingRespondedTo") == number:
            answers.put(command.get("Status"))

    asking.assoc.bind(evt.EVT_DIMSE_RECV, on_message)
    try:
        for pdata in _packed(asking, commitment, number):
            asking.assoc.dul.send_pdu(pdata)
        return objection_to(_wait(answers, asking))
    finally:
        asking.assoc.unbind(evt.EVT_DIMSE_RECV, on_message)


def _wait(answers: queue.SimpleQueue[int | None], asking: Asking) -> int | None:
    """The status that comes within HERE_TIMEOUT and before the association ends, or None."""
    for _ in range(int(HERE_TIMEOUT / 0.1)):
        try:
            return answers.get(timeout=0.1)
        except queue.Empty:
            if not asking.is_open:
                return None
    return None


def _packed(asking: Asking, commitment: Commitment, number: int) -> Sequence[P_DATA]:
    """The request in one PDU if its receiver takes such a long one, else as the library cuts it."""
    request = N_EVENT_REPORT()
    request.MessageID = number
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    request.EventTypeID, ds = report(commitment)
    syntax = asking.context.transfer_syntax
    request.EventInformation = BytesIO(encode(ds, syntax.is_implicit_VR, syntax.is_little_endian) or b"")
    message, longest = N_EVENT_REPORT_RQ(), asking.assoc.dimse.maximum_pdu_size
    message.primitive_to_message(request)
    parts = list(message.encode_msg(asking.context.context_id, longest))
    whole = P_DATA()
    whole.presentation_data_value_list.extend(pdv for part in parts for pdv in part.presentation_data_value_list)
    size = sum(_PDV_HEADER + len(data) for _, data in whole.presentation_data_value_list)
    return [whole] if longest == 0 or size <= longest else parts


def objection_to(status: int | None) -> str:
    """Empty where the response accepts the report."""
    if status is None:
        return "it did not answer the N-EVENT-REPORT"
    return "" if status in ACCEPTED else f"it answered the N-EVENT-REPORT with 0x{status:04X}"


@contextmanager
def reporting(host: str, port: int, called: str, calling: str) -> Iterator[Callable[[Commitment], str] | str]:
    """A function that sends a report on a new association, as `here` does; or why there is none."""
    offered = [build_context(StorageCommitmentPushModel, SYNTAXES)]
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
    with associated(host, port, called, calling, offered, "listener.peers[].port", roles) as assoc:
        yield assoc if isinstance(assoc, str) else lambda commitment: _send(assoc, commitment)


def _send(assoc: Any, commitment: Commitment) -> str:
    if not assoc.is_established:
        return "it ended the association"
    kind, ds = report(commitment)
    number = commitment.id % 0xFFFF + 1
    status, _ = assoc.send_n_event_report(ds, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance, number)
    return objection_to(status.get("Status"))
