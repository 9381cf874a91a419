"""tls: DICOM over TLS: what is offered, our certificate looked at before it is used, and the handshake outside the accept loop.

After the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12): TLS 1.3 where the peer can, else TLS 1.2 with
ECDHE and AEAD (RFC 9325 4.2); nothing older, no CBC, no RSA key exchange; RSA keys of 2048 bits at least. Peers show a certificate of `ca`
unless `listener.tls.require_client_certificate` is false.

    accept loop > thread of the connection > Door.enter: shakes hands, or refuses and closes > association

No tickets are given. A session of TLS 1.2 may be resumed by its id for two hours (OpenSSL's cache, which Python cannot switch off); it
carries the certificate that was proved when it began, so a pinned one is still compared.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from listener import logs, metrics
from listener.errors import ConfigError

if TYPE_CHECKING:
    from listener.config import Tls

log = logs.get()

SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"  # of TLS 1.2 (RFC 9325 4.2); those of 1.3 are all AEAD. Level 2: RSA from 2048 bits
SAY_AGAIN = 60.0  # s until the same refusal of the same address is logged again; a scanner of ports is one line, not thousands
MOST_TOLD = 1024  # refusals remembered for that
_SILENT = "ended the connection, or fell silent, before the handshake was done"
_REASONS = {  # OpenSSL's words, and ours
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "shows no certificate, and listener.tls.require_client_certificate asks for one",
    "UNSUPPORTED_PROTOCOL": "offers nothing newer than TLS 1.1; TLS 1.2 and 1.3 are spoken here",
    "NO_SHARED_CIPHER": "offers no cipher suite with ECDHE and AEAD; allow it TLS 1.3 or ECDHE with AES-GCM",
    "HTTP_REQUEST": "speaks HTTP, not DICOM over TLS",
}
_NO_TLS = {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE", "BAD_RECORD_TYPE"}


# Our certificate


@dataclass(frozen=True, slots=True)
class Standing:
    """What our certificate says of itself."""

    subject: str  # its common name, or all that there is of a name
    expires_at: float  # s since 1970


def context(settings: Tls) -> ssl.SSLContext:
    """What the listener shakes hands with. Raises ConfigError, which names the file and how to mend it."""
    made = _offering(settings)
    if settings.ca:
        _load_ca(made, settings.ca)
        made.verify_mode = ssl.CERT_REQUIRED if settings.require_client_certificate else ssl.CERT_OPTIONAL
    return made


def standing(settings: Tls) -> Standing:
    """Our certificate as a peer sees it that trusts it: shakes hands with itself in memory. Raises ConfigError where it has expired."""
    server, client = _offering(settings), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(settings.certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # itself is enough: who signed it is for peers to judge
    client.check_hostname = False
    try:
        shown = _shaken_in_memory(server, client)
    except ssl.SSLCertVerificationError as error:
        raise _wrong("certificate", settings.certificate, f"is not good: {error.verify_message}; put another one there") from error
    names = [value for part in shown["subject"] for key, value in part if key == "commonName"]
    return Standing(names[0] if names else str(shown["subject"]), ssl.cert_time_to_seconds(str(shown["notAfter"])))


def _offering(settings: Tls) -> ssl.SSLContext:
    """Versions, suites, and our certificate with its key."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(SUITES)
    made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    made.num_tickets = 0
    _readable("certificate", settings.certificate)
    _readable("key", settings.key)
    _keep_secret(settings.key)
    _load_certificate(made, settings)
    return made


