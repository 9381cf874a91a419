"""requestor: associations that we ask for (PS3.8 7.1), as the sender of documents and of commitment reports.

The library loses the response to a C-STORE now and then, where the machine is busy. Two threads serve such an association: one looks for
requests, and stops at a checkpoint while the other sends and waits. It says that it has stopped before it has; where the checkpoint closes
in between, it goes on, meets the response first, and drops it as an "unexpected service message". The sender waits for its whole time-out,
and is told that there was no answer. The word that the connection is lost goes the same way, and then nobody is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.presentation import PresentationContext

CONNECT_TIMEOUT, ANSWER_TIMEOUT = 10.0, 60.0  # s; a PACS may be busy, but not for longer than the pause before the next attempt


@contextmanager
def associated(
    host: str, port: int, called: str, calling: str, contexts: Sequence[PresentationContext], key: str, roles: Sequence[Any] = ()
) -> Iterator[Any]:
    """An open association, released at the end; or, as one line, why there is none. Raises nothing for a peer's sake.

    `key`: where the configuration has the port.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    ae = AE(calling)
    ae.connection_timeout, ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = CONNECT_TIMEOUT, *[ANSWER_TIMEOUT] * 3
    ae.requested_contexts = list(contexts)
    try:
        assoc = associate(ae, host, port, ae_title=called, ext_neg=list(roles))
    except OSError as error:  # a host name that no one knows
        yield f"{host}:{port}: {error.strerror or type(error).__name__}"
        return
    if not assoc.is_established:
        yield _why_not(assoc, f"{called} at {host}:{port}", key)
        return
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def _why_not(assoc: Any, peer: str, key: str) -> str:
    answer = assoc.acceptor.primitive
    if assoc.is_rejected and answer is not None:
        return f"{peer} rejected the association: {answer.reason_str}; does it know our AE title?"
    if answer is not None and not assoc.accepted_contexts:
        names = dict.fromkeys(context.abstract_syntax.name for context in assoc.requestor.requested_contexts)
        return f"{peer} does not accept {' or '.join(names)}; switch it on there"
    return f"no association with {peer}; is it running, and is that its {key}?"


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
