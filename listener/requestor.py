"""requestor: associations that we ask for (PS3.8 7.1), as the sender of documents and of commitment reports.

The library loses an answer now and then, on a busy machine one of some 5 000. Two threads serve such an association: one looks for
requests, and stops at a checkpoint while the other sends and waits. It says that it has stopped before it has; where the checkpoint
closes in between, it goes on, meets the answer first, and drops it as an "unexpected service message". The sender waits for its whole
time-out, and is told that there was no answer.
"""

from __future__ import annotations

from typing import Any

from pynetdicom import AE


def associate(ae: AE, host: str, port: int, **asked: Any) -> Any:
    """As AE.associate, but the answer is left to the one that waits for it. Raises OSError where the host has no address."""
    assoc: Any = ae.associate(host, port, **asked)
    checkpoint, take = assoc._reactor_checkpoint, assoc.dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        looks_for_requests = not block
        return (None, None) if looks_for_requests and not checkpoint.is_set() else take(block)

    assoc.dimse.get_msg = get_msg
    return assoc
