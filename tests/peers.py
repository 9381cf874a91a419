"""Peers for tests: a PACS that stores, one that refuses, Orthanc; a scanner; and `vitalcheck serve` as a child process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.presentation import AllStoragePresentationContexts, build_context
from pynetdicom.sop_class import Verification

from listener.config import Destination
from listener.requestor import associate

HERE = Path(__file__).parent
FAIR = {**os.environ, "TCP_NODELAY": "1"}  # without it dcmtk and Orthanc stall 44 ms per object, and prove nothing


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float = 20.0, what: str = "it") -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


def need(tool: str) -> str:
    """The path of a Debian tool; skips the test, naming it, where it is missing."""
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin")
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


class StoragePeer:
    """A storage SCP on a free port that keeps what it gets; `status` is what it answers with."""

    def __init__(self, ae_title: str = "PACS", status: int = 0x0000, port: int = 0, contexts: Sequence[Any] = ()) -> None:
        self.received: list[Dataset] = []
        self.status = status
        ae = AE(ae_title)
        ae.supported_contexts = [*(contexts or AllStoragePresentationContexts), build_context(Verification)]
        ae.require_called_aet = True
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server: Any = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        self.port = int(self._server.server_address[1])
        self.destination = Destination(name="pacs", ae_title=ae_title, host="127.0.0.1", port=self.port)

    def _store(self, event: Any) -> int:
        if self.status in (0x0000, 0xB000):
            ds = event.dataset
            ds.file_meta = event.file_meta
            self.received.append(ds)
        return self.status

    def hang_up(self) -> None:
        """Aborts what is open."""
        for assoc in self._server.active_associations:
            assoc.abort()

    def stop(self) -> None:
        self._server.shutdown()

    def __enter__(self) -> StoragePeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def silent_peer() -> Iterator[Destination]:
    """Accepts the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []
        threading.Thread(target=lambda: kept.append(server.accept()[0]), daemon=True).start()
        yield Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=server.getsockname()[1])
        for connection in kept:
            connection.close()


def dead_peer() -> Destination:
    """Nobody listens there."""
    return Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())


@contextmanager
def scanner(
    port: int, sop_classes: Sequence[str], *, calling: str = "CT01", called: str = "VITALCHECK", syntaxes: Any = None
) -> Iterator[Any]:
    """An association of a scanner with `port`, established or not."""
    ae = AE(calling)
    for sop_class in dict.fromkeys(sop_classes):
        ae.add_requested_context(sop_class, syntaxes)
    assoc = associate(ae, "127.0.0.1", port, ae_title=called)
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def push(port: int, datasets: Sequence[Dataset], *, calling: str = "CT01") -> list[int]:
    """Stores all on one association; the statuses."""
    syntaxes = sorted({str(ds.file_meta.TransferSyntaxUID) for ds in datasets})
    with scanner(port, [ds.SOPClassUID for ds in datasets], calling=calling, syntaxes=syntaxes) as assoc:
        assert assoc.is_established
        return [int(assoc.send_c_store(ds).Status) for ds in datasets]


def store_as(assoc: Any, ds: Dataset, uid: str) -> int:
    """A C-STORE whose command names another SOP Instance UID than its data set; the status. The library would not send it by itself."""
    request = C_STORE()
    request.MessageID, request.Priority, request.AffectedSOPClassUID = 1, 2, ds.SOPClassUID
    request._affected_sop_instance_uid = uid
    request.DataSet = BytesIO(encode(ds, is_implicit_vr=False, is_little_endian=True) or b"")
    assoc._reactor_checkpoint.clear()  # as Association.send_c_store does, so that the answer is ours to take
    wait_for(lambda: assoc._is_paused, 5, "the pause of the reactor")
    assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return int(answer.Status)


