"""conformance: the tables of CONFORMANCE.md, again from the code. What a table says is what negotiation does.

    python -m scripts.conformance

Each table stands between <!-- name --> and <!-- /name -->; the prose around it stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic.fields import FieldInfo
from pynetdicom import AE

from listener import commitment, commitment_wire, connection, contexts, errors, peers, requestor, scp, wire
from listener.config import Listener, State, Tls
from pipeline.sop_classes import OF_DOCUMENTS
from pipeline.syntaxes import why_not

FILE = Path(__file__).parent.parent / "CONFORMANCE.md"
OF_TIME = ("acse_seconds", "pdu_seconds", "network_seconds")
LIMITS = ("max_associations", "max_associations_per_peer", *OF_TIME, "max_object_bytes", "max_refused")


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def sop_classes() -> str:
    """What we store, sorted by UID as the standard's own table is."""
    known = sorted({*contexts.STORAGE, *contexts.RETIRED}, key=lambda uid: [int(part) for part in uid.split(".")])
    rows = [(_class_name(uid), f"`{uid}`", "yes" if uid in contexts.ANSWERS else "no") for uid in known]
    return table(("SOP class", "UID", "can be analysed"), rows)


def _class_name(uid: str) -> str:
    name = contexts.name(uid)
    return f"{'(without a name in our dictionary)' if name == uid else name}{' (retired)' if uid in contexts.RETIRED else ''}"


def transfer_syntaxes() -> str:
    """In the order of preference."""
    rows = [(place, contexts.name(uid), f"`{uid}`", _read(uid)) for place, uid in enumerate(contexts.TRANSFER_SYNTAXES, 1)]
    return table(("preferred", "transfer syntax", "UID", "pixels are read"), rows)


def _read(uid: str) -> str:
    return "yes" if why_not(uid) is None else "no, stored only"


def documents() -> str:
    """What we send."""
    rows = [(contexts.name(uid), f"`{uid}`", f"`{kind}`") for kind, uid in OF_DOCUMENTS.items()]
    return table(("SOP class", "UID", "document"), rows)


def limits() -> str:
    """Those of the configuration that are there, then those that are built in."""
    fields: dict[str, FieldInfo] = {f"listener.{name}": field for name, field in Listener.model_fields.items() if name in LIMITS}
    fields["listener.tls.handshake_seconds"] = Tls.model_fields["handshake_seconds"]
    fields["state.min_free_bytes"] = State.model_fields["min_free_bytes"]
    rows: list[tuple[str, object]] = [(f"`{name}`", field.default) for name, field in fields.items()]
    return table(("limit", "default"), [*rows, *_built_in()])


def _built_in() -> list[tuple[str, object]]:
    return [
        ("Maximum Length that we announce, bytes", scp.MAXIMUM_PDU),
        ("longest PDU that is read before an association is open, bytes", connection.BEFORE),
        ("longest PDU that is read on an open association, bytes", connection.AFTER),
        ("connections that have not asked for an association", wire.UNASKED),
        ("references of one storage commitment request", commitment_wire.MOST_REFERENCES),
        ("report on the association that asked: wait before it, s", commitment.GRACE),
        ("report on the association that asked: answer, s", commitment_wire.HERE_TIMEOUT),
        ("as requestor: Maximum Length that we announce, bytes", AE().maximum_pdu_size),
        ("as requestor: connection, s", requestor.CONNECT_TIMEOUT),
        ("as requestor: answer, s", requestor.ANSWER_TIMEOUT),
    ]


