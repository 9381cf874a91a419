"""listener/peers.py: who may associate, decided without a network."""

from __future__ import annotations

from typing import Any

from listener.config import Listener, Peer
from listener.peers import CALLED_UNKNOWN, CALLING_UNKNOWN, Admitted, Caller, Rejected, judge, within

PIN, OTHER = "ab" * 32, "cd" * 32


def judged(caller: Caller, *blocks: Peer, **settings: Any) -> Admitted | Rejected:
    return judge(caller, Listener(peers=blocks, **settings))


def caller(peer: str = "CT01", address: str = "10.1.2.3", certificate: str | None = None, *, tls: bool = False) -> Caller:
    return Caller(peer, "VITALCHECK", address, certificate, tls or certificate is not None)


def why(verdict: Admitted | Rejected) -> str:
    assert isinstance(verdict, Rejected)
    assert verdict.answer == CALLING_UNKNOWN
    return verdict.why


def test_who_may_come_in() -> None:
    """allow_any_peer opens to every name, require_called_ae_title = false to every name of ours; mapped IPv4 is IPv4."""
    stranger = Caller("STRANGER", "SOMEONE", "::ffff:10.1.2.3")
    assert judged(stranger) == Rejected("called AE title not recognised", CALLED_UNKNOWN)
    assert judged(stranger, allow_any_peer=True, require_called_ae_title=False) == Admitted(None, 64)
    known = Peer(ae_title="STRANGER", host="10.1.0.0/16")
    assert judged(stranger, known, require_called_ae_title=False) == Admitted(known, 64)
    assert within("fe80::1%eth0", "fe80::/10")
    assert not within("10.2.0.1", "10.1.0.0/16")


def test_each_block_has_its_own_limit() -> None:
    """The first block whose network fits lets the caller in and sets its limit; a block without one has that of the listener."""
    near, far = Peer(ae_title="CT01", host="10.1.0.0/16", max_associations=2), Peer(ae_title="CT01", host="10.2.0.0/16")
    assert judged(caller(), near, far) == Admitted(near, 2)
    assert judged(caller(address="10.2.0.1"), near, far, max_associations_per_peer=7) == Admitted(far, 7)
    assert "not from this address" in why(judged(caller(address="10.3.0.1"), near, far))


def test_a_pinned_certificate_is_needed() -> None:
    """Plain, without a certificate, with another one: rejected, each with its own reason; with the right one admitted."""
    block = Peer(ae_title="CT01", certificate=":".join(["AB"] * 32))
    assert "called without TLS" in why(judged(caller(), block))
    assert "it showed none" in why(judged(caller(tls=True), block))
    assert OTHER in why(judged(caller(certificate=OTHER), block))
    assert judged(caller(certificate=PIN), block) == Admitted(block, 64)


def test_allow_any_peer_leaves_pins_alone() -> None:
    """Everybody may come in from everywhere, but not under the name of one whose certificate is pinned."""
    pinned, tied = Peer(ae_title="CT01", host="10.1.0.0/16", certificate=PIN), Peer(ae_title="MR01", host="10.1.0.0/16")
    assert isinstance(judged(caller("ANY"), pinned, tied, allow_any_peer=True), Admitted)
    assert isinstance(judged(caller("MR01", "10.9.9.9"), pinned, tied, allow_any_peer=True), Admitted)
    assert "called without TLS" in why(judged(caller("CT01", "10.9.9.9"), pinned, tied, allow_any_peer=True))


def test_blocks_of_one_title_are_alternatives() -> None:
    """A caller without the certificate of the first block comes in by the second, which pins none."""
    pinned, free = Peer(ae_title="CT01", certificate=PIN), Peer(ae_title="CT01", max_associations=1)
    assert judged(caller(certificate=PIN), pinned, free) == Admitted(pinned, 64)
    assert judged(caller(), pinned, free) == Admitted(free, 1)
