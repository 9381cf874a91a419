"""The freedoms and the lies of DIMSE (PS3.7, PS3.8 annex D and E), played against the running service by hand-made PDUs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from peers import Node
from pydicom.uid import CTImageStorage
from rude import (
    ASSOCIATE_AC,
    C_CANCEL_RQ,
    C_ECHO_RSP,
    C_STORE_RSP,
    COMMAND,
    DATA_SET,
    ECHO,
    LAST,
    P_DATA,
    STORE,
    Ended,
    Rude,
    associate_rq,
    command,
    cut,
    data_set,
    echo_rq,
    element,
    flat,
    new_uid,
    pdu,
    pdv,
    sender,
    serves,
    store_rq,
    stored,
)

LARGEST = 8 << 20  # bytes; max_object_bytes of the service that is attacked
UNKNOWN_CONTEXT = 77


@pytest.fixture(autouse=True)
def still_serves(attacked: Node) -> Iterator[None]:
    yield
    serves(attacked)


def odd(data: bytes) -> Iterator[bytes]:
    """Fragments of 1, 3, 5, ... bytes."""
    at, size = 0, 1
    while at < len(data):
        yield data[at : at + size]
        at, size = at + size, size + 2


def split_command(rude: Rude, request: bytes, data: bytes) -> None:
    rude.fragments(STORE, COMMAND, cut(request, 7))
    rude.fragments(STORE, 0, [data])


def all_in_one_pdu(rude: Rude, request: bytes, data: bytes) -> None:
    """PS3.8 E.1 wants command and data set in PDUs of their own; senders that do not heed it were seen."""
    values = [pdv(STORE, COMMAND, request[:20]), pdv(STORE, COMMAND | LAST, request[20:])]
    rude.send(pdu(P_DATA, b"".join(values) + pdv(STORE, 0, data[:501]) + pdv(STORE, LAST, data[501:])))


def several_pdvs_in_a_pdu(rude: Rude, request: bytes, data: bytes) -> None:
    rude.send(pdu(P_DATA, pdv(STORE, COMMAND, request[:33]) + pdv(STORE, COMMAND | LAST, request[33:])))
    first, second = data[:999], data[999:]
    rude.send(pdu(P_DATA, b"".join(pdv(STORE, 0, part) for part in cut(first, 100))))
    rude.send(pdu(P_DATA, pdv(STORE, 0, second[:1]) + pdv(STORE, LAST, second[1:])))


def odd_fragments(rude: Rude, request: bytes, data: bytes) -> None:
    rude.fragments(STORE, COMMAND, [request])
    rude.fragments(STORE, 0, odd(data))


def single_bytes(rude: Rude, request: bytes, data: bytes) -> None:
    rude.fragments(STORE, COMMAND, cut(request, 1))
    rude.fragments(STORE, 0, cut(data, 1))


def empty_fragments(rude: Rude, request: bytes, data: bytes) -> None:
    rude.fragments(STORE, COMMAND, [b"", request[:50], b"", request[50:], b""])
    rude.fragments(STORE, 0, [b"", data[:301], b"", b"", data[301:], b""])


def segments_of_tcp(rude: Rude, request: bytes, data: bytes) -> None:
    """Headers and values torn apart by the network, not by the sender."""
    whole = (
        pdu(P_DATA, pdv(STORE, COMMAND | LAST, request))
        + pdu(P_DATA, pdv(STORE, 0, data[:700]))
        + pdu(P_DATA, pdv(STORE, LAST, data[700:]))
    )
    for part in cut(whole, 5):
        rude.send(part)


def one_large_fragment(rude: Rude, request: bytes, data: bytes) -> None:
    rude.send(pdu(P_DATA, pdv(STORE, COMMAND | LAST, request)), pdu(P_DATA, pdv(STORE, LAST, data)))


@pytest.mark.parametrize(
    "how",
    [
        split_command,
        all_in_one_pdu,
        several_pdvs_in_a_pdu,
        odd_fragments,
        single_bytes,
        empty_fragments,
        segments_of_tcp,
        one_large_fragment,
    ],
)
def test_however_an_object_is_cut_it_is_kept_as_sent(attacked: Node, how: Callable[[Rude, bytes, bytes], None]) -> None:
    """Fragments of any length, in any number of PDUs, give the same bytes; the association goes on, and an orderly object follows."""
    with sender(attacked.port) as rude:
        for _ in range(2):
            uid = new_uid()
            how(rude, store_rq(uid.encode()), data_set(uid))
            assert rude.status() == 0x0000
            assert stored(attacked.spool, uid) == data_set(uid)
        uid = new_uid()
        assert rude.store(uid, data_set(uid, 200_000)) == 0x0000
        assert stored(attacked.spool, uid) == data_set(uid, 200_000)
        rude.release()


def test_random_cuts_are_kept_as_sent(attacked: Node) -> None:
    """Thirty objects, cut where chance wants it, one or several PDVs in a PDU, and sent in pieces of chance."""
    chance = random.Random(13)
    with sender(attacked.port) as rude:
        for _ in range(30):
            uid = new_uid()
            data = data_set(uid, chance.choice([2, 900, 70_000]))
            rude.send(cut_by(chance, COMMAND, store_rq(uid.encode())))
            for part in cut(cut_by(chance, 0, data), chance.choice([7_001, 1 << 20])):
                rude.send(part)
            assert rude.status() == 0x0000
            assert stored(attacked.spool, uid) == data


def cut_by(chance: random.Random, control: int, value: bytes) -> bytes:
    """The P-DATA-TF PDUs of one value."""
    marks = sorted(chance.sample(range(1, len(value)), min(chance.randrange(12), len(value) - 1)))
    parts = [value[a:b] for a, b in zip([0, *marks], [*marks, len(value)], strict=True)]
    values = [pdv(STORE, control | (LAST if n == len(parts) - 1 else 0), part) for n, part in enumerate(parts)]
    pdus = b""
    while values:
        some, values = values[: (n := chance.randint(1, 4))], values[n:]
        pdus += pdu(P_DATA, b"".join(some))
    return pdus


def test_requests_that_do_not_wait_for_answers(attacked: Node) -> None:
    """Three requests in one write (asynchronous operations, never negotiated): each that is acknowledged is kept as sent."""
    uids = [new_uid() for _ in range(3)]
    with sender(attacked.port) as rude:
        for number, uid in enumerate(uids):
            request = store_rq(uid.encode(), message_id=number + 1)
            rude.send(pdu(P_DATA, pdv(STORE, COMMAND | LAST, request)) + pdu(P_DATA, pdv(STORE, LAST, data_set(uid))))
        with suppress(Ended):
            for _ in uids:
                answer = rude.answer()
                uid = answer[0x1000].rstrip(b"\0").decode()
                assert stored(attacked.spool, uid) == data_set(uid)


def test_a_message_id_may_come_again(attacked: Node) -> None:
    """Message IDs are unique among what is outstanding only (PS3.7 9.1): the same one, object after object, is answered as asked."""
    with sender(attacked.port) as rude:
        for _ in range(3):
            uid = new_uid()
            rude.send(pdu(P_DATA, pdv(STORE, COMMAND | LAST, store_rq(uid.encode(), message_id=7))))
            rude.fragments(STORE, 0, [data_set(uid)])
            answer = rude.answer()
            assert (answer[0x0120], answer[0x0900], answer[0x1000].rstrip(b"\0")) == (b"\7\0", b"\0\0", uid.encode())


def everything(folder: Path) -> set[Path]:
    """Every file around and inside of the state folder but those that the databases come and go with."""
    return {path for path in folder.rglob("*") if ".sqlite" not in path.name}


NO_UIDS: dict[str, bytes | None] = {
    "up": b"../../x",
    "far up": b"../" * 10 + b"tmp/x",
    "absolute": b"/tmp/x",
    "NUL inside": b"1.2.99\x00.3",
    "NUL only": b"\0\0",
    "a megabyte": b"1." * (1 << 19),
    "65 characters": b"1." + b"2" * 63,
    "a space": b"1.2 .3",
    "a backslash": b"1.2\\1.3",
    "no ASCII": b"\xff\xfe\x80\x00",
    "nothing": b"",
    "no element": None,
    "dots": b"..",
}


@pytest.mark.parametrize("which", NO_UIDS)
def test_an_instance_uid_that_is_none_is_refused(attacked: Node, which: str) -> None:
    """0xC000 to 0xCFFF or 0xA900, the association goes on, and no file is anywhere."""
    before = everything(attacked.folder.parent)
    with sender(attacked.port) as rude:
        rude.fragments(STORE, COMMAND, cut(store_rq(NO_UIDS[which]), 100_000))
        rude.fragments(STORE, 0, [data_set("1.2.99.2")])
        assert is_refusal(rude.status())
        assert rude.echo() == 0x0000
    assert everything(attacked.folder.parent) == before


@pytest.mark.parametrize("which", ["up", "far up", "absolute", "NUL inside", "65 characters", "a backslash", "no ASCII", "nothing", "dots"])
@pytest.mark.parametrize("where", ["study", "instance"])
def test_a_data_set_whose_uids_are_none_is_refused(attacked: Node, which: str, where: str) -> None:
    """The data set's own UIDs name folder and file: 0xC000 to 0xCFFF or 0xA900, and no file is anywhere."""
    before, uid, none = everything(attacked.folder.parent), new_uid(), NO_UIDS[which] or b""
    data = data_set(uid, study=none) if where == "study" else data_set(none.decode("latin-1"))
    with sender(attacked.port) as rude:
        assert is_refusal(rude.store(uid, data))
        assert rude.echo() == 0x0000
    assert everything(attacked.folder.parent) == before