def _load_certificate(made: ssl.SSLContext, settings: Tls) -> None:
    def passphrase() -> str:  # without it OpenSSL would ask on the terminal
        why = f"needs a passphrase, and nobody is here to type it; write it without: openssl pkey -in {settings.key} -out NEW"
        raise _wrong("key", settings.key, why)

    _is_certificate("certificate", settings.certificate)
    try:
        made.load_cert_chain(settings.certificate, settings.key, passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _wrong("key", settings.key, f"is not the key of {settings.certificate}; name the one it was made with") from error
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            raise _wrong("certificate", settings.certificate, "is too weak; make one of RSA 2048 or P-256 and SHA-256") from error
        raise _wrong("key", settings.key, "is no private key in PEM; convert it: openssl pkey -in FILE -out NEW") from error


def _load_ca(made: ssl.SSLContext, path: str) -> None:
    _readable("ca", path)
    _is_certificate("ca", path)
    made.load_verify_locations(path)


def _is_certificate(key: str, path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise _wrong(key, path, "holds no certificate in PEM; convert it: openssl x509 -inform DER -in FILE -out NEW") from error


def _readable(key: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise _wrong(key, path, f"cannot be read ({error.strerror}); name the file, or give VitalCheck the right to read it") from error


def _keep_secret(path: str) -> None:
    mode = Path(path).stat().st_mode
    if mode & stat.S_IROTH:
        raise _wrong("key", path, f"can be read by everyone on this machine (mode {stat.S_IMODE(mode):04o}); chmod 600 {path}")


def _wrong(key: str, path: str, why: str) -> ConfigError:
    return ConfigError(f"listener.tls.{key}: {path} {why}")


def _shaken_in_memory(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, tuple[tuple[tuple[str, str], ...], ...]]:
    """The certificate of `server`, as `client` read it. Raises SSLCertVerificationError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = server.wrap_bio(there, back, server_side=True), client.wrap_bio(back, there)
    for end in (theirs, ours, theirs, ours):  # TLS 1.3 in two rounds
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return theirs.getpeercert() or {}  # type: ignore[return-value]  # its values are looked up by name


# The handshake


@dataclass(slots=True)
class Door:
    """Where connections to the TLS port come in. Many threads use one."""

    context: ssl.SSLContext
    seconds: float  # for the whole handshake, however many bytes come
    most: int  # handshakes at a time
    most_of_one: int  # of one address
    _begun: Counter[str] = field(default_factory=Counter)
    _told: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, connection: socket.socket, address: str) -> ssl.SSLSocket | None:
        """The connection, once hands are shaken; None where they are not: then it is closed, and the log says why."""
        try:
            with self._place(address):
                return shake(connection, self.context, self.seconds)
        except _Refusal as refusal:
            connection.close()
            self._refuse(address, refusal)
        return None

    @contextmanager
    def _place(self, address: str) -> Iterator[None]:
        """One of the handshakes under way; more than the limits are refused at once, so that nobody fills us with threads that wait."""
        with self._lock:
            if self._begun.total() >= self.most or self._begun[address] >= self.most_of_one:
                raise _Refusal("too many handshakes are unfinished")
            self._begun[address] += 1
        try:
            yield
        finally:
            with self._lock:
                self._begun -= Counter({address: 1})  # drops those that are at 0

    def _refuse(self, address: str, refusal: _Refusal) -> None:
        metrics.tls_handshakes.labels(outcome="refused").inc()
        why, now = str(refusal), time.monotonic()
        with self._lock:
            again = now - self._told.get((address, why), -SAY_AGAIN) < SAY_AGAIN
            if len(self._told) >= MOST_TOLD:
                self._told.clear()
            if not again:
                self._told[address, why] = now
        (log.debug if again or refusal.silent else log.warning)("tls.refused", address=address, reason=why)


class _Refusal(Exception):
    """Why no hands were shaken; `silent` where nobody may have meant anything by it: a scan of ports, a health check."""

    def __init__(self, why: str, *, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


def shake(connection: socket.socket, context: ssl.SSLContext, seconds: float) -> ssl.SSLSocket:
    """Shakes hands within `seconds` in all; blocking again afterwards. Raises _Refusal, and has closed the connection then."""
    shaken = None
    try:
        shaken = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        shaken.settimeout(seconds)  # of do_handshake as a whole, not of each read
        shaken.do_handshake()
        shaken.settimeout(None)
    except (OSError, ValueError) as error:
        if shaken is not None:
            shaken.close()
        raise _refusal(error) from error
    metrics.tls_handshakes.labels(outcome="done").inc()
    return shaken


def _refusal(error: Exception) -> _Refusal:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _Refusal(f"shows a certificate that is not accepted: {error.verify_message}")
    reason = getattr(error, "reason", None) or ""
    if reason in _REASONS:
        return _Refusal(_REASONS[reason])
    if reason in _NO_TLS:
        return _Refusal("speaks no TLS; plain DICOM goes to listener.port")
    if "ALERT" in reason:  # RFC 8446 6.2, as OpenSSL spells it: TLSV1_ALERT_UNKNOWN_CA
        return _Refusal(f"ended the handshake: {reason.partition('ALERT_')[2].replace('_', ' ').lower()}; does it trust our certificate?")
    if not reason or isinstance(error, ssl.SSLEOFError):
        return _Refusal(_SILENT, silent=True)
    return _Refusal(f"no handshake: {reason.replace('_', ' ').lower()}")


def fingerprint(connection: socket.socket | None) -> str | None:
    """SHA-256 of the certificate that the peer showed, in hex; None without TLS or without a certificate."""
    certificate = None
    with suppress(OSError, ValueError):  # it hung up meanwhile
        certificate = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
    return hashlib.sha256(certificate).hexdigest() if certificate else None
