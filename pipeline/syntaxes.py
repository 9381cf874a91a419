"""syntaxes: which transfer syntaxes' pixels can be read, and in words why not the others (PS3.5 A, PS3.6 A)."""

from __future__ import annotations

from typing import Final

from pipeline.language import Said, said

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
ENCAPSULATED: Final = "1.2.840.10008.1.2.1.98"  # uncompressed, in fragments
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
RLE: Final = "1.2.840.10008.1.2.5"

_JPEG: Final = "1.2.840.10008.1.2.4."
NATIVE: Final = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN})
JPEG: Final = frozenset(_JPEG + k for k in ("50", "51", "57", "70"))
JPEG_LS: Final = frozenset(_JPEG + k for k in ("80", "81"))
JPEG_2000: Final = frozenset(_JPEG + k for k in ("90", "91", "201", "202", "203"))  # from 201: HTJ2K
LITTLE: Final = frozenset({IMPLICIT, EXPLICIT})  # their pixels are the same bytes
LOSSLESS: Final = NATIVE | {ENCAPSULATED, RLE} | {_JPEG + k for k in ("57", "70", "80", "90", "201", "202", "110")}
READABLE: Final = NATIVE | JPEG | JPEG_LS | JPEG_2000 | {ENCAPSULATED, RLE}

_WHY_NOT: Final = (
    (tuple(f"{_JPEG}{k}" for k in range(100, 109)), said("syntaxes.video")),
    ((_JPEG + "92", _JPEG + "93"), said("syntaxes.part2")),
    (tuple(f"{_JPEG}{k}" for k in (110, 111, 112)), said("syntaxes.jpeg_xl")),
    ((_JPEG + "94", _JPEG + "95", _JPEG + "204", _JPEG + "205"), said("syntaxes.jpip")),
)


def why_not(syntax: str) -> Said | None:
    """Why pixels of this transfer syntax cannot be read, as the start of a sentence; None where they can."""
    if syntax in READABLE:
        return None
    for family, reason in _WHY_NOT:
        if any(syntax == uid or syntax.startswith(uid + ".") for uid in family):
            return reason
    is_uid = syntax.replace(".", "").isdecimal()  # what is none may be anything
    return said("syntaxes.unknown_uid", uid=syntax) if is_uid else said("syntaxes.unknown")