def is_refusal(status: int) -> bool:
    """PS3.4 table B.2-1: data set does not match SOP class, or cannot understand."""
    return status == 0xA900 or 0xC000 <= status <= 0xCFFF


@pytest.mark.parametrize("what", ["random", "cut", "empty"])
def test_a_data_set_that_is_none_is_refused(attacked: Node, what: str) -> None:
    """Noise, a data set cut before its UIDs, and an empty one are not understood."""
    uid = new_uid()
    data = {"random": random.Random(5).randbytes(5000), "cut": data_set(uid)[:30], "empty": b""}[what]
    with sender(attacked.port) as rude:
        rude.fragments(STORE, COMMAND, [store_rq(uid.encode())])
        rude.fragments(STORE, 0, [data])
        assert is_refusal(rude.status())
        assert rude.echo() == 0x0000


def test_an_object_that_is_too_large_is_refused_and_not_held(attacked: Node) -> None:
    """Above listener.max_object_bytes: 0xA700, neither memory nor disk for it, and the association goes on."""
    uid, small = new_uid(), new_uid()
    with sender(attacked.port) as rude, flat(attacked.pid):
        assert rude.store(uid, data_set(uid, LARGEST * 6), fragment=120_000) == 0xA700
        assert rude.store(small, data_set(small)) == 0x0000
    assert not list(attacked.spool.glob(f"*/{uid}*"))


