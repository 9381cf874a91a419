"""listener/requestor.py against the library's own race between its two threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from objects import dataset
from peers import StoragePeer, wait_for
from pydicom.uid import MRImageStorage
from pynetdicom import AE

from listener.requestor import associate


@contextmanager
def asked(pacs: StoragePeer) -> Iterator[Any]:
    """An association that waits for a second, and of which the thread that looks for requests is always first."""
    ae = AE("CT01")
    ae.dimse_timeout = 1.0
    ae.add_requested_context(MRImageStorage)
    assoc = associate(ae, pacs.destination.host, pacs.destination.port, ae_title="PACS")
    take = assoc.dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        time.sleep(0.2 if block else 0)
        return take(block)

    assoc.dimse.get_msg = get_msg
    yield assoc
    assoc.release()


def test_a_response_is_left_to_the_one_that_waits_for_it() -> None:
    """The thread that looks for requests takes none, though it has passed the checkpoint in the moment in which that was closed."""
    with StoragePeer() as pacs, asked(pacs) as assoc:
        assoc._reactor_checkpoint.wait = lambda: time.sleep(0.01)  # it says that it waits, and goes on
        assert assoc.send_c_store(dataset()).Status == 0x0000


def test_who_sends_on_a_lost_connection_is_told_so() -> None:
    """Lost between the look at the association and the sending: the sender does not wait for its time-out."""
    with StoragePeer() as pacs, asked(pacs) as assoc:
        assoc.dimse_timeout = 30.0
        context_for = assoc._get_valid_context

        def lost_meanwhile(*names: Any, **more: Any) -> Any:
            found = context_for(*names, **more)
            pacs.hang_up()
            wait_for(lambda: not assoc.is_established, 5, "the end of the association")
            return found

        assoc._get_valid_context = lost_meanwhile
        began = time.monotonic()
        assert "Status" not in assoc.send_c_store(dataset())
        assert time.monotonic() - began < 10
