"""logs: events, not sentences, to stderr; masked on the way out.

    log.info("instance.kept", assoc="3f2a", study_uid="1.2.3", bytes=131072, ms=8.1)

Only keys of `ALLOWED` with plain values leave the process, so no patient data and no free text of a study does: not by a
careless key, not inside a data element, not in the message of an exception that a library raised over a value it did not like.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import pydicom
import structlog
from structlog.typing import FilteringBoundLogger

ALLOWED = frozenset(
    {
        "event", "level", "timestamp",
        "assoc", "peer", "called", "address", "port", "tls_port", "http", "dir", "version", "pid", "slot", "exit", "signal",
        "library", "where",
        "study_uid", "series_uid", "sop_instance_uid", "sop_class_uid", "transaction_uid", "digest", "document", "destination",
        "because", "reason", "error", "status", "attempt", "next_in_s", "bytes", "instances", "documents", "count", "failures", "ms",
        "model", "variant", "agreement", "rate", "compared",
    }
)  # fmt: skip


def configure(log_format: Literal["json", "console"] = "json", level: str = "info") -> None:
    """Once per process, before its first event."""
    renderer: Any = structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            mask,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.WriteLogger(cast("TextIO", _STDERR)),  # one object: its lock keeps lines whole
        cache_logger_on_first_use=False,
    )
    sys.excepthook = lambda _type, error, _traceback: _uncaught(error)
    threading.excepthook = lambda args: _uncaught(args.exc_value)
    _tame_libraries()


class _Stderr:
    """The stderr of now: whoever replaced it gets the events. Where it cannot be written (a full disk, a reader that is gone), an event is
    lost, and nothing else: no study is, and no acknowledgement.
    """

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


_STDERR = _Stderr()


def get() -> FilteringBoundLogger:
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drops every key that is not allowed and every value that is not plain."""
    return {key: plain for key, value in event.items() if key in ALLOWED and (plain := _plain(value)) is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):  # pydicom's UID is one; PersonName, DataElement and Dataset are none
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        return [_plain(item) for item in value]
    return None


def explain(error: BaseException) -> str:
    """An error in one line that may be shown: our own in its words, another's by its type and place, for its words may quote a value."""
    if type(error).__module__.partition(".")[0] in ("listener", "pipeline", "models"):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _uncaught(error: BaseException | None) -> None:
    """What Python would print with its message goes out with its places only."""
    if error is None or isinstance(error, KeyboardInterrupt | SystemExit):
        return
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]
    get().error("uncaught", error=explain(error), where=where)


class _LibraryHandler(logging.Handler):
    """What libraries log: that they did, and where; never what."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("pynetdicom") and not record.exc_info:
            return  # it calls every peer that hangs up an error; what matters of that has events of its own
        error = explain(record.exc_info[1]) if record.exc_info and record.exc_info[1] else None
        get().log(record.levelno, "library.message", library=record.name, where=f"{record.module}:{record.lineno}", error=error)


def _tame_libraries() -> None:
    """Warnings and messages of libraries quote values, so only their place is logged; pydicom need not check what it reads for us."""
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module=r"(pydicom|pynetdicom|highdicom)(\..*)?")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler(logging.WARNING)]
    root.setLevel(logging.WARNING)
    tame("pydicom", logging.CRITICAL)
    tame("pynetdicom", logging.ERROR)


def tame(library: str, least: int = logging.WARNING) -> None:
    """`library` speaks through our handler only, and not below `least`."""
    logging.getLogger(library).handlers[:] = []
    logging.getLogger(library).setLevel(least)
