"""isolation: pipeline.decode behind a process boundary, with a limit on memory and one on time.

    with Isolated(memory_bytes=1 << 32, seconds=120) as decoder:
        analyze(study, models, now, decoder)

One child (decoder.py) decodes one series after the other. One that takes too long, too much, or crashes is replaced, and its series
ends as Undecodable: the study is quarantined with the reason, the next one is decoded as ever.
"""

from __future__ import annotations

import json
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from listener import logs
from listener.decoder import receive, send
from listener.errors import VitalCheckError
from pipeline.decode import Undecodable
from pipeline.language import unpacked
from pipeline.records import Pixels, Series, Slices, Source

log = logs.get()

START_SECONDS = 60.0  # for an interpreter, numpy and pydicom; 0.5 s on an idle core
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # each thread costs address space


class NoDecoder(VitalCheckError):
    def __init__(self, why: str) -> None:
        super().__init__(f"the process that decodes pixels does not start ({why}); try `python -m listener.decoder --help`")


class Isolated:
    """A decoder for pipeline.run.analyze, with limits. Any thread may call it; one series is decoded at a time."""

    command: tuple[str, ...] = (sys.executable, "-P", "-m", "listener.decoder")  # -P: nothing is imported from the folder we run in

    def __init__(self, memory_bytes: int, seconds: float) -> None:
        self._memory, self._seconds = memory_bytes, seconds
        self._child: _Child | None = None
        self._closed = False
        # The kernel ties a child to the thread that started it, so one thread starts all of them, and lives as long as we do.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")

    def start(self) -> None:
        """Starts the child early, so that the first series need not wait for it; returns at once."""
        self._thread.submit(self._living)

    def __call__(self, series: Series) -> Slices:
        """The slices of `series`. Raises Undecodable, NoDecoder."""
        return self._thread.submit(self._decode, series).result()

    def __enter__(self) -> Isolated:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child, and with it a series that is being decoded."""
        self._closed = True
        if child := self._child:
            child.process.kill()
        self._thread.shutdown(cancel_futures=True)
        if self._child:
            self._child.end()

    @property
    def pid(self) -> int | None:
        """Of the child."""
        return self._child.process.pid if self._child else None

    def _living(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self._replace()
        assert self._child
        return self._child

    def _replace(self) -> None:
        if self._child:
            self._child.end()
        if not self._closed:
            self._child = _Child(self.command, self._memory)

    def _decode(self, series: Series) -> Slices:
        child = self._living()
        try:
            child.wait_until_ready()
            answer, pixels = child.ask(series, self._seconds)
            if "memory" not in answer:
                return _slices(answer, pixels, series)
            why = f"ran out of its {self._memory} bytes of memory; if it is not damaged, raise worker.decode_memory_bytes"
        except TimeoutError:
            why = f"took longer than {self._seconds:g} s; if it is not damaged, raise worker.decode_seconds"
        except (EOFError, OSError):
            why = _death(child.end())
        self._replace()
        log.warning("decoder.replaced", pid=child.process.pid, series_uid=series.uid, reason=why)
        raise Undecodable(_first(series), f"decoding its series {why}")


class _Child:
    """One process, and our end of the socket to it."""

    def __init__(self, command: tuple[str, ...], memory: int) -> None:
        ours, theirs = socket.socketpair()
        self.sock, self._ready = ours, False
        numbers = {"--socket": theirs.fileno(), "--parent": os.getpid(), "--memory": memory}
        arguments = [str(word) for pair in numbers.items() for word in pair]
        # It gets no secret of our configuration, and what codecs print may quote the data.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("VITALCHECK_")} | _ONE_THREAD
        silent: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        with theirs:
            self.process = subprocess.Popen([*command, *arguments], pass_fds=[theirs.fileno()], env=environment, **silent)

    def wait_until_ready(self) -> None:
        """Raises NoDecoder."""
        if self._ready:
            return
        self.sock.settimeout(START_SECONDS)
        try:
            receive(self.sock)
        except (EOFError, OSError) as error:
            raise NoDecoder(f"exit status {self.end()}") from error
        self._ready = True

    def ask(self, series: Series, seconds: float) -> tuple[dict[str, Any], Pixels | None]:
        """Its answer, and the pixels. Raises TimeoutError, and EOFError or OSError where it died."""
        self.sock.settimeout(seconds)
        send(self.sock, pickle.dumps(series))
        message, descriptors = receive(self.sock)
        answer = json.loads(message)
        return answer, _mapped(descriptors[0], answer["shape"]) if descriptors else None

    def end(self) -> int:
        """Kills it if it lives; the exit status as subprocess gives it."""
        self.sock.close()
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(0.5)  # a socket that closed means that it is ending; its own signal says why
        self.process.kill()
        return self.process.wait()


def _mapped(descriptor: int, shape: list[int]) -> Pixels:
    """(slice, row, column) in the child's memory file, without a copy. Raises OSError where it is not of that size."""
    try:
        size = int(np.prod(shape, dtype=np.int64)) * 4
        if os.fstat(descriptor).st_size != size:
            raise OSError("the answer has another size than it says")
        view = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY) if size else b""
    finally:
        os.close(descriptor)
    return np.frombuffer(view, np.float32).reshape(shape)


def _slices(answer: dict[str, Any], pixels: Pixels | None, series: Series) -> Slices:
    """The record in `answer`. Raises Undecodable where it is none, OSError where it says what we never say."""
    if "undecodable" in answer:
        raise Undecodable(*answer["undecodable"])
    if pixels is None:
        raise Undecodable(_first(series), f"pixels of its series cannot be read ({answer['failed']})")
    try:
        told = {name: unpacked(value) for name, value in answer["slices"].items()}
    except ValueError as error:
        raise OSError(str(error)) from error
    told["sources"] = tuple(Source(*source) for source in told["sources"])
    return Slices(pixels=pixels, **told)


def _first(series: Series) -> str:
    return series.instances[0].sop_instance_uid if series.instances else ""


def _death(status: int) -> str:
    """What an exit status means, and how to mend it."""
    if status == -signal.SIGKILL:
        return "was ended by the operating system (signal 9), mostly for want of memory; give the machine more, or lower worker.processes"
    how = f"signal {-status}, {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"crashed the decoder ({how}); the file is damaged, or a codec has a fault: send it again, uncompressed if that is possible"
