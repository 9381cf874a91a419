"""What can go wrong, as one tree. Every leaf says in one line what is wrong, where, and how to mend it; causes stay chained.

    VitalCheckError                exit code 1, DIMSE status 0x0110 (processing failure, PS3.7 C.5.8)
        ConfigError                exit code 2: a key or a value of the configuration
        AlreadyRunning             another process holds this state folder
        NoState                    a state folder that cannot be made or written to
        NoListen                   a port that cannot be bound
        UnknownStudy               a Study Instance UID that the ledger does not hold
        Unheard                    stdout that cannot be written
        IllegalMove                a study asked to change to a state that does not follow its own
        NotDicom                   0xC000: bytes that are no DICOM instance, or one without the four UIDs
        NotTaken                   a request for storage commitment that is not taken; `status` is one of PS3.7 10.1.4.1.10
        Refused                    an instance that was not kept; `uid` is the one it happened to
            OutOfResources         0xA700: disk or limits
            Mismatch               0xA900: data set and command disagree
            CannotUnderstand       0xC000: identifiers or data set that cannot be read
            NotStorage             0x0122: a C-STORE where another service was negotiated (PS3.7 C.5.18)

The DIMSE statuses are those of PS3.4 table B.2-1.
"""

from __future__ import annotations

from pathlib import Path


class VitalCheckError(Exception):
    """Root of everything that this house raises on purpose."""

    exit_code = 1
    status = 0x0110


class ConfigError(VitalCheckError):
    exit_code = 2


class AlreadyRunning(VitalCheckError):
    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: another VitalCheck works in this state folder; stop it, or set another state.dir")


class NoState(VitalCheckError):
    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(f"{folder}: cannot be written to ({error.strerror}); give its owner the right, or set another state.dir")


class NoListen(VitalCheckError):
    def __init__(self, host: str, port: int, why: str, key: str) -> None:
        super().__init__(f"cannot listen on {host}:{port} ({why}); free the port, or set another {key}")


class Unheard(VitalCheckError):
    def __init__(self, error: OSError) -> None:
        super().__init__(f"stdout cannot be written ({error.strerror}); send it elsewhere")


class UnknownStudy(VitalCheckError):
    def __init__(self, uid: str) -> None:
        super().__init__(f"no study {uid} here; `vitalcheck studies` lists what was received")
        self.uid = uid


class IllegalMove(VitalCheckError):
    def __init__(self, uid: str, old: str, new: str) -> None:
        super().__init__(f"study {uid} is {old} and cannot become {new}")
        self.uid, self.old, self.new = uid, old, new


class NotDicom(VitalCheckError):
    """Names the file and the rule; never a value of the data set other than a UID."""

    status = 0xC000

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path, self.why = path, why


class NotTaken(VitalCheckError):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Refused(VitalCheckError):
    def __init__(self, why: str, uid: str = "") -> None:
        super().__init__(why)
        self.why, self.uid = why, uid


class OutOfResources(Refused):
    status = 0xA700


class Mismatch(Refused):
    status = 0xA900


class CannotUnderstand(Refused):
    status = 0xC000


class NotStorage(Refused):
    status = 0x0122
