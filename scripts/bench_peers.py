"""Two receivers that `make bench-receive` holds others against.

    python -m scripts.bench_peers stock PORT FOLDER     pynetdicom as its documentation has it: public names, default settings, a file each
    python -m scripts.bench_peers sink PORT FOLDER      keeps nothing: reads and answers, which shows what the senders could send at most

Neither makes anything durable. `stock` is faster than pynetdicom's own `storescp` program, which decodes each data set to encode it again.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from scripts.bench_objects import COMMAND, LAST, P_DATA_TF, command, p_data, us
from scripts.bench_senders import (
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    LARGEST,
    RELEASE_RP,
    RELEASE_RQ,
    NotSent,
    elements_of,
    item,
    items,
    pdvs,
    read_pdu,
)


def stock(port: int, folder: Path) -> None:
    """pynetdicom's AE with defaults: 10 associations, PDUs of 16382 bytes."""

    def handle_store(event: Any) -> int:
        (folder / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    ae = AE(ae_title="VITALCHECK")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, handle_store)])


def sink(port: int, _folder: Path) -> None:
    """A thread for each connection, until it is killed."""
    server = socket.create_server(("127.0.0.1", port), backlog=256)
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_swallow, args=(connection,), daemon=True).start()


def _swallow(connection: socket.socket) -> None:
    """One association: everything proposed is accepted, everything sent is answered 0x0000."""
    buffer, asked, context = bytearray(LARGEST), b"", 0
    with connection:
        try:
            while True:
                if connection.recv(1, socket.MSG_PEEK) != bytes([P_DATA_TF]):
                    connection.sendall(_agreed(*read_pdu(connection)))
                    continue
                header = connection.recv(12, socket.MSG_WAITALL | socket.MSG_PEEK)
                context, control = header[10], header[11]
                if control & COMMAND:
                    asked = b"".join(fragment for _, fragment in pdvs(read_pdu(connection)[1]))
                else:
                    left = struct.unpack_from(">L", header, 2)[0] + 6
                    while left:
                        left -= connection.recv_into(buffer, min(left, LARGEST))
                if control & LAST and (not control & COMMAND or elements_of(asked)[0x0800] == us(0x0101)):
                    connection.sendall(_answer(asked, context))
        except (OSError, NotSent):
            return


def _agreed(kind: int, body: bytes) -> bytes:
    """A-ASSOCIATE-AC (PS3.8 9.3.3) or A-RELEASE-RP."""
    if kind == RELEASE_RQ:
        return struct.pack(">BBLL", RELEASE_RP, 0, 4, 0)
    if kind != ASSOCIATE_RQ:
        raise NotSent("the association was aborted")
    answer = body[:68]
    for sub, value in items(body[68:]):
        if sub == 0x10:
            answer += item(sub, value)
        if sub == 0x20:
            syntax = next(inner for number, inner in items(value[4:]) if number == 0x40)
            answer += item(0x21, bytes([value[0], 0, 0, 0]) + item(0x40, syntax))
    answer += item(0x50, item(0x51, struct.pack(">L", LARGEST)) + item(0x52, b"2.25.271828182845904523536028747135266249"))
    return struct.pack(">BBL", ASSOCIATE_AC, 0, len(answer)) + answer


def _answer(asked: bytes, context: int) -> bytes:
    """The response to C-STORE or C-ECHO (PS3.7 9.3.1.2): success."""
    of = elements_of(asked)
    field = struct.unpack("<H", of[0x0100])[0] | 0x8000
    elements = [(0x0002, of[0x0002]), (0x0100, us(field)), (0x0120, of[0x0110]), (0x0800, us(0x0101)), (0x0900, us(0x0000))]
    return b"".join(p_data(command(elements), context, COMMAND, LARGEST))


if __name__ == "__main__":
    {"stock": stock, "sink": sink}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
