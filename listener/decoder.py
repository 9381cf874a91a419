"""decoder: pipeline.decode in a process of its own, which may run out of memory, hang or crash without taking anybody with it.

    python -m listener.decoder --socket FD --parent PID --memory BYTES

Started by isolation.py. It reads one request after the other: a pickled Series (ours, so it is trusted). It answers in JSON,
never a pickle, for what a codec was made to do by a hostile file must not get into the worker; pixels lie in a memory file
(memfd_create(2)) whose descriptor goes with the answer, so they are copied once and need no /dev/shm.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import pickle
import resource
import signal
import socket
import struct
import traceback
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from listener.child import address_space, die_with, limit_memory
from pipeline.decode import Undecodable, decode
from pipeline.language import packed
from pipeline.records import Pixels, Series, Slices

_LENGTH = struct.Struct("<Q")  # before every message
Answer = dict[str, Any]


def send(sock: socket.socket, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """One message, with at most one open file."""
    head = _LENGTH.pack(len(message))
    if descriptors:
        socket.send_fds(sock, [head], descriptors)
    else:
        sock.sendall(head)
    sock.sendall(message)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One message and the files that came with it. Raises EOFError where the other end is gone, TimeoutError by the socket's time-out."""
    head, descriptors, _, _ = socket.recv_fds(sock, _LENGTH.size, 1)
    head += _exactly(sock, _LENGTH.size - len(head))
    return _exactly(sock, _LENGTH.unpack(head)[0]), descriptors


def _exactly(sock: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        part = sock.recv(min(count - len(got), 1 << 20))
        if not part:
            raise EOFError
        got += part
    return bytes(got)


def serve(sock: socket.socket, memory: int, decode: Callable[[Series], Slices] = decode) -> None:
    """Answers until the other end is gone. `memory`: bytes above what is in use now."""
    limit_memory(memory)
    send(sock, b"ready")
    while True:
        try:
            request, _ = receive(sock)
        except (EOFError, OSError):
            return
        answer, pixels = _answer(pickle.loads(request), decode)  # noqa: S301 - from our own parent
        send(sock, json.dumps(answer).encode(), () if pixels is None else (pixels,))
        if pixels is not None:
            os.close(pixels)


def _answer(series: Series, decode: Callable[[Series], Slices]) -> tuple[Answer, int | None]:
    """What to say, and the file with the pixels."""
    try:
        slices = decode(series)
        told = {field.name: packed(getattr(slices, field.name)) for field in fields(Slices) if field.name != "pixels"}
        return {"slices": told, "shape": slices.pixels.shape}, _memory_file(slices.pixels)
    except Exception as error:  # noqa: BLE001 - whatever a codec or a data set brings up ends this series only
        return _explained(error), None


def _memory_file(pixels: Pixels) -> int:
    """A file in memory with `pixels`. The kernel does not count it as ours, so we do."""
    if address_space() + pixels.nbytes > resource.getrlimit(resource.RLIMIT_AS)[0]:
        raise MemoryError
    descriptor = os.memfd_create("slices", os.MFD_CLOEXEC)
    view = np.ascontiguousarray(pixels, np.float32).data.cast("B") if pixels.size else memoryview(b"")
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def _explained(error: BaseException) -> Answer:
    if _is_memory(error):
        return {"memory": True}
    if isinstance(error, Undecodable):
        return {"undecodable": [error.sop_instance_uid, error.cause]}
    last = traceback.extract_tb(error.__traceback__)[-1]  # the message of a library's error may quote a value
    return {"failed": f"{type(error).__name__} at {os.path.basename(last.filename)}:{last.lineno}"}  # noqa: PTH119


def _is_memory(error: BaseException | None) -> bool:
    """Did it, or what caused it, run out of memory?"""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        error = error.__cause__ or error.__context__
    return False


def main(decode: Callable[[Series], Slices] = decode) -> None:
    parser = argparse.ArgumentParser(prog="python -m listener.decoder", description="Started by a worker and by `vitalcheck analyze`.")
    for name in ("--socket", "--parent", "--memory"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    die_with(given.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; we end with our parent
    with socket.socket(fileno=given.socket) as sock:
        serve(sock, given.memory, decode)


if __name__ == "__main__":
    main()