def rejections() -> str:
    """Result, source and reason of our A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    rows = [
        ("the called AE title is not ours, and `listener.require_called_ae_title` is on", peers.CALLED_UNKNOWN),
        ("the calling AE title has no block in `listener.peers`, or calls from another network", peers.CALLING_UNKNOWN),
        ("a certificate is pinned to the calling AE title, and it showed another one, none, or calls without TLS", peers.CALLING_UNKNOWN),
        ("less than `state.min_free_bytes` is free, or `state.dir` cannot be read", peers.CONGESTED),
        ("`listener.max_associations` are open", peers.LIMIT_EXCEEDED),
        ("as many of this peer are open as its block or `listener.max_associations_per_peer` allows", peers.LIMIT_EXCEEDED),
    ]
    return table(("when", "result", "source", "reason", "in words"), [(when, *answer, _RJ[answer]) for when, answer in rows])


_RJ = {
    peers.CALLED_UNKNOWN: "permanent, service-user: called-AE-title-not-recognized",
    peers.CALLING_UNKNOWN: "permanent, service-user: calling-AE-title-not-recognized",
    peers.CONGESTED: "transient, service-provider (presentation): temporary-congestion",
    peers.LIMIT_EXCEEDED: "transient, service-provider (presentation): local-limit-exceeded",
}


def statuses() -> str:
    """Of our C-STORE responses (PS3.4 table B.2-1, PS3.7 C)."""
    failures = (errors.OutOfResources, errors.Mismatch, errors.CannotUnderstand, errors.NotStorage)
    said = (
        "out of resources: disk, ledger or a limit; nothing is left behind, send again",
        "SOP Class or SOP Instance UID of command and data set differ",
        "the data set is missing or cannot be read, or an identifier is missing or no UID",
        "the presentation context is of another service than storage",
    )
    rows = [("`0x0000`", "bytes and ledger row survive a power cut; also for what is held already or was kept aside")]
    rows += [(f"`0x{error.status:04X}`", meaning) for error, meaning in zip(failures, said, strict=True)]
    return table(("status", "meaning"), rows)


def actions() -> str:
    """Statuses of our N-ACTION responses (PS3.7 10.1.4.1.10)."""
    rows = [
        (0x0000, "the request is on disk; a report follows, across restarts"),
        (commitment_wire._NO_SUCH_CLASS, "another SOP class than storage commitment"),
        (commitment_wire._NO_SUCH_INSTANCE, "not the well-known SOP Instance"),
        (commitment_wire._NO_SUCH_ACTION, "Action Type ID is not 1"),
        (commitment_wire._INVALID_ARGUMENT, "Action Information, Transaction UID or references are missing, empty or no UIDs"),
        (commitment_wire._PROCESSING_FAILURE, "Action Information cannot be read"),
        (commitment_wire.RESOURCE_LIMITATION, "too many references, or no room for the request on the disk"),
    ]
    return table(("status", "meaning"), [(f"`0x{status:04X}`", meaning) for status, meaning in rows])


def failures() -> str:
    """Failure Reasons of our reports (PS3.3 C.14.1.1)."""
    rows = [
        (commitment.NO_SUCH_INSTANCE, "it was never received"),
        (commitment.CLASS_CONFLICT, "we hold it, of another SOP class than the request says"),
        (commitment.PROCESSING_FAILURE, "its file is gone, cannot be read, or is not the one that arrived"),
        (commitment.DUPLICATE_TRANSACTION, "its peer used the Transaction UID for other instances before"),
    ]
    return table(("Failure Reason", "meaning"), [(f"`0x{reason:04X}`", meaning) for reason, meaning in rows])


def accepted_reports() -> str:
    """What the answer to a report may be (PS3.7 C)."""
    rows = [(f"`0x{status:04X}`", "accepted; not sent again") for status in sorted(commitment_wire.ACCEPTED)]
    return table(("status of the N-EVENT-REPORT response", "what we do"), [*rows, ("any other, or none", "sent again later")])


TABLES: dict[str, Callable[[], str]] = {
    "sop-classes": sop_classes,
    "transfer-syntaxes": transfer_syntaxes,
    "documents": documents,
    "limits": limits,
    "rejections": rejections,
    "statuses": statuses,
    "actions": actions,
    "failures": failures,
    "accepted-reports": accepted_reports,
}


def rewritten(text: str) -> str:
    """`text` with every table made anew. Raises ValueError where the place of one is missing."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.S)
        if not pattern.search(text):
            raise ValueError(f"CONFORMANCE.md has no place for the table {name}; add <!-- {name} --> and <!-- /{name} -->")
        opening, closing = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        text = pattern.sub((opening + make() + closing).replace("\\", "\\\\"), text)
    return text


if __name__ == "__main__":
    FILE.write_text(rewritten(FILE.read_text()))
    print(FILE)
