"""listener/tls.py over real sockets: openssl, pynetdicom and dcmtk as scanners, with real certificates."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from certificates import Certificates, make, openssl
from objects import dataset, write
from peers import FAIR, Node, free_port, need, push, scanner, wait_for
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from test_scp import Receiver

from listener import check, metrics, tls
from listener.config import Config, Listener, Peer, Tls
from listener.errors import ConfigError
from listener.requestor import associate

OF_TLS_12 = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
OF_CBC = ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-CCM8"]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


@contextmanager
def receiving(folder: Path, secured: dict[str, Any], **settings: Any) -> Iterator[Receiver]:
    """A receiver with a plain port and one of TLS."""
    receiver = Receiver(folder, tls=Tls(**secured), **settings)
    yield receiver
    receiver.scp.stop(0.5)


@pytest.fixture
def receiver(tmp_path: Path, certificates: Certificates) -> Iterator[Receiver]:
    with receiving(tmp_path, certificates.tls(), peers=(Peer(ae_title="CT01"), Peer(ae_title="STORESCU"))) as made:
        yield made


@contextmanager
def secured(receiver: Receiver, context: ssl.SSLContext, calling: str = "CT01") -> Iterator[Any]:
    """An association over TLS, established or not."""
    ae = AE(calling)
    for sop_class in (Verification, dataset().SOPClassUID):
        ae.add_requested_context(sop_class)
    assoc = associate(ae, "127.0.0.1", receiver.scp.tls_port, ae_title="VITALCHECK", tls_args=(context, "127.0.0.1"))
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def s_client(certificates: Certificates, port: int | None, *options: str, name: str | None = "ct01") -> subprocess.CompletedProcess[str]:
    """openssl s_client, which talks with `options` to `port` and hangs up."""
    shown = ["-cert", certificates.pem(name), "-key", certificates.key(name)] if name else []
    words = [need("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", certificates.pem("ca"), *shown, *options]
    return subprocess.run(words, input="", capture_output=True, text=True, timeout=10)


def echo_seconds(port: int | None, **names: str) -> float:
    """How long a plain C-ECHO takes, association included."""
    began = time.perf_counter()
    with scanner(port or 0, [Verification], **names) as assoc:
        assert assoc.send_c_echo().Status == 0x0000
    return time.perf_counter() - began


# What is offered


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Receiver]:
    """A receiver that several tests knock at."""
    with receiving(tmp_path_factory.mktemp("listening"), certificates.tls()) as made:
        yield made


@pytest.mark.parametrize(
    "options", [("-tls1_3",), *[("-tls1_2", "-cipher", suite) for suite in OF_TLS_12]], ids=lambda options: options[-1]
)
def test_tls_1_3_and_1_2_with_aead_are_spoken(listening: Receiver, certificates: Certificates, options: tuple[str, ...]) -> None:
    """openssl shakes hands by TLS 1.3 and by TLS 1.2 with each AEAD suite, and trusts our certificate."""
    done = s_client(certificates, listening.scp.tls_port, *options, "-verify_return_error")
    assert done.returncode == 0, done.stderr
    assert "Verify return code: 0 (ok)" in done.stdout


@pytest.mark.parametrize(
    ("options", "alert"),
    [
        (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), "alert protocol version"),
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "alert protocol version"),
        *[(("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"), "alert handshake failure") for suite in OF_CBC],
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_older_versions_and_cbc_are_refused(listening: Receiver, certificates: Certificates, options: tuple[str, ...], alert: str) -> None:
    """openssl that offers only TLS 1.0, 1.1 or a suite of CBC or a short tag gets an alert, and no handshake."""
    done = s_client(certificates, listening.scp.tls_port, *options)
    assert done.returncode != 0
    assert alert in done.stderr


# Senders


def test_plain_and_secured_senders_deliver_at_the_same_time(receiver: Receiver, certificates: Certificates, tmp_path: Path) -> None:
    """pynetdicom and dcmtk's storescu over TLS, and a plain sender meanwhile: every instance is kept."""
    files = [write(tmp_path / "sent", dataset(number=n)) for n in (1, 2, 3)]
    paths = ("+tls", certificates.key("ct02"), certificates.pem("ct02"), "+cf", certificates.pem("ca"))
    words = [need("storescu"), *paths, "-aec", "VITALCHECK", "127.0.0.1", str(receiver.scp.tls_port), *map(str, files)]
    with secured(receiver, certificates.client()) as assoc, subprocess.Popen(words, env=FAIR, stderr=subprocess.PIPE, text=True) as sent:
        assert [assoc.send_c_store(dataset(number=n)).Status for n in (4, 5)] == [0, 0]
        assert push(receiver.port, [dataset(number=n) for n in (6, 7)]) == [0, 0]
        assert sent.wait(20) == 0, sent.stderr.read()
    assert receiver.instances() == 7


