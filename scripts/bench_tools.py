"""Senders of `make bench-receive` that other people made: processes of dcmtk's storescu, each with a folder of files.

    files made once for each kind and number of senders > sync > all processes start > the last one ends

A process takes some 20 ms to start and reads its files; that is in the time, and the same for all receivers.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from listener.incoming import Command, part_10_head
from scripts.bench_objects import INSTANCE, SERIES, STUDY, Kind, data_set, new_uid
from scripts.bench_receivers import program
from scripts.bench_senders import CALLED, CALLING, EXPLICIT, PATIENCE, Burst


def burst(port: int, kind: Kind, associations: int, each: int, folder: Path) -> Burst:
    """`associations` processes start at once and send `each` instances, of files under `folder`. Raises NoReceiver without storescu."""
    sent = list(_folders(kind, associations, each, folder))
    command = [program("storescu"), "--required", "+sd", "-aet", CALLING, "-aec", CALLED, "127.0.0.1", str(port)]
    os.sync()
    began = time.perf_counter()
    running = [_started([*command, str(one)]) for one in sent]
    codes = [process.wait(PATIENCE) for process in running]
    took = time.perf_counter() - began
    failed = tuple(f"storescu ended with {code}" for code in codes if code)
    done = sum(code == 0 for code in codes) * each
    return Burst(done, done * len(data_set(kind)), took, failures=failed)


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _folders(kind: Kind, associations: int, each: int, folder: Path) -> Iterator[Path]:
    """One for each sender, with one study; made where they are not there yet."""
    for number in range(associations):
        path = folder / kind.name.replace(" ", "-") / str(associations) / str(number)
        if not path.is_dir():
            path.mkdir(parents=True)
            _write(kind, each, path)
        yield path


def _write(kind: Kind, each: int, folder: Path) -> None:
    whole, study, series = data_set(kind), new_uid().encode(), new_uid().encode()
    whole = whole.replace(STUDY.encode(), study).replace(SERIES.encode(), series)
    for number in range(each):
        uid = new_uid()
        head = part_10_head(Command(kind.sop_class_uid, uid, CALLING, CALLED, EXPLICIT))
        (folder / f"{number}.dcm").write_bytes(head + whole.replace(INSTANCE.encode(), uid.encode()))
