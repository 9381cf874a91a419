"""contexts: what we accept, SOP classes x transfer syntaxes. Everything is stored as sent; only `ANSWERS` can start work.

A scanner whose SOP class is refused drops the study, so every class that holds a composite instance of a patient is stored (PS3.4 B.5),
also retired ones, those newer than this program, and private ones where `listener.private_sop_classes` allows it. Everything else that
may be proposed - queries, worklists, objects without a study such as hanging protocols (PS3.4 GG) - is refused as an abstract syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache

from pydicom import uid
from pynetdicom import AllStoragePresentationContexts, build_context, sop_class
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext

from listener import commitment_wire
from pipeline.sop_classes import SLICES

ANSWERS: frozenset[str] = SLICES
"""The SOP classes whose instances can change an answer; all others are kept, but never start work."""

_ROOT = "1.2.840.10008."  # of every UID of the standard (PS3.5 9)
_IMAGES = _ROOT + "5.1.4.1.1."  # and of every storage SOP class of its (PS3.6 A)
_WITHOUT_STUDY = tuple(_IMAGES + branch for branch in ("200.", "201."))  # protocols and inventories: storage, but of no patient
_STORAGE_SERVICE = "1.2.840.10008.4.2"  # PS3.4 B; the class of a service, not of an object

STORAGE: tuple[str, ...] = tuple(sorted({str(context.abstract_syntax) for context in AllStoragePresentationContexts}))
"""The storage SOP classes of the standard."""

RETIRED: tuple[str, ...] = tuple(
    sorted(
        str(value)
        for value, (title, _, _, retired, _) in list(uid.UID_dictionary.items())
        if retired and "Storage" in title and value.startswith(_IMAGES)
    )
)
"""Those that the standard no longer has, and old scanners and archives still send."""

# PS3.5 A: every syntax that carries its own pixels, whether or not we could decode it; what is stored as sent is never re-encoded.
# Of those that a presentation context proposes the first in this order is accepted (PS3.8 9.3.3.2): one that needs no codec before
# one that does, one that loses nothing before one that may, sharper before coarser, and last what we cannot read.
_NATIVE: tuple[str, ...] = (
    uid.ExplicitVRLittleEndian,  # before implicit: private attributes keep their VRs
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.UID("1.2.840.10008.1.2.1.98"),  # Encapsulated Uncompressed
)
_LOSSLESS: tuple[str, ...] = (
    uid.RLELossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.JPEGLSLossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.JPEG2000Lossless,
)
_LOSSY: tuple[str, ...] = (  # or lossless: these names leave it open
    uid.JPEG2000,
    uid.HTJ2K,
    uid.JPEGLSNearLossless,
    uid.JPEGExtended12Bit,
    uid.JPEGBaseline8Bit,
)
_UNREAD: tuple[str, ...] = (
    uid.JPEG2000MCLossless,
    uid.JPEG2000MC,
    *(uid.UID(f"1.2.840.10008.1.2.4.{number}") for number in (110, 111, 112)),  # JPEG XL
    *uid.MPEGTransferSyntaxes,  # HEVC among them
)
TRANSFER_SYNTAXES: tuple[str, ...] = (*_NATIVE, *_LOSSLESS, *_LOSSY, *_UNREAD)


_KNOWN = frozenset({*STORAGE, *RETIRED})
SERVICES: Mapping[str, Callable[[], PresentationContext]] = {
    sop_class.Verification: lambda: build_context(sop_class.Verification),
    sop_class.StorageCommitmentPushModel: commitment_wire.context,
}
"""What we answer besides storage."""


def is_storage(abstract_syntax: str, *, private: bool = True) -> bool:
    """Do we store instances of this SOP class? `private`: also those that the standard does not define."""
    if abstract_syntax in _KNOWN:
        return True
    if len(abstract_syntax) > 64 or not re.fullmatch(r"[0-2](\.[0-9]+)+", abstract_syntax):
        return False  # no UID (PS3.5 9.1)
    return _is_newer(abstract_syntax) if abstract_syntax.startswith(_ROOT) else private


def supported(proposed: Iterable[str], *, private: bool = True) -> list[PresentationContext]:
    """The presentation contexts of our SCP for the abstract syntaxes that an association proposes, and no more.

    Made for each association, which costs 0.2 ms for each private class and nothing for the others; a copy of all that we could
    accept, as the library makes it, costs 50 ms.
    """
    return [_context(wanted) for wanted in dict.fromkeys(map(str, proposed)) if _accepts(wanted, private)]


def services(proposed: Iterable[str]) -> dict[str, SOPClassCommonExtendedNegotiation]:
    """Names the service of storage classes that the library does not know (PS3.7 D.3.3.6); it would abort at their first C-STORE."""
    return {wanted: _service(wanted) for wanted in map(str, proposed) if is_storage(wanted) and wanted not in STORAGE}


def others(items: Iterable[SOPClassCommonExtendedNegotiation]) -> frozenset[str]:
    """The SOP classes of which the peer itself says that they are of another service than storage."""
    return frozenset(str(item.sop_class_uid) for item in items if item.service_class_uid != _STORAGE_SERVICE)


def name(sop_class_uid: str) -> str:
    """The standard's name of a SOP class, or its UID."""
    return str(uid.UID(sop_class_uid).name)


def _accepts(abstract_syntax: str, private: bool) -> bool:
    return abstract_syntax in SERVICES or is_storage(abstract_syntax, private=private)


def _is_newer(value: str) -> bool:
    """A storage class of the standard that this program has never heard of."""
    return value.startswith(_IMAGES) and not value.startswith(_WITHOUT_STUDY) and value not in uid.UID_dictionary


def _context(abstract_syntax: str) -> PresentationContext:
    if abstract_syntax in SERVICES:
        return SERVICES[abstract_syntax]()
    return _of_known(abstract_syntax) if abstract_syntax in _KNOWN else _storage(abstract_syntax)


@cache
def _of_known(abstract_syntax: str) -> PresentationContext:
    """The library only reads it, so that associations share it. Of private classes a peer could name any number."""
    return _storage(abstract_syntax)


def _storage(abstract_syntax: str) -> PresentationContext:
    return build_context(abstract_syntax, list(TRANSFER_SYNTAXES))


def _service(sop_class_uid: str) -> SOPClassCommonExtendedNegotiation:
    item = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid, item.service_class_uid = sop_class_uid, _STORAGE_SERVICE
    return item
