"""`make demo`: a scanner pushes a head MR study, VitalCheck reads it, a PACS holds the Structured Reports. All on this machine.

    scripts/demo_study > C-STORE > vitalcheck serve > C-STORE > out/demo

Three real parties on free loopback ports: scanner and PACS are pynetdicom in this process, the node is the command that
`make serve` runs. Exit status 0 when both reports arrived and the node drained, else 1.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from listener.requestor import associate
from scripts.readable import readable

STUDY = Path(__file__).parent / "demo_study"
OUT = Path("out/demo")
START_SECONDS = 60.0  # a first start compiles byte code and replays golden vectors
REPORT_SECONDS = 120.0
DRAIN_SECONDS = 35.0  # `serve` promises 30
CONFIG = """
listener = {{ ae_title = "VITALCHECK", host = "127.0.0.1", port = {port}, peers = [{{ ae_title = "MR01" }}] }}
destinations = [{{ name = "pacs", ae_title = "PACS", host = "127.0.0.1", port = {pacs_port} }}]
http = {{ port = {http_port} }}
completion = {{ quiet_seconds = 2.0 }}
state = {{ dir = "state", min_free_bytes = 67108864 }}
"""


class DemoFailed(Exception):
    """One line: what did not happen."""


def main() -> int:
    """Runs the demo; where it fails, says what happened and shows the end of the node's log."""
    with tempfile.TemporaryDirectory(prefix="vitalcheck-demo-") as folder:
        try:
            run(Path(folder))
        except DemoFailed as failure:
            print(f"demo: {failure}; the end of the node's log:", file=sys.stderr)
            print(*(Path(folder) / "serve.log").read_text(errors="replace").splitlines()[-25:], sep="\n", file=sys.stderr)
            return 1
    return 0


def run(folder: Path) -> None:
    """Push, wait, print. Raises DemoFailed."""
    instances = [pydicom.dcmread(path) for path in sorted(STUDY.glob("*.dcm"))]
    study_uid = instances[0].StudyInstanceUID
    with pacs(OUT) as pacs_port, node(folder, pacs_port) as (port, http_port):
        print(f"VitalCheck listens as VITALCHECK on 127.0.0.1:{port}, a stand-in PACS as PACS on 127.0.0.1:{pacs_port}.")
        start = time.monotonic()
        push(instances, port)
        released = time.monotonic()
        print(f"The scanner MR01 pushed {len(instances)} instances of study {study_uid} in {released - start:.1f} s.")
        study = await_delivered(http_port, study_uid)
        print(f"Both Structured Reports were in the PACS {time.monotonic() - released:.1f} s after the association's release.")
    show(study)


@contextmanager
def pacs(folder: Path) -> Iterator[int]:
    """A storage SCP that writes reports into `folder`; gives its port."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.dcm"):
        old.unlink()

    def handle_store(event: Any) -> int:
        (folder / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    ae = AE(ae_title="PACS")
    for sop_class in (EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage):
        ae.add_supported_context(sop_class)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle_store)])
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@contextmanager
def node(folder: Path, pacs_port: int) -> Iterator[tuple[int, int]]:
    """`vitalcheck serve` as a child, ready; gives its DICOM and HTTP ports and drains it in the end. Raises DemoFailed."""
    port, http_port = free_ports(2)
    config = folder / "vitalcheck.toml"
    config.write_text(CONFIG.format(port=port, pacs_port=pacs_port, http_port=http_port))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VITALCHECK_")}
    command = [str(Path(sys.executable).with_name("vitalcheck")), "serve", "--config", str(config)]
    with (folder / "serve.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment) as child:
        try:
            await_ready(child, http_port)
            yield port, http_port
        finally:
            child.terminate()
            try:
                child.wait(DRAIN_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
    if child.returncode != 0:
        raise DemoFailed(f"`vitalcheck serve` ended with exit status {child.returncode} instead of draining")


def await_ready(child: subprocess.Popen[bytes], http_port: int) -> None:
    """Returns when /readyz answers 200. Raises DemoFailed."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and child.poll() is None:
        try:
            ask(http_port, "/readyz")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise DemoFailed(f"`vitalcheck serve` {'was not ready in time' if child.poll() is None else 'did not start'}")


def ask(http_port: int, path: str) -> Any:
    """The JSON that the node's HTTP server answers. Raises OSError."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}{path}", timeout=5) as response:
        return json.load(response)


def push(instances: list[Any], port: int, called: str = "VITALCHECK") -> None:
    """C-STOREs all instances to `called` in one association, each in the transfer syntax it lies in. Raises DemoFailed."""
    ae = AE(ae_title="MR01")
    ae.dimse_timeout = ae.network_timeout = REPORT_SECONDS  # an acknowledgement waits for the disk, which may be busy
    for sop_class, syntax in {(i.SOPClassUID, i.file_meta.TransferSyntaxUID) for i in instances}:
        ae.add_requested_context(sop_class, syntax)
    assoc = associate(ae, "127.0.0.1", port, ae_title=called)
    if not assoc.is_established:
        raise DemoFailed(f"{called} did not accept an association from MR01")
    kept = [assoc.is_established and assoc.send_c_store(instance).get("Status") == 0x0000 for instance in instances]
    assoc.release()
    if not all(kept):
        raise DemoFailed(f"{kept.count(False)} of {len(instances)} instances were not answered with 0x0000")


def await_delivered(http_port: int, study_uid: str) -> Any:
    """What the node knows of the study once all of it is answered and the PACS holds the answer. Raises DemoFailed."""
    until = time.monotonic() + REPORT_SECONDS
    while (study := ask(http_port, f"/api/studies/{study_uid}"))["state"] != "delivered":
        if study["state"] in ("declined", "quarantined") or time.monotonic() > until:
            raise DemoFailed(f"the study is {study['state']} ({study['reason'] or 'still'}) instead of delivered")
        time.sleep(0.1)
    return study


def show(study: Any) -> None:
    """How long each stage took, the Summary as text, and where both documents are."""
    stages = study["results"][-1]["timings_ms"]
    paths = {
        document["kind"]: (OUT / f"{document['sop_instance_uid']}.dcm").resolve() for document in study["documents"]
    }  # the last of a kind
    print("Analysis: " + ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in stages.items()) + ".")
    print(f"\n{readable(paths['summary'].read_bytes()).strip()}\n")
    print(f"Structured Reports, as the PACS received them:\n  {paths['summary']}\n  {paths['measurements']}")


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    sys.exit(main())
