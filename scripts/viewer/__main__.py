"""`make viewer`: what a radiologist sees of a report. A PACS, OHIF and VitalCheck on this machine, without Docker.

    scripts/demo_study > C-STORE > Orthanc        < DICOMweb < OHIF in your browser
                       > C-STORE > vitalcheck serve > C-STORE > Orthanc

    python -m scripts.viewer        # prints an address; Ctrl-C stops all of it

Everything listens on loopback only, and what it holds lies in a temporary folder that goes away with it.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pydicom

from listener.web.app import Server
from scripts.demo import STUDY, DemoFailed, await_delivered, node, push
from scripts.viewer import ohif, origin
from scripts.viewer.pacs import orthanc

LOGS = ("orthanc.log", "serve.log")
STOPS = (signal.SIGINT, signal.SIGTERM)
LINES = 15  # of each log, where something failed


@dataclass(frozen=True, slots=True)
class Running:
    """Where viewer and PACS answer."""

    address: str
    pacs_http_port: int


def main() -> int:
    """Serves until Ctrl-C or SIGTERM; where it fails, says what happened and shows the end of the logs."""
    for number in STOPS:
        signal.signal(number, _stop)
    with tempfile.TemporaryDirectory(prefix="vitalcheck-viewer-") as folder:
        try:
            with serve(Path(folder)) as running:
                start = f"{running.address}/start"
                print(f"Open {start} in a browser, and send the demo study there (or: curl -X POST {start}/push).")
                print("Ctrl-C stops viewer, PACS and VitalCheck, and forgets what they hold.", flush=True)
                signal.pause()
        except KeyboardInterrupt:
            print("\nStopped.")
        except DemoFailed as failure:
            print(f"viewer: {failure}", file=sys.stderr)
            _show_logs(Path(folder))
            return 1
    return 0


@contextmanager
def serve(folder: Path) -> Iterator[Running]:
    """Viewer, PACS and node, all ready, with all they write below `folder`. Raises Missing, DemoFailed."""
    dist = ohif.dist()
    instances = [pydicom.dcmread(path) for path in sorted(STUDY.glob("*.dcm"))]
    study_uid = str(instances[0].StudyInstanceUID)
    with orthanc(folder) as (pacs_port, pacs_http_port), node(folder, pacs_port) as (port, http_port):

        def send() -> None:
            push(instances, pacs_port, "PACS")
            push(instances, port)

        demo = origin.Push(study_uid, send, partial(await_delivered, http_port, study_uid))
        server = Server(origin.create(dist, pacs_http_port, demo), "127.0.0.1", 0)
        try:
            yield Running(f"http://127.0.0.1:{server.port}", pacs_http_port)
        finally:
            server.stop()


def _stop(*_: object) -> None:
    """`kill` takes the same way out as Ctrl-C; a second one does not cut short what the first began, so nothing is left behind."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show_logs(folder: Path) -> None:
    for path in (folder / name for name in LOGS):
        if path.exists():
            print(f"the end of {path.name}:", *path.read_text(errors="replace").splitlines()[-LINES:], sep="\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