def test_a_large_data_set_arrives_whole_over_tls(receiver: Receiver, certificates: Certificates) -> None:
    """4 MB, many records of TLS and many PDUs, lie in the spool as they were sent."""
    ds: Dataset = dataset()
    ds.add_new(0x00091010, "LO", "VITALCHECK TEST")
    ds.add_new(0x00091011, "OB", bytes(range(256)) * (1 << 14))
    with secured(receiver, certificates.client()) as assoc:
        assert assoc.send_c_store(ds).Status == 0x0000
    [kept] = receiver.ledger.study(ds.StudyInstanceUID).instances  # type: ignore[union-attr]
    assert bytes(range(256)) * (1 << 14) in kept.path.read_bytes()


@pytest.mark.parametrize("name", [None, "stranger", "gone"])
def test_a_sender_without_a_good_certificate_is_refused(
    receiver: Receiver, certificates: Certificates, name: str | None, events: list[dict[str, Any]]
) -> None:
    """No certificate, one of another CA, one that has expired: no association, one warning that says which, and the counter goes up."""
    before = refusals()
    with secured(receiver, certificates.client(name)) as assoc:
        assert not assoc.is_established
    told = {None: "shows no certificate", "stranger": "unable to get local issuer", "gone": "certificate has expired"}[name]
    [event] = wait_for(lambda: [event for event in events if event["event"] == "tls.refused"], 5, "the refusal")
    assert (event["address"], event["log_level"]) == ("127.0.0.1", "warning")
    assert told in event["reason"]
    assert refusals() == before + 1


def refusals() -> float:
    return metrics.tls_handshakes.labels(outcome="refused")._value.get()


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    """What the receiver logs from here on."""
    with structlog.testing.capture_logs() as captured:
        yield captured


def test_a_refusal_is_said_once_a_minute(receiver: Receiver) -> None:
    """Of ten plain senders on the TLS port each is counted and one is told of, with the port that speaks plain DICOM."""
    refused = metrics.tls_handshakes.labels(outcome="refused")._value
    before = refused.get()
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", receiver.scp.tls_port)) as plain:
            plain.sendall(bytes([1, 0, 0, 0, 0, 200]) + bytes(200))
            plain.settimeout(5)
            with suppress(ConnectionError):
                while plain.recv(100):  # an alert of TLS
                    pass
    wait_for(lambda: refused.get() == before + 10, 5, "ten refusals")
    (door,) = (server.door for server in receiver.scp._servers if server.door)
    ((_, reason),) = door._told
    assert "plain DICOM goes to listener.port" in reason


def test_a_certificate_may_be_left_out_where_none_is_required(tmp_path: Path, certificates: Certificates) -> None:
    """require_client_certificate = false: a sender without one is let in, one with a certificate of another CA is not."""
    with receiving(tmp_path, certificates.tls(require_client_certificate=False)) as receiver:
        with secured(receiver, certificates.client(None)) as assoc:
            assert assoc.send_c_echo().Status == 0x0000
        with secured(receiver, certificates.client("stranger")) as assoc:
            assert not assoc.is_established


# Policy


def test_a_pinned_peer_needs_its_certificate(tmp_path: Path, certificates: Certificates, events: list[dict[str, Any]]) -> None:
    """With its certificate it is let in; with another of the same CA, or on the plain port, it is rejected and the log says why."""
    pinned = Peer(ae_title="CT01", certificate=certificates.fingerprint("ct01"))
    with receiving(tmp_path, certificates.tls(), peers=(pinned, Peer(ae_title="CT02"))) as receiver:
        with secured(receiver, certificates.client("ct01")) as assoc:
            assert assoc.send_c_echo().Status == 0x0000
        with secured(receiver, certificates.client("ct02")) as assoc:
            assert answer(assoc) == (1, 1, 3)
        with scanner(receiver.port, [Verification]) as assoc:
            assert answer(assoc) == (1, 1, 3)
        echo_seconds(receiver.port, calling="CT02")
    reasons = [event["reason"] for event in events if event["event"] == "assoc.rejected"]
    assert certificates.fingerprint("ct02") in reasons[0]
    assert "called without TLS" in reasons[1]


