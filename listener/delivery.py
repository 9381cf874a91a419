"""delivery: one document to one destination by C-STORE. Trouble of the network is an answer, not an exception; nothing is kept here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import Verification

from listener import logs
from listener.config import Destination
from listener.requestor import associated
from pipeline.sop_classes import OF_DOCUMENTS

STORED = frozenset({0x0000, 0x0111, 0xB000, 0xB006, 0xB007})  # success, duplicate (PS3.7 C.5.6), three warnings (PS3.4 table B.2-1)


@dataclass(frozen=True, slots=True)
class Sent:
    """The destination holds it."""

    status: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It does not, or did not say so; worth another attempt."""

    reason: str


def send(data: bytes, destination: Destination, calling_ae: str) -> Sent | Failed:
    """Stores the Part 10 file `data` at `destination`. Never raises: the engine would take that for the last attempt."""
    try:
        return _stored(dcmread(BytesIO(data)), destination, calling_ae)
    except Exception as error:  # noqa: BLE001 - a document cut short, a peer that hangs up between two of our calls
        return Failed(f"the document could not be sent to {destination.ae_title}: {logs.explain(error)}")


def _stored(ds: Dataset, destination: Destination, calling_ae: str) -> Sent | Failed:
    with _associated(destination, calling_ae, [ds.SOPClassUID]) as assoc:
        if isinstance(assoc, str):
            return Failed(assoc)
        if not assoc.accepted_contexts:
            return Failed(f"{destination.ae_title} does not accept {ds.SOPClassUID.name}")
        status = assoc.send_c_store(ds).get("Status")
    if status is None:
        return Failed(f"{destination.ae_title} broke off before it answered the C-STORE")
    return Sent(status) if status in STORED else Failed(f"{destination.ae_title} answered the C-STORE with 0x{status:04X}")


def echo(destination: Destination, calling_ae: str) -> Sent | Failed:
    """Does `destination` answer C-ECHO, and would it take the documents that it is to get?"""
    wanted = [UID(uid) for kind, uid in OF_DOCUMENTS.items() if kind in destination.documents]
    with _associated(destination, calling_ae, [Verification, *wanted]) as assoc:
        if isinstance(assoc, str):
            return Failed(assoc)
        accepted = {context.abstract_syntax for context in assoc.accepted_contexts}
        refused = [uid.name for uid in wanted if uid not in accepted]
        status = assoc.send_c_echo().get("Status") if Verification in accepted else None
    if refused:
        return Failed(f"{destination.ae_title} does not accept {' and '.join(refused)}")
    return Sent(status) if status == 0x0000 else Failed(f"{destination.ae_title} did not answer the C-ECHO")


def _associated(destination: Destination, calling_ae: str, sop_classes: list[UID]) -> AbstractContextManager[Any]:
    """As `associated`. One context for each syntax, so that the peer cannot choose to have it re-encoded."""
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    offered = [build_context(sop_class, syntax) for sop_class in sop_classes for syntax in syntaxes]
    return associated(destination.host, destination.port, destination.ae_title, calling_ae, offered, "destinations[].port")
