"""limits: what a header may claim before anybody believes it, and the error of pixels that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass


class Unreadable(Exception):
    """Its message: why the pixels of an instance cannot be read, as a technologist would say it. Nothing of a patient."""


class NoSlice(Unreadable):
    """The instance holds no greyscale picture: beside others that do, it is left out."""


_MEND = "if the header is right, send the series in smaller parts"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one series may cost. A header that claims more is refused before a byte of its pixels is touched."""

    pixels: int = 2**28  # of the slices that are read: 1 GiB as float32, 1024 slices of 512 x 512
    frames: int = 2**16

    def check(self, rows: int, columns: int, frames: int) -> None:
        """Raises Unreadable where a header claims more than this."""
        if frames > self.frames:
            raise Unreadable(f"{frames} frames are more than the {self.frames} that are read of one series; {_MEND}")
        if rows * columns * frames > self.pixels:
            size = f"{frames} x {rows} x {columns} pixels (frames, rows, columns)"
            raise Unreadable(f"{size} are more than the {self.pixels} that are read of one series; {_MEND}")