def test_a_large_object_is_not_held_in_memory(attacked: Node) -> None:
    """What is just small enough goes to disk as it comes."""
    uid = new_uid()
    data = data_set(uid, LARGEST - 1000)
    with sender(attacked.port) as rude, flat(attacked.pid, 6):
        assert rude.store(uid, data, fragment=120_000) == 0x0000
    assert stored(attacked.spool, uid) == data


def p_data(context: int, control: int, value: bytes) -> bytes:
    return pdu(P_DATA, pdv(context, control, value))


VIOLATIONS: dict[str, Callable[[bytes], bytes]] = {
    "a command in a context that was never negotiated": lambda uid: p_data(UNKNOWN_CONTEXT, COMMAND | LAST, store_rq(uid)),
    "an echo in a context that was never negotiated": lambda uid: p_data(UNKNOWN_CONTEXT, COMMAND | LAST, echo_rq()),
    "a data set in another context than its command": lambda uid: (
        p_data(STORE, COMMAND | LAST, store_rq(uid)) + p_data(ECHO, LAST, data_set(uid.decode()))
    ),
    "a data set without a command": lambda uid: p_data(STORE, LAST, data_set(uid.decode())),
    "a second command inside a data set": lambda uid: (
        p_data(STORE, COMMAND | LAST, store_rq(uid))
        + p_data(STORE, 0, data_set(uid.decode()))
        + p_data(STORE, COMMAND | LAST, store_rq(uid))
    ),
    "a C-STORE in the Verification context": lambda uid: (
        p_data(ECHO, COMMAND | LAST, store_rq(uid)) + p_data(ECHO, LAST, data_set(uid.decode()))
    ),
    "a C-STORE of another SOP class than its context": lambda uid: (
        p_data(STORE, COMMAND | LAST, store_rq(uid, sop_class=CTImageStorage)) + p_data(STORE, LAST, data_set(uid.decode()))
    ),
    "a command of noise": lambda uid: p_data(STORE, COMMAND | LAST, random.Random(3).randbytes(90)),
    "a command of nothing": lambda uid: p_data(STORE, COMMAND | LAST, b""),
    "a command that is cut": lambda uid: p_data(STORE, COMMAND | LAST, store_rq(uid)[:-5]),
    "a command without a field": lambda uid: p_data(STORE, COMMAND | LAST, element(0x0110, b"\1\0")),
    "an element that is longer than its command": lambda uid: p_data(STORE, COMMAND | LAST, b"\0\0\0\1\xff\xff\xff\x7f\1\0"),
    "an unknown command": lambda uid: p_data(STORE, COMMAND | LAST, command(0x7777)),
    "a PDV of length 0": lambda uid: pdu(P_DATA, pdv(STORE, COMMAND, b"", 0)),
    "a PDV of length 1": lambda uid: pdu(P_DATA, pdv(STORE, COMMAND, b"", 1)),
    "a PDV that is longer than its PDU": lambda uid: pdu(P_DATA, pdv(STORE, COMMAND, bytes(20), 2000)),
    "a PDV of 4 GB": lambda uid: pdu(P_DATA, pdv(STORE, COMMAND, bytes(20), 0xFFFFFFFF)),
    "a PDU that ends inside a PDV's header": lambda uid: pdu(P_DATA, b"\0\0\0"),
    "a second A-ASSOCIATE-RQ": lambda uid: associate_rq(),
    "an A-ASSOCIATE-AC": lambda uid: pdu(ASSOCIATE_AC, associate_rq()[6:]),
    "a release that was never asked for": lambda uid: pdu(6, bytes(4)),
    "an unknown PDU": lambda uid: pdu(0x42, b"what?"),
}


