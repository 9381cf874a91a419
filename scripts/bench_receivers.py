"""The receivers that `make bench-receive` compares: how each is started, and what the kernel says of its processes.

    product    `vitalcheck serve` as it is shipped; it acknowledges what is durable
    storescp   dcmtk, as `storescp PORT`: one association after another; never syncs
    forking    dcmtk, one process for each association, bytes written as they came, PDUs as large as it takes: the fastest that it offers
    orthanc    defaults but for the size of PDUs; one fdatasync for each file
    stock      pynetdicom's public API with default settings; never syncs
    sink       keeps nothing

dcmtk and Orthanc run with TCP_NODELAY=1: without it they wait some 44 ms for the sender's delayed acknowledgement with each instance.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts import demo
from scripts.bench_senders import CALLED, Association, NotSent

ROOT = Path(__file__).parent.parent
START_SECONDS, STOP_SECONDS = 60.0, 35.0  # `serve` promises 30 to drain
TICK = os.sysconf("SC_CLK_TCK")  # of utime and stime, in a second (proc_pid_stat(5))
CONFIG = """
listener = {{ ae_title = "{title}", host = "127.0.0.1", port = {port}, allow_any_peer = true }}
http = {{ port = {http_port} }}
completion = {{ quiet_seconds = 86400.0, max_wait_seconds = 86400.0 }}
worker = {{ processes = 1 }}
state = {{ dir = "state", min_free_bytes = 67108864 }}
"""  # nothing becomes complete while we measure, so nothing is analysed; all else is the default


class NoReceiver(Exception):
    """One line: which receiver cannot be measured, and how to mend it."""


@dataclass(frozen=True)
class Running:
    """A receiver that listens."""

    name: str
    pid: int
    port: int


@contextmanager
def started(name: str, folder: Path) -> Iterator[Running]:
    """The receiver, listening, with all that it keeps under `folder`; ended afterwards. Raises NoReceiver."""
    folder.mkdir(parents=True)
    port, http_port = demo.free_ports(2)
    command = COMMANDS[name](folder, port, http_port)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VITALCHECK_")} | {"TCP_NODELAY": "1"}
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT) as child:
        try:
            _await(name, child, port, http_port)
            yield Running(name, child.pid, port)
        finally:
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


def _await(name: str, child: subprocess.Popen[bytes], port: int, http_port: int) -> None:
    """Returns when it accepts an association; the product also says when its worker is ready."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and child.poll() is None:
        try:
            if name == "product":
                demo.ask(http_port, "/readyz")
            Association(port).release()
        except (OSError, NotSent):
            time.sleep(0.1)
        else:
            return
    raise NoReceiver(f"{name}: did not start within {START_SECONDS:g} s; run it by hand, or leave it out with --receivers")


def program(name: str) -> str:
    """Its path. Raises NoReceiver."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is None:
        raise NoReceiver(f"{name}: not installed; apt-get install dcmtk orthanc, or leave it out with --receivers")
    return path


def _product(folder: Path, port: int, http_port: int) -> list[str]:
    config = folder / "vitalcheck.toml"
    config.write_text(CONFIG.format(title=CALLED, port=port, http_port=http_port))
    return [str(Path(sys.executable).with_name("vitalcheck")), "serve", "--config", str(config)]


def _storescp(folder: Path, port: int, _http_port: int) -> list[str]:
    (folder / "kept").mkdir()
    return [program("storescp"), "-aet", CALLED, "-od", str(folder / "kept"), str(port)]


def _forking(folder: Path, port: int, http_port: int) -> list[str]:
    command, *options = _storescp(folder, port, http_port)
    return [command, "--fork", "--bit-preserving", "--max-pdu", "131072", *options]


def _orthanc(folder: Path, port: int, http_port: int) -> list[str]:
    kept = str(folder / "kept")
    settings = {
        "StorageDirectory": kept, "IndexDirectory": kept, "Plugins": [], "DicomPort": port, "DicomAet": CALLED,
        "HttpPort": http_port, "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True, "DicomCheckCalledAet": False, "MaximumPduLength": 131072,
    }  # fmt: skip
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings))
    return [program("Orthanc"), str(path)]


def _peer(name: str, folder: Path, port: int) -> list[str]:
    (folder / "kept").mkdir()
    return [sys.executable, "-m", "scripts.bench_peers", name, str(port), str(folder / "kept")]


COMMANDS: dict[str, Callable[[Path, int, int], list[str]]] = {
    "product": _product,
    "storescp": _storescp,
    "forking": _forking,
    "orthanc": _orthanc,
    "stock": lambda folder, port, _http_port: _peer("stock", folder, port),
    "sink": lambda folder, port, _http_port: _peer("sink", folder, port),
}


# --- /proc ------------------------------------------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """The process and all its descendants, zombies too."""
    parents = {int(path.name): stat for path in Path("/proc").iterdir() if path.name.isdigit() and (stat := _stat(path))}
    found = [pid]
    for parent in found:
        found += [child for child, stat in parents.items() if int(stat[1]) == parent]
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, its descendants, and those of them that have ended and been waited for."""
    stats = [_stat(Path("/proc") / str(each)) for each in tree(pid)]
    return sum(int(ticks) for stat in stats for ticks in stat[11:15]) / TICK


def _stat(path: Path) -> list[str]:
    """Fields of proc_pid_stat(5) from the state on, after the name that may hold anything; none of a process that is gone."""
    try:
        return (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def pss_mb(pids: list[int]) -> float:
    """Proportional set size: memory that is shared counts in parts, so sums are true."""
    return sum(_pss_kb(pid) for pid in pids) / 1024


def _pss_kb(pid: int) -> int:
    try:
        lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended meanwhile
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
