"""The order of system calls of the running service: what a power cut would take. SIGKILL cannot show it, for the page cache survives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from peers import Node, strace, wait_for
from rude import C_STORE_RSP, data_set, elements, new_uid, sender

CALLS = "fdatasync,fsync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,write,writev,pwrite64,pwritev,sendto,sendmsg"
LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()(?P<rest>.*)")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
PLACE = re.compile(r"^\d+<([^>]*)")  # the first argument, where it is a descriptor
LONGEST = 4200  # bytes shown of a write: a page of the ledger with the 24 bytes before it (SQLite's WAL)


@dataclass(frozen=True)
class Call:
    """A system call: when it began and when it had ended (numbers of lines), the file or socket it was about, and its bytes or names."""

    name: str
    began: int
    ended: int
    place: str
    strings: tuple[bytes, ...]

    def names(self, end: str) -> bool:
        return any(string.endswith(end.encode()) for string in self.strings)


@contextmanager
def traced(pid: int, out: Path) -> Iterator[None]:
    """The calls of all threads of `pid`, into `out`."""
    with strace(pid, options=["-f", "-yy", "-xx", "-s", str(LONGEST), "-e", f"trace={CALLS}", "-o", str(out)]):
        yield


def calls(out: Path) -> list[Call]:
    """Those that succeeded, in the order of their ends."""
    found, begun = [], dict[str, tuple[int, str]]()
    for number, line in enumerate(out.read_text().splitlines()):
        matched = LINE.match(line)
        if matched is None:
            continue
        pid, rest = matched["pid"], matched["rest"]
        if rest.endswith("<unfinished ...>"):
            begun[pid] = (number, rest)
            continue
        start, before = begun.pop(pid) if matched["resumed"] else (number, "")
        if re.search(r"\) += -1 ", rest) is None:
            found.append(_call(matched["resumed"] or matched["name"], start, number, before + rest))
    return found


def _call(name: str, began: int, ended: int, text: str) -> Call:
    place = PLACE.match(text)
    strings = tuple(_bytes(string) for string in STRING.findall(text))
    return Call(
        name, began, ended, _bytes(place[1]).decode() if place and place[1].startswith("\\x") else place[1] if place else "", strings
    )


def _bytes(shown: str) -> bytes:
    return bytes.fromhex(shown.replace("\\x", ""))


def acknowledged(call: Call) -> str | None:
    """The SOP Instance UID that a C-STORE-RSP of status 0x0000 in `call` is about."""
    sent = b"".join(call.strings)
    if "TCP" not in call.place or sent[:1] != b"\x04":
        return None
    answer = elements(sent[12:])
    if int.from_bytes(answer[0x0100], "little") != C_STORE_RSP or answer[0x0900] != b"\0\0":
        return None
    return answer[0x1000].rstrip(b"\0").decode()


def is_in_order(log: list[Call], uid: str, answer: Call) -> None:
    """sync of the file > its name > sync of the folder and of a new one's parent; its row > sync of the ledger; all before its answer."""
    name = f"{uid}.dcm"
    rename = one(call for call in log if call.name.startswith(("rename", "link")) and call.names(name))
    part = rename.strings[0].decode()
    synced = [call for call in log if call.name in ("fdatasync", "fsync")]
    assert [c for c in synced if Path(c.place).name == Path(part).name and c.ended < rename.began], (
        f"{uid}: renamed before its bytes were on disk"
    )
    folder = Path(rename.strings[-1].decode()).parent.name
    assert [c for c in synced if Path(c.place).name == folder and rename.ended < c.began and c.ended < answer.began], f"{uid}: its name"
    for made in (call for call in log if call.name.startswith("mkdir") and call.names(f"/{folder}")):
        assert [c for c in synced if Path(c.place).name == "spool" and made.ended < c.began and c.ended < answer.began], (
            f"{uid}: its folder"
        )
    rows = [c for c in log if c.name.startswith("pwrite") and "ledger.sqlite" in c.place and f"/{name}".encode() in b"".join(c.strings)]
    row = one(c for c in rows[:1])
    assert rename.ended < row.began, f"{uid}: a row before its file"
    assert [c for c in synced if "ledger.sqlite" in c.place and row.ended < c.began and c.ended < answer.began], f"{uid}: its row"


def one(found: Iterator[Call]) -> Call:
    (call,) = found
    return call


@pytest.mark.parametrize("senders", [1, 4])
def test_no_success_leaves_before_a_power_cut_could_not_take_it(attacked: Node, tmp_path: Path, senders: int) -> None:
    """Of every object, one by one or four at a time: bytes, name and row are synced before its C-STORE-RSP of 0x0000 is sent."""
    out = tmp_path / "strace.txt"

    def push(number: int) -> list[str]:
        uids = [new_uid() for _ in range(5)]
        with sender(attacked.port) as rude:
            for uid in uids:
                assert rude.store(uid, data_set(uid, study=f"1.2.99.{senders}.{number}")) == 0x0000
            rude.release()
        return uids

    with traced(attacked.pid, out), ThreadPoolExecutor(senders) as pool:
        pushed = {uid for uids in pool.map(push, range(senders)) for uid in uids}
    wait_for(lambda: out.read_text().count("sendto") + out.read_text().count("write") > 0, 5, "the trace")
    log = calls(out)
    answers = {uid: call for call in log if (uid := acknowledged(call))}
    assert answers.keys() == pushed
    for uid, answer in answers.items():
        is_in_order(log, uid, answer)
