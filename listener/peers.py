"""peers: who may associate, and how often at a time. Decides and touches nothing; scp.py acts.

    called AE title > calling AE title > network > certificate > associations open

Blocks of [[listener.peers]] with one AE title are alternatives: the first in the file whose network and certificate fit lets the caller in,
and its limit counts the associations that came in by it. So one title may stand for scanners of two networks, each with its own
limit; and a certificate is pinned to a title only if it stands in each of its blocks.

Under `allow_any_peer` titles and networks let everybody in, but a title that has a pinned certificate still needs it: nobody else
may take that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from listener.config import Listener, Peer

Answer = tuple[int, int, int]  # result, source, reason of the A-ASSOCIATE-RJ: PS3.8 table 9-21
CALLING_UNKNOWN: Answer = (1, 1, 3)  # rejected-permanent, UL service-user, calling-AE-title-not-recognized
CALLED_UNKNOWN: Answer = (1, 1, 7)  # called-AE-title-not-recognized
CONGESTED: Answer = (2, 3, 1)  # rejected-transient, UL service-provider (presentation), temporary-congestion
LIMIT_EXCEEDED: Answer = (2, 3, 2)  # rejected-transient, UL service-provider (presentation), local-limit-exceeded: senders try again


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association."""

    peer: str  # calling AE title, without padding
    called: str
    address: str
    certificate: str | None = None  # SHA-256 in hex of what it showed; None without TLS or without a certificate
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """By which block, and how many associations may be open by it at a time."""

    block: Peer | None  # None: a title that stands nowhere, under allow_any_peer
    most: int


@dataclass(frozen=True, slots=True)
class Rejected:
    why: str
    answer: Answer


def judge(caller: Caller, settings: Listener) -> Admitted | Rejected:
    """May this caller come in, but for how many are in already?"""
    if settings.require_called_ae_title and caller.called != settings.ae_title:
        return Rejected("called AE title not recognised", CALLED_UNKNOWN)
    known = [block for block in settings.peers if block.ae_title == caller.peer]
    near = [block for block in known if block.host is None or within(caller.address, block.host)]
    if not settings.allow_any_peer and not known:
        return Rejected("calling AE title not recognised; name it in listener.peers", CALLING_UNKNOWN)
    if not settings.allow_any_peer and not near:
        return Rejected("calling AE title is known, but not from this address", CALLING_UNKNOWN)
    return _certified(caller, near or known, settings.max_associations_per_peer)


def _certified(caller: Caller, blocks: Sequence[Peer], most: int) -> Admitted | Rejected:
    """By the first block whose certificate it showed, or that pins none."""
    if not blocks:
        return Admitted(None, most)
    for block in blocks:
        if block.certificate in (None, caller.certificate):
            return Admitted(block, block.max_associations or most)
    return Rejected(_no_pin(caller), CALLING_UNKNOWN)


def _no_pin(caller: Caller) -> str:
    if not caller.tls:
        return "listener.peers pins a certificate to this AE title, and it called without TLS; let it call listener.tls.port"
    if caller.certificate is None:
        return "listener.peers pins a certificate to this AE title, and it showed none"
    return f"listener.peers pins another certificate to this AE title than the one that it showed, SHA-256 {caller.certificate}"


def within(address: str, network: str) -> bool:
    """Is `address` in `network`? An IPv4 address that arrives mapped into IPv6 counts as IPv4."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip in ip_network(network, strict=False)