def answer(assoc: Any) -> tuple[int, int, int]:
    """Result, source and reason of the A-ASSOCIATE-RJ."""
    assert assoc.is_rejected
    rejected = assoc.acceptor.primitive
    return rejected.result, rejected.result_source, rejected.diagnostic


def test_a_peer_has_so_many_associations_and_no_more(tmp_path: Path) -> None:
    """The third of a peer that may have two is rejected for now; another peer comes in, and so does it when one ended."""
    blocks = (Peer(ae_title="CT01", max_associations=2), Peer(ae_title="CT02"))
    receiver = Receiver(tmp_path, peers=blocks)
    with scanner(receiver.port, [Verification]), scanner(receiver.port, [Verification]) as second:
        with scanner(receiver.port, [Verification]) as third:
            assert answer(third) == (2, 3, 2)
        echo_seconds(receiver.port, calling="CT02")
        second.abort()
        echo_seconds(receiver.port)
    receiver.scp.stop(1.0)


def test_an_association_that_ended_leaves_room_at_once(tmp_path: Path) -> None:
    """A peer that may have one, and calls again as soon as its release is answered, is never rejected."""
    receiver = Receiver(tmp_path, max_associations_per_peer=1)
    assert all(echo_seconds(receiver.port) < 5 for _ in range(10))
    receiver.scp.stop(1.0)


# Rude clients


def client_hello(certificates: Certificates) -> bytes:
    """The first bytes that a client of TLS sends."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = certificates.client().wrap_bio(back, there, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return there.read()


def test_unfinished_handshakes_delay_nobody_and_end(tmp_path: Path, certificates: Certificates) -> None:
    """Silent clients, some with half a ClientHello, one that drips it: C-ECHO is quick on both ports, and all are hung up on in time."""
    hello = client_hello(certificates)
    with receiving(tmp_path, certificates.tls(handshake_seconds=1.5)) as receiver, ExitStack() as open_now:
        began = time.monotonic()
        rude = [open_now.enter_context(socket.create_connection(("127.0.0.1", receiver.scp.tls_port))) for _ in range(20)]
        for half in rude[:10]:
            half.sendall(hello[: len(hello) // 2])
        threading.Thread(target=drip, args=(rude[0], hello[len(hello) // 2 :]), daemon=True).start()
        assert echo_seconds(receiver.port) < 1
        with secured(receiver, certificates.client()) as assoc:
            assert assoc.send_c_echo().Status == 0x0000
        assert time.monotonic() - began < 1.4  # while they were waited for
        for client in rude:
            client.settimeout(5)
            assert ended(client)
        assert time.monotonic() - began < 4


def drip(client: socket.socket, data: bytes) -> None:
    """A byte now and then, until the other side hangs up."""
    try:
        for byte in data:
            client.sendall(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        return


def ended(client: socket.socket) -> bool:
    """Nothing more comes: it was hung up on, gently or not."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_handshakes_under_way_are_limited(tmp_path: Path, certificates: Certificates) -> None:
    """One address may leave so many handshakes unfinished; one more is closed at once, and there is room when they ended."""
    with receiving(tmp_path, certificates.tls(handshake_seconds=1.0), max_associations_per_peer=3) as receiver, ExitStack() as open_now:
        waiting = [open_now.enter_context(socket.create_connection(("127.0.0.1", receiver.scp.tls_port))) for _ in range(3)]
        time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", receiver.scp.tls_port), timeout=0.5) as fourth:
            assert ended(fourth)
        assert all(ended(client) for client in waiting)
        with secured(receiver, certificates.client()) as assoc:
            assert assoc.is_established


def test_stopping_waits_for_no_handshake(tmp_path: Path, certificates: Certificates) -> None:
    """A client that never shakes hands does not hold up the end of the service."""
    receiver = Receiver(tmp_path, tls=Tls(**certificates.tls()))
    with socket.create_connection(("127.0.0.1", receiver.scp.tls_port)):
        time.sleep(0.1)
        began = time.monotonic()
        receiver.scp.stop(1.0)
        assert time.monotonic() - began < 3


# Our certificate


def copied(certificates: Certificates, folder: Path) -> Tls:
    """The settings, with files that may be spoilt."""
    for path in certificates.folder.iterdir():
        shutil.copy2(path, folder)
    return Tls(**Certificates(folder).tls())


