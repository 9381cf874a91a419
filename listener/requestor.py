"""requestor: associations that we ask for (PS3.8 7.1), as the sender of documents and of commitment reports.

The library loses the response to a C-STORE now and then, where the machine is busy. Two threads serve such an association: one looks for
requests, and stops at a checkpoint while the other sends and waits. It says that it has stopped before it has; where the checkpoint closes
in between, it goes on, meets the response first, and drops it as an "unexpected service message". The sender waits for its whole time-out,
and is told that there was no answer. The word that the connection is lost goes the same way, and then nobody is told.
"""

from __future__ import annotations

from typing import Any

from pynetdicom import AE


def associate(ae: AE, host: str, port: int, **asked: Any) -> Any:
    """As AE.associate, but responses are left to the one that waits for them. Raises OSError where the host has no address."""
    assoc: Any = ae.associate(host, port, **asked)
    checkpoint, take, peek = assoc._reactor_checkpoint, assoc.dimse.get_msg, assoc.dimse.peek_msg

    def get_msg(block: bool = False) -> Any:
        if block:
            return take(block)
        _, next_one = peek()  # None, too, for a lost connection; of that the upper layer tells who looks for requests
        return take(block) if checkpoint.is_set() and next_one else (None, None)

    assoc.dimse.get_msg = get_msg
    return assoc
