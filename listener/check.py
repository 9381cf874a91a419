"""check: what would stop a study from being answered? Each row is one thing that was tried, not assumed."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from listener import delivery, selftest, tls
from listener.config import Config
from listener.errors import ConfigError, VitalCheckError
from listener.ledger import FILE, Ledger
from listener.selftest import NOTE, OK, WRONG, Row
from models import registry
from models.registry import ModelRefused

LOCK = "lock"  # as service.py names it in state.dir
_SOON = 30 * 86400.0  # s; a certificate that expires sooner is remarked on
_BORN = 2025  # a clock before this year was never set


def run(config: Config) -> Iterator[Row]:
    """Row by row, the quick ones first."""
    running = _is_running(config.state.dir)
    yield Row("configuration", OK, "read, every key known")
    yield _peers(config)
    yield _clock(datetime.now().astimezone())
    yield from _disk(config)
    yield _database(config)
    if not config.listener.tls.only:
        yield _port("listener.port", config.listener.host, config.listener.port, running)
    if config.listener.tls.enabled:
        yield _tls(config, time.time())
        yield _port("listener.tls.port", config.listener.host, config.listener.tls.port, running)
    yield _port("http.port", config.http.host, config.http.port, running)
    yield from _models(config.models.enabled)
    if not config.destinations:
        yield Row("destinations", WRONG, "none: results would stay here; name a PACS in [[destinations]]")
    for destination in config.destinations:
        answer = delivery.echo(destination, config.listener.ae_title)
        reached = isinstance(answer, delivery.Sent)
        yield Row(
            f"destination {destination.name}",
            OK if reached else WRONG,
            f"answers C-ECHO and accepts {', '.join(destination.documents)}" if isinstance(answer, delivery.Sent) else answer.reason,
        )


def _peers(config: Config) -> Row:
    if config.listener.allow_any_peer:
        return Row("peers", NOTE, "any AE may call: listener.allow_any_peer is true")
    if not config.listener.peers:
        return Row("peers", WRONG, "nobody may call; name each scanner's AE title in [[listener.peers]]")
    return Row("peers", OK, f"may call: {', '.join(peer.ae_title for peer in config.listener.peers)}")


def _tls(config: Config, now: float) -> Row:
    """The files are looked at, and our certificate as a peer would."""
    try:
        tls.context(config.listener.tls)
        shown = tls.standing(config.listener.tls)
    except ConfigError as error:
        return Row("listener.tls", WRONG, str(error).removeprefix("listener.tls."))
    until = f"{shown.subject}, valid until {datetime.fromtimestamp(shown.expires_at):%Y-%m-%d}"
    if shown.expires_at - now < _SOON:
        return Row("listener.tls", NOTE, f"certificate of {until}; put a new one there and restart")
    asked = "required" if config.listener.tls.require_client_certificate else "not required"
    return Row("listener.tls", OK, f"certificate of {until}; TLS 1.2 and 1.3; a certificate of peers is {asked}")


def _clock(now: datetime) -> Row:
    """The documents carry this date and time, with its offset from UTC."""
    said = f"{now:%Y-%m-%d %H:%M:%S %Z (UTC%z)}"
    return Row("clock", OK, said) if now.year >= _BORN else Row("clock", WRONG, f"{said}: set the clock of this machine")


def _disk(config: Config) -> Iterator[Row]:
    folder = config.state.dir
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        if there == folder:
            with tempfile.TemporaryFile(dir=there) as probe:
                probe.write(b"\0")
                os.fsync(probe.fileno())
        elif not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        yield Row("state.dir", WRONG, f"{folder} cannot be written to ({error.strerror}); give its owner the right, or set another")
        return
    yield Row("state.dir", OK, f"{folder} can be written to" if there == folder else f"{folder} will be made at the first start")
    free, least = shutil.disk_usage(there).free, config.state.min_free_bytes
    yield Row(
        "disk",
        OK if free >= least else WRONG,
        f"{free / 1e9:.1f} GB free; instances are refused below {least / 1e9:.1f} GB (state.min_free_bytes)",
    )


def _database(config: Config) -> Row:
    if not (config.state.dir / FILE).is_file():
        return Row("database", OK, "the ledger will be made at the first start")
    try:
        ledger = Ledger(config.state.dir, create=False)
        counts = ledger.counts()
        ledger.close()
    except VitalCheckError as error:
        return Row("database", WRONG, str(error))
    trouble = f", {counts['quarantined']} of them quarantined: `vitalcheck studies --state quarantined`" if counts["quarantined"] else ""
    return Row("database", NOTE if trouble else OK, f"ledger of {sum(counts.values())} studies{trouble}")


def _port(key: str, host: str, port: int, running: bool) -> Row:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        if running:
            return Row(key, OK, f"{port} is taken by the running service")
        return Row(key, WRONG, f"{host}:{port} cannot be listened on ({error.strerror}); free it, or set another {key}")
    return (
        Row(key, NOTE, f"the service is running, but not on {port}")
        if running and port
        else Row(key, OK, f"{host}:{port or 'any'} is free")
    )


def _models(entries: Sequence[str]) -> Iterator[Row]:
    refused = False
    for entry in entries:
        try:
            yield from selftest.examine(entry, registry.ZOO)
        except ModelRefused as error:
            refused = True
            yield Row(f"model {entry}", WRONG, str(error))
    try:
        registry.refuse_same_names(() if refused else entries)
    except ModelRefused as error:
        yield Row("models.enabled", WRONG, str(error))


def _is_running(state: Path) -> bool:
    """Does a service hold the lock of this state folder?"""
    try:
        with (state / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