@pytest.mark.parametrize(
    ("key", "name", "told"),
    [
        ("certificate", "missing.pem", "listener.tls.certificate: {path} cannot be read (No such file or directory)"),
        ("key", "missing.key", "listener.tls.key: {path} cannot be read (No such file or directory)"),
        ("ca", "missing.pem", "listener.tls.ca: {path} cannot be read (No such file or directory)"),
        ("certificate", "node.key", "listener.tls.certificate: {path} holds no certificate in PEM"),
        ("ca", "node.key", "listener.tls.ca: {path} holds no certificate in PEM"),
        ("key", "ct01.key", "listener.tls.key: {path} is not the key of"),
        ("key", "open.key", "listener.tls.key: {path} can be read by everyone on this machine (mode 0644); chmod 600 {path}"),
        ("key", "node.csr", "listener.tls.key: {path} is no private key in PEM"),
        ("key", "locked.key", "listener.tls.key: {path} needs a passphrase"),
        ("certificate", "gone.pem", "listener.tls.certificate: {path} is not good: certificate has expired; put another one there"),
        ("certificate", "weak.pem", "listener.tls.certificate: {path} is too weak"),
    ],
)
def test_files_that_cannot_serve_are_refused_in_one_line(
    certificates: Certificates, tmp_path: Path, key: str, name: str, told: str
) -> None:
    """Missing, unreadable, not fitting, encrypted, expired, weak, open to everyone: named with its key, and how to mend it."""
    settings = copied(certificates, tmp_path)
    shutil.copy2(tmp_path / "node.key", tmp_path / "open.key")
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "node.csr").chmod(0o600)
    openssl(tmp_path, "pkey", "-in", "node.key", "-aes128", "-passout", "pass:x", "-out", "locked.key")
    if name == "weak.pem":
        openssl(tmp_path, "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", "weak.key", "-out", "weak.pem", "-subj", "/CN=weak")
    own = {"weak.pem": "weak.key", "gone.pem": "gone.key"}.get(name)
    changed = settings.model_copy(update={key: str(tmp_path / name)} | ({"key": str(tmp_path / own)} if own else {}))
    with pytest.raises(ConfigError) as caught:
        tls.context(changed)
        tls.standing(changed)
    assert str(caught.value).startswith(told.format(path=tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_certificate_says_what_it_is(certificates: Certificates) -> None:
    """Its name and the day it expires, as a peer reads them."""
    shown = tls.standing(Tls(**certificates.tls()))
    assert shown.subject == "node"
    assert shown.expires_at - time.time() == pytest.approx(60 * 86400, abs=600)


def test_check_says_how_tls_stands(certificates: Certificates, tmp_path: Path) -> None:
    """One row for the certificate and one for its port; wrong where the certificate cannot be shown."""

    def rows(**changed: Any) -> dict[str, tuple[str, str]]:
        listener = Listener(host="127.0.0.1", port=free_port(), tls=Tls(**certificates.tls(**changed)))
        found = check.run(Config(listener=listener, state={"dir": tmp_path}, http={"port": free_port()}))  # type: ignore[arg-type]
        return {row.what: (row.verdict, row.detail) for row in (next(found) for _ in range(10))}

    assert rows()["listener.tls"][1].startswith("certificate of node, valid until ")
    assert rows()["listener.tls.port"][0] == rows()["listener.tls"][0] == check.OK
    assert "listener.port" not in rows(only=True)
    verdict, detail = rows(certificate=certificates.pem("gone"), key=certificates.key("gone"))["listener.tls"]
    assert verdict == check.WRONG
    assert "certificate has expired" in detail


def test_the_service_listens_on_both_ports(certificates: Certificates, tmp_path: Path) -> None:
    """`vitalcheck serve` reads files beside its configuration, logs both ports, and shows both on its page."""
    copied(certificates, tmp_path)
    table = {"enabled": True, "port": 0, "certificate": "node.pem", "key": "node.key", "ca": "ca.pem"}
    with Node(tmp_path, None, **{"listener.tls": table}) as node:
        port = node.wait_for_event("service.started")["tls_port"]
        assert node.events("service.ready")[0]["tls_port"] == port
        context = certificates.client()
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as shaken:
            assert shaken.version() == "TLSv1.3"
        assert echo_seconds(node.port) < 5
        page = subprocess.run(["curl", "-s", f"http://127.0.0.1:{node.http_port}/"], capture_output=True, text=True).stdout
        assert f"port {node.port} and port {port} (TLS)" in page


def test_only_tls(certificates: Certificates, tmp_path: Path) -> None:
    """listener.tls.only: nobody listens on the plain port."""
    with receiving(tmp_path, certificates.tls(only=True)) as receiver:
        assert receiver.scp.port is None
        assert receiver.port == receiver.scp.tls_port
        with secured(receiver, certificates.client()) as assoc:
            assert assoc.is_established
