"""conformance: the tables of CONFORMANCE.md, again from the code. What a table says is what negotiation does.

    python -m scripts.conformance

Each table stands between <!-- name --> and <!-- /name -->; the prose around it stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic.fields import FieldInfo

from listener import contexts, delivery, errors, scp
from listener.config import Listener, State
from pipeline.sop_classes import OF_DOCUMENTS
from pipeline.syntaxes import why_not

FILE = Path(__file__).parent.parent / "CONFORMANCE.md"
LIMITS = ("max_associations", "max_associations_per_peer", "acse_seconds", "pdu_seconds", "network_seconds", "max_object_bytes")


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
    fields["state.min_free_bytes"] = State.model_fields["min_free_bytes"]
    rows = [(f"`{name}`", field.default) for name, field in fields.items()]
    rows.append(("longest PDU received, bytes (announced)", scp.MAXIMUM_PDU))
    rows.append(("as SCU: connection, s", delivery.CONNECT_TIMEOUT))
    rows.append(("as SCU: answer, s", delivery.ANSWER_TIMEOUT))
    return table(("limit", "default"), rows)


def statuses() -> str:
    """Of our C-STORE responses (PS3.4 table B.2-1, PS3.7 C)."""
    failures = (errors.OutOfResources, errors.Mismatch, errors.CannotUnderstand, errors.NotStorage)
    said = (
        "out of resources: disk, ledger or a limit; nothing is left behind, send again",
        "SOP Class or SOP Instance UID of command and data set differ",
        "the data set cannot be read, or an identifier is missing or no UID",
        "the presentation context is of another service than storage",
    )
    rows = [("`0x0000`", "bytes and ledger row survive a power cut; also for what is held already or was kept aside")]
    rows += [(f"`0x{error.status:04X}`", meaning) for error, meaning in zip(failures, said, strict=True)]
    return table(("status", "meaning"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "sop-classes": sop_classes,
    "transfer-syntaxes": transfer_syntaxes,
    "documents": documents,
    "limits": limits,
    "statuses": statuses,
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