class Node:
    """`vitalcheck serve` as a child process, with its log in a file."""

    pacs: Orthanc  # where a test gave it one

    def __init__(self, folder: Path, pacs_port: int | None = None, *, stand_in: str | None = "answer", **sections: dict[str, Any]) -> None:
        self.folder, self.log_path, self.stand_in = folder, folder / "serve.log", stand_in
        self.port, self.http_port = free_port(), free_port()
        self.state = folder / "state"
        self._config, self._sections = folder / "vitalcheck.toml", sections
        self.configure(pacs_port)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, pacs_port: int | None) -> None:
        self._config.write_text(_toml(self.port, self.http_port, pacs_port, self._sections))

    def start(self, *, ready: bool = True) -> Node:
        command = [sys.executable, str(HERE / "stand_in.py"), str(self._config)]
        if self.stand_in is None:
            command = [sys.executable, "-c", "from listener.cli import main; main()", "serve", "--config", str(self._config)]
        environment = {**os.environ, "STAND_IN": self.stand_in or "", "PYTHONPATH": str(HERE.parent)}
        self._starts = len(self.events("service.ready"))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, env=environment, cwd=self.folder)
        if ready:
            self._wait_until_ready()
        return self

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log_path.read_text()
            return len(self.events("service.ready")) > self._starts

        wait_for(ready, 90, "service.ready")

    @property
    def spool(self) -> Path:
        return self.state / "spool"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the log says under `name`."""
        lines = self.log_path.read_text().splitlines() if self.log_path.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def wait_for_event(self, name: str, seconds: float = 20.0) -> dict[str, Any]:
        event: dict[str, Any] = wait_for(lambda: self.events(name), seconds, name)[-1]
        return event

    def worker_pids(self) -> list[int]:
        """Those that live."""
        pids = {event["pid"] for event in self.events("worker.started")}
        return sorted(pid for pid in pids if is_alive(pid))

    def describe(self, uid: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/api/studies/{uid}", timeout=5) as answer:
            described: dict[str, Any] = json.load(answer)
        return described

    def wait_for_state(self, uid: str, *states: str, seconds: float = 30.0) -> dict[str, Any]:
        def told() -> dict[str, Any] | None:
            found = self.describe(uid)
            return found if found["state"] in states else None

        described: dict[str, Any] = wait_for(told, seconds, f"{uid} {' or '.join(states)}")
        return described

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self.wait(seconds)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait(self, seconds: float = 30.0) -> int:
        """The exit status, once it has ended."""
        assert self._process is not None
        return self._process.wait(seconds)

    def end(self) -> None:
        """Afterwards it is gone, and its workers die with it. Draining takes 2 s longer; tests that are about it call `stop`."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def __enter__(self) -> Node:
        try:
            return self.start()
        except AssertionError:
            self.end()
            raise

    def __exit__(self, *_: object) -> None:
        self.end()


def is_alive(pid: int) -> bool:
    """Not gone, and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _toml(port: int, http_port: int, pacs_port: int | None, sections: dict[str, dict[str, Any]]) -> str:
    """The configuration; `sections` add keys or replace them."""
    base: dict[str, dict[str, Any]] = {
        "listener": {"host": "127.0.0.1", "port": port},
        "state": {"dir": "state", "min_free_bytes": 0},
        "completion": {"quiet_seconds": 0.5},
        "http": {"port": http_port},
    }
    for name, keys in sections.items():
        base.setdefault(name, {}).update(keys)
    peers = base["listener"].pop("peers", [{"ae_title": "CT01"}, {"ae_title": "ORTHANC", "host": "127.0.0.0/8"}])
    lines = [_table(f"[{name}]", keys) for name, keys in base.items()]
    lines += [_table("[[listener.peers]]", peer) for peer in peers]
    if pacs_port is not None:
        lines.append(f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs_port}\n')
    return "\n".join(lines)


def _table(head: str, keys: dict[str, Any]) -> str:
    return f"{head}\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


class Orthanc:
    """Debian's Orthanc as a child process: a PACS with a REST interface that needs no mock."""

    def __init__(self, folder: Path, ai_port: int, ae_title: str = "PACS", *, commitments: bool = False) -> None:
        program = need("Orthanc")
        self.port, self.http_port = free_port(), free_port()
        ai = {"AET": "VITALCHECK", "Host": "127.0.0.1", "Port": ai_port, "LocalAet": "ORTHANC", "AllowStorageCommitment": commitments}
        settings = {
            "StorageDirectory": str(folder / "orthanc"), "IndexDirectory": str(folder / "orthanc"), "Plugins": [],
            "HttpPort": self.http_port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "HttpBindAddresses": ["127.0.0.1"],
            "DicomPort": self.port, "DicomAet": ae_title, "DicomAlwaysAllowStore": True, "DicomCheckCalledAet": False,
            "DicomModalities": {"AI": ai},
        }  # fmt: skip
        (folder / "orthanc").mkdir(parents=True, exist_ok=True)
        path = folder / "orthanc.json"
        path.write_text(json.dumps(settings))
        self._log = (folder / "orthanc.log").open("wb")
        self._process = subprocess.Popen([program, str(path)], stdout=self._log, stderr=subprocess.STDOUT, env=FAIR)
        wait_for(self._answers, 20, "Orthanc")

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except OSError:
            return False

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def file(self, instance: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/instances/{instance}/file", timeout=10) as answer:
            return bytes(answer.read())

    def post(self, path: str, body: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=data, method="POST")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def instances(self, modality: str | None = None) -> list[str]:
        """Orthanc's identifiers of what it holds."""
        query = {"Level": "Instance", "Query": {"Modality": modality} if modality else {}}
        return sorted(self.post("/tools/find", query))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def __enter__(self) -> Orthanc:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def strace(*ids: int | str, options: Sequence[str]) -> Iterator[None]:
    """strace(1) on these processes or threads; skips the test where we may not."""
    attached = [option for each in ids for option in ("-p", str(each))]
    command = [need("strace"), "-e", "signal=none", *options, *attached]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = [tracer.stderr.readline() for _ in ids]
        if not all("attached" in line for line in said):
            tracer.kill()
            pytest.skip(f"strace may not attach: {' '.join(said).strip()}")
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=20)
