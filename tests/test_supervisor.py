"""listener/supervisor.py: workers come and go; the receiver stays."""

from __future__ import annotations

import sys

from listener.supervisor import Supervisor


def test_a_worker_that_cannot_be_started_is_tried_again_later() -> None:
    """No memory for a process, an interpreter that is being replaced: receiving goes on, and so do the attempts."""
    workers = Supervisor(1, None)
    workers.command = ("/no/such/python",)
    workers.keep_alive(100.0)
    assert not workers.pids
    workers.command = (sys.executable, "-c", "import time; time.sleep(60)")
    workers.keep_alive(100.5)  # too soon
    assert not workers.pids
    workers.keep_alive(102.0)
    assert len(workers.pids) == 1
    workers.stop(5.0)
