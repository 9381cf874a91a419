"""sop_classes: which SOP classes hold slices, which hold pictures of a screen, which our documents are of (PS3.4 B.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.records import Kind

_IMAGE: Final = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURE: Final = _IMAGE + "7"

OF_ONE_FRAME: Final = frozenset({_IMAGE + "2", _IMAGE + "4"})  # CT and MR Image: a frame number is not for them
SLICES: Final = OF_ONE_FRAME | {_IMAGE + k for k in ("2.1", "2.2", "4.1", "4.4")}  # Enhanced, and Legacy Converted Enhanced
"""Those whose instances can be read; of all others nothing can change an answer."""
OF_DOCUMENTS: Final[Mapping[Kind, str]] = {
    "summary": _IMAGE + "88.22",  # Enhanced SR
    "measurements": _IMAGE + "88.33",  # Comprehensive SR
    "key-image": _SECONDARY_CAPTURE,
    "presentation": _IMAGE + "11.1",  # Grayscale Softcopy Presentation State
    "pdf": _IMAGE + "104.1",  # Encapsulated PDF
}


def is_secondary_capture(sop_class_uid: str) -> bool:
    """Secondary Capture, or one of its multi-frame kin."""
    return sop_class_uid == _SECONDARY_CAPTURE or sop_class_uid.startswith(f"{_SECONDARY_CAPTURE}.")
