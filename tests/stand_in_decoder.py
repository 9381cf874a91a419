"""The decoder's process with a decoder in it that does what the Series Instance UID says; any other series is decoded as ever."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import numpy as np

from listener import decoder
from pipeline.decode import Undecodable, decode
from pipeline.records import Series, Slices

DEEDS = {
    "1.2.3.101": "sleep",
    "1.2.3.102": "allocate",
    "1.2.3.103": "kill",
    "1.2.3.104": "crash",
    "1.2.3.105": "object",
    "1.2.3.106": "err",
}


def act(series: Series) -> Slices:
    deed = DEEDS.get(series.uid)
    if deed == "sleep":
        time.sleep(60)
    if deed == "allocate":
        try:
            np.ones(1 << 30, np.float64)
        except MemoryError as error:  # as code that is meant for broken pixels takes it
            raise Undecodable(series.instances[0].sop_instance_uid, "pixels cannot be read (MemoryError)") from error
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "crash":
        ctypes.string_at(0)
    if deed == "object":
        raise Undecodable("1.2.3.9", "its pixel data are damaged; send it again")
    if deed == "err":
        raise ValueError("a text that quotes a value")
    return decode(series)


if __name__ == "__main__":
    decoder.main(act)
