"""Character sets: every defined term (PS3.3 C.12.1.1.2) with a name that fits, and what is none. A name never stops an answer."""

from __future__ import annotations

from collections.abc import Sequence

from corpus import Object, case, changed, each, head, raw
from names import ESC, NAMES


def _named(uid: str, terms: bytes, name: bytes) -> Sequence[Object]:
    made = head(uid)
    for ds in made:
        raw("SpecificCharacterSet", terms)(ds)
        raw("PatientName", name)(ds)
        raw("StudyDescription", name[:60])(ds)
    return made


for _what, _known in NAMES.items():
    case(f"charset-{_what}", "analysed")(lambda uid, k=_known: _named(uid, k.terms.encode(), k.value))
_BROKEN: dict[str, tuple[bytes, bytes]] = {
    "unknown-term": (b"KLINGON", b"Worf"),
    "python-name": (b"utf-8", "Äneas".encode()),
    "misspelt": (b"ISO IR 100", "Äneas".encode("latin-1")),
    "lower": (b"iso_ir 100", "Äneas".encode("latin-1")),
    "utf-8-and-others": (rb"ISO_IR 192\ISO 2022 IR 87", "Äneas".encode()),
    "twice": (rb"ISO_IR 100\ISO_IR 100", "Äneas".encode("latin-1")),
    "fifty-terms": (b"\\".join([b"ISO 2022 IR 100"] * 50), b"Smith"),
    "invalid-utf-8": (b"ISO_IR 192", b"\xff\xfe\xc3\x28"),
    "latin-1-as-utf-8": (b"ISO_IR 192", "Äneas^Rüdiger".encode("latin-1")),
    "latin-1-without-term": (b"", "Äneas^Rüdiger".encode("latin-1")),
    "escape-without-term": (b"", ESC + b"$B;3ED" + ESC + b"(B"),
    "escape-unknown": (rb"\ISO 2022 IR 87", ESC + b"$Z\x01\x02"),
    "escape-at-the-end": (rb"\ISO 2022 IR 87", b"Yamada" + ESC),
    "gb18030-backslash": (b"GB18030", "誠".encode("gb18030") + b"\\x"),
    "only-controls": (b"", b"\x01\x02\x03\x07\x08"),
    "nul-inside": (b"", b"Smi\0th^Jo\0hn"),
    "nul-padded": (b"", b"Smith^John\0"),
    "control-characters": (b"", b"Smith\x07\x0c^\x1a"),
    "300-characters": (b"", b"A" * 300 + b"^" + b"B" * 300),
    "ten-component-groups": (b"", b"=".join([b"A^B^C^D^E"] * 10)),
    "ten-components": (b"", b"^".join([b"A"] * 10)),
    "backslashes": (b"", rb"Smith\John\\"),
    "only-carets": (b"", b"^^^^"),
    "only-equals": (b"", b"==="),
    "spaces": (b"", b"     "),
    "one-long-line": (b"ISO_IR 192", "é".encode() * 5000),
}
for _what, (_terms, _name) in _BROKEN.items():
    case(f"charset-{_what}", "analysed")(lambda uid, t=_terms, n=_name: _named(uid, t, n))


@case("charset-differs-between-slices", "analysed")
def differs(uid: str) -> Sequence[Object]:
    terms = ((b"ISO_IR 100", "latin-1"), (b"ISO_IR 192", "utf-8"), (b"GB18030", "gb18030"))
    made = head(uid)
    for ds, (term, codec) in zip(made, terms, strict=True):
        raw("SpecificCharacterSet", term)(ds)
        raw("PatientName", "Müller^Änne".encode(codec))(ds)
    return made


@case("charset-in-description-of-the-series", "analysed")
def description(uid: str) -> Sequence[Object]:
    return [changed(ds, raw("SeriesDescription", b"T1 SE Sch\xe4del")) for ds in head(uid)]


each("charset-hostile-in-all-texts", "analysed", change=lambda ds: [raw(k, b"\xff\x1b$B\x80")(ds) for k in (
    "PatientName", "PatientID", "StudyID", "AccessionNumber", "ReferringPhysicianName", "Manufacturer", "ProtocolName")])  # fmt: skip
