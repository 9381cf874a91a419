"""The long proof that what was acknowledged is kept: SIGKILL to the receiver, again and again, while senders push.

make prove-kills                       20 kills, 4 senders; prints a line for each kill and a sum; exit 1 if anything was lost
python -m scripts.prove_kills --kills 3

After each kill the service starts again, and before anybody sends: every acknowledged object lies there bit by bit, every file of the spool
is whole and has its row, and spool/incoming is empty. SIGKILL leaves the page cache alone; what a power cut would take is told by
the order of system calls (tests/test_durable_order.py).
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RawDataStorage
from pynetdicom import AE
from pynetdicom.dsutils import encode

from listener.ledger import Ledger
from listener.requestor import associate

STUDY = "1.2.97"
BYTES = 150_000  # of an object: longer than a PDU, so that a kill finds some half-way
LIVES = (0.2, 0.8)  # s from the first acknowledgement after a start to the kill
START_SECONDS = 60.0
HOST = "127.0.0.1"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}


@dataclass(frozen=True)
class Found:
    """What one kill left."""

    kill: int
    acknowledged: int  # since the service began
    lost: int  # acknowledged, but not there or not as sent
    torn: int  # in the spool, but not as sent
    unknown: int  # files without rows, rows without files
    parts: int  # left in spool/incoming

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.torn or self.unknown or self.parts)


class Senders:
    """Threads that push objects of their own, one association after the other, while the gate is open."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self.acknowledged, self._gate, self._over = port, list[str](), threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._push, args=(number,), daemon=True) for number in range(count)]
        self._numbers = [0] * count
        for thread in self._threads:
            thread.start()

    def go(self) -> None:
        self._gate.set()

    def pause(self) -> None:
        self._gate.clear()

    def end(self) -> None:
        self._over.set()
        self._gate.set()
        for thread in self._threads:
            thread.join(15)

    def _push(self, number: int) -> None:
        ae = AE("CT01")
        ae.add_requested_context(RawDataStorage, ExplicitVRLittleEndian)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
        while not self._over.is_set():
            self._gate.wait()
            assoc = associate(ae, HOST, self._port, ae_title="VITALCHECK")
            while assoc.is_established and self._gate.is_set() and not self._over.is_set():
                self._store(assoc, number)
            with suppress(Exception):
                assoc.release()
            time.sleep(0.02)

    def _store(self, assoc: Any, number: int) -> None:
        self._numbers[number] += 1
        uid = f"{STUDY}.{number + 1}.{self._numbers[number]}"
        try:
            answer = assoc.send_c_store(instance(uid))
        except (RuntimeError, OSError, ValueError):  # it died meanwhile
            return
        if answer.get("Status") == 0x0000:
            self.acknowledged.append(uid)


def instance(uid: str) -> FileDataset:
    """A raw data object, which starts no work; all of it is decided by `uid`."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, RawDataStorage, uid
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = RawDataStorage, uid, STUDY, f"{STUDY}.1"
    ds.Modality, ds.PatientID, ds.PatientName, ds.ContentDate = "OT", "KILLED", "KILLED", "20260101"
    ds.EncapsulatedDocument = random.Random(uid).randbytes(BYTES)
    return ds


def data_set(uid: str) -> bytes:
    """As it is sent."""
    return encode(instance(uid), False, True) or b""


class Service:
    """`vitalcheck serve` over one state folder, to be killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.spool, self._log_path = folder, folder / "var" / "spool", folder / "serve.log"
        self._config = folder / "vitalcheck.toml"
        peers = '[[listener.peers]]\nae_title = "CT01"\n'
        self._config.write_text(
            f'[listener]\nhost = "{HOST}"\nport = {port}\n[state]\nmin_free_bytes = 0\n[http]\nport = {free_port()}\n{peers}'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it listens. Raises RuntimeError where it does not."""
        command = [sys.executable, "-c", "from listener.cli import main; main()", "serve", "--config", str(self._config)]
        told = self._starts()
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, env=ENVIRONMENT, cwd=self.folder)
        deadline = time.monotonic() + START_SECONDS
        while self._starts() == told:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {self._log_path.read_text()[-2000:]}")
            time.sleep(0.05)

    def _starts(self) -> int:
        return self._log_path.read_text().count('"service.started"') if self._log_path.exists() else 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def prove(folder: Path, kills: int, count: int = 4) -> Iterator[Found]:
    """Kills the service `kills` times while `count` senders push; what each kill left. Raises RuntimeError where it does not start."""
    port, chance = free_port(), random.Random(13)
    service, senders = Service(folder, port), Senders(port, count)
    try:
        service.start()
        for kill in range(1, kills + 1):
            before = len(senders.acknowledged)
            senders.go()
            _wait_for_more(senders, before)
            time.sleep(chance.uniform(*LIVES))
            service.kill()
            senders.pause()
            time.sleep(0.3)  # an acknowledgement that was on its way is told to us
            service.start()
            yield look(kill, service.spool, list(senders.acknowledged))
    finally:
        senders.end()
        service.kill()


def _wait_for_more(senders: Senders, before: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while len(senders.acknowledged) <= before:
        if time.monotonic() > deadline:
            raise RuntimeError("nothing is acknowledged any more")
        time.sleep(0.01)


def look(kill: int, spool: Path, acknowledged: list[str]) -> Found:
    """Compares all that lies in the spool with what was sent. Nobody may be sending."""
    files = {path.name.removesuffix(".dcm"): path for path in spool.glob("*/*.dcm")}
    torn = {uid for uid, path in files.items() if kept(path) != data_set(uid)}
    ledger = Ledger(spool.parent, create=False)
    rows = {path.name.removesuffix(".dcm") for path in ledger.paths()}
    ledger.close()
    lost = sum(uid not in files or uid in torn for uid in acknowledged)
    return Found(kill, len(acknowledged), lost, len(torn), len(rows ^ files.keys()), len(list((spool / "incoming").iterdir())))


def kept(path: Path) -> bytes:
    """The data set in a Part 10 file: what follows its file meta information (PS3.10 7.1)."""
    whole = path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--senders", type=int, default=4)
    options = parser.parse_args()
    print("| kill | acknowledged | lost | torn | without row or file | parts |\n|---|---|---|---|---|---|")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for one in prove(Path(folder), options.kills, options.senders):
            found.append(one)
            print(f"| {one.kill} | {one.acknowledged} | {one.lost} | {one.torn} | {one.unknown} | {one.parts} |", flush=True)
    clean = all(one.is_clean for one in found)
    print(f"\n{len(found)} kills, {found[-1].acknowledged} objects acknowledged: {'nothing lost, nothing torn' if clean else 'NOT KEPT'}")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