@pytest.mark.parametrize("what", VIOLATIONS)
def test_a_violation_is_refused_or_ends_its_association(attacked: Node, what: str) -> None:
    """Within 3 s there is a failure status or an end, and nothing of it is kept."""
    uid = new_uid()
    with sender(attacked.port) as rude, flat(attacked.pid):
        rude.send(VIOLATIONS[what](uid.encode()))
        with suppress(Ended):
            assert rude.status() != 0x0000
    assert not list(attacked.spool.glob(f"*/{uid}*"))


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "C-CANCEL of nothing": lambda uid: p_data(STORE, COMMAND | LAST, command(C_CANCEL_RQ, element(0x0120, b"\1\0"))),
    "an answer nobody asked for": lambda uid: p_data(STORE, COMMAND | LAST, command(C_STORE_RSP, element(0x0900, b"\0\0"))),
    "an echo's answer nobody asked for": lambda uid: p_data(ECHO, COMMAND | LAST, command(C_ECHO_RSP, element(0x0900, b"\0\0"))),
    "an empty P-DATA-TF": lambda uid: pdu(P_DATA, b""),
    "an echo with a data set": lambda uid: p_data(ECHO, COMMAND | LAST, command(0x0030, data=DATA_SET)) + p_data(ECHO, LAST, b"\0" * 10),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_asks_for_nothing_stops_nothing(attacked: Node, what: str) -> None:
    """Whether it is passed over or ends its association, a C-STORE that follows on it is kept whole or not acknowledged."""
    uid = new_uid()
    with sender(attacked.port) as rude, suppress(Ended):
        rude.send(HARMLESS[what](uid.encode()))
        if rude.store(uid, data_set(uid)) == 0x0000:
            assert stored(attacked.spool, uid) == data_set(uid)


@pytest.mark.parametrize("says", [0, 1, 60, 100_000, 0xFFFFFFFF])
def test_a_group_length_that_lies(attacked: Node, says: int) -> None:
    """(0000,0000) is not believed against what came: the object is kept as sent, or refused, or the association ends."""
    uid = new_uid()
    with sender(attacked.port) as rude, flat(attacked.pid), suppress(Ended):
        rude.fragments(STORE, COMMAND, [store_rq(uid.encode(), group_length=says)])
        rude.fragments(STORE, 0, [data_set(uid)])
        if rude.status() == 0x0000:
            assert stored(attacked.spool, uid) == data_set(uid)
        else:
            assert not list(attacked.spool.glob(f"*/{uid}*"))
