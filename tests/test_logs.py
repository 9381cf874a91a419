"""listener/logs.py in a process of its own, for it is configured once per process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from objects import SECRET

from listener import logs
from listener.errors import UnknownStudy

HERE = Path(__file__).parent
CARELESS = """
import logging, threading, warnings
from objects import SECRET, dataset
from listener import logs
logs.configure("json", "info")
log, ds = logs.get(), dataset()
log.info("instance.kept", study_uid=ds.StudyInstanceUID, bytes=12, ms=1.5, instances=[1, 2], assoc="3f2a")
log.info("careless", patient=SECRET, reason=ds.PatientName, error=ds["PatientName"], ds=ds, where=[ds.PatientName])
log.debug("too.low")
warnings.warn(f"odd value {SECRET}")
logging.getLogger("somebody").warning("cannot read %s", SECRET)
try:
    int(SECRET)
except ValueError:
    logging.getLogger("pynetdicom").exception("handler failed on %s", SECRET)
logging.getLogger("pynetdicom").error("peer hung up %s", SECRET)
thread = threading.Thread(target=int, args=[SECRET])
thread.start()
thread.join()
ds.EchoTime = SECRET
"""


def said() -> list[dict[str, object]]:
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}"}
    done = subprocess.run([sys.executable, "-c", CARELESS], capture_output=True, text=True, timeout=60, env=environment)
    assert SECRET not in done.stderr + done.stdout
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def test_only_what_is_allowed_leaves_the_process() -> None:
    """UIDs and numbers do; a patient's name does not, whatever key or object carries it, nor what a library says of one."""
    kept, careless, *libraries, in_thread, at_the_end = said()
    assert kept.items() >= {"event": "instance.kept", "study_uid": "1.2.3", "bytes": 12, "instances": [1, 2], "level": "info"}.items()
    assert careless.keys() == {"event", "level", "timestamp"}
    assert [event["library"] for event in libraries] == ["py.warnings", "somebody", "pynetdicom"]
    assert str(libraries[-1]["error"]).startswith("ValueError at <string>:")
    for uncaught in (in_thread, at_the_end):
        assert uncaught["event"] == "uncaught"
        assert str(uncaught["error"]).startswith("ValueError at ")
        assert uncaught["where"]


def test_errors_of_libraries_are_told_without_their_words() -> None:
    """A library's message may quote a value of the study, so only its type and place are told; our own are told in their words."""
    try:
        raise ValueError(f"cannot convert {SECRET}")
    except ValueError as error:
        told = logs.explain(error)
    assert told.startswith("ValueError at test_logs.py:")
    assert SECRET not in told
    assert logs.explain(UnknownStudy("1.2.3")).startswith("no study 1.2.3 here")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """Full disk behind stderr, or a reader that is gone: the event is lost, and the program goes on."""
    code = "from listener import logs; logs.configure(); [logs.get().info('x', count=k) for k in range(3)]; open('done', 'w')"
    run = [sys.executable, "-c", code]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(run, stderr=full, cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "done").exists()
    (tmp_path / "done").unlink()
    gone, stderr = os.pipe()
    os.close(gone)
    assert subprocess.run(run, stderr=stderr, cwd=tmp_path, check=False).returncode == 0
    os.close(stderr)
    assert (tmp_path / "done").exists()
