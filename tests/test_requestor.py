"""listener/requestor.py against the library's own race between its two threads."""

from __future__ import annotations

import time
from typing import Any

from objects import dataset
from peers import StoragePeer
from pydicom.uid import MRImageStorage
from pynetdicom import AE

from listener.requestor import associate


def test_an_answer_is_left_to_the_one_that_waits_for_it() -> None:
    """The thread that looks for requests takes no answer, though it has passed the checkpoint in the moment in which that was closed."""
    ae = AE("CT01")
    ae.dimse_timeout = 1.0
    ae.add_requested_context(MRImageStorage)
    with StoragePeer() as pacs:
        assoc = associate(ae, pacs.destination.host, pacs.destination.port, ae_title="PACS")
        assoc._reactor_checkpoint.wait = lambda: time.sleep(0.01)  # it says that it waits, and goes on
        take = assoc.dimse.get_msg

        def get_msg(block: bool = False) -> Any:
            time.sleep(0.2 if block else 0)  # the other thread is first
            return take(block)

        assoc.dimse.get_msg = get_msg
        assert assoc.send_c_store(dataset()).Status == 0x0000
        assoc.release()
