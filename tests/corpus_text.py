"""Character sets: every defined term (PS3.3 C.12.1.1.2) with a name that fits, and what is none. A name never stops an answer."""

from __future__ import annotations

from collections.abc import Sequence

from corpus import Object, case, changed, each, head, raw

ESC = b"\x1b"
_NAMES: dict[str, tuple[bytes, bytes]] = {
    "ascii": (b"", b"Smith^John"),
    "latin-1": (b"ISO_IR 100", "Äneas^Rüdiger".encode("latin-1")),
    "latin-2": (b"ISO_IR 101", "Wałęsa^Łukasz".encode("iso8859-2")),
    "latin-3": (b"ISO_IR 109", "Ĉapelo^Ŝtono".encode("iso8859-3")),
    "latin-4": (b"ISO_IR 110", "Bērziņš^Jānis".encode("iso8859-4")),
    "cyrillic": (b"ISO_IR 144", "Люкceмбypг".encode("iso8859-5")),
    "arabic": (b"ISO_IR 127", "قباني^لنزار".encode("iso8859-6")),
    "greek": (b"ISO_IR 126", "Διονυσιος".encode("iso8859-7")),
    "hebrew": (b"ISO_IR 138", "שרון^דבורה".encode("iso8859-8")),
    "latin-5": (b"ISO_IR 148", "Çavuşoğlu^Şükrü".encode("iso8859-9")),
    "latin-9": (b"ISO_IR 203", "Œuvre^Žižka".encode("iso8859-15")),
    "katakana": (b"ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ".encode("shift_jis")),
    "thai": (b"ISO_IR 166", "นามสกุล^ชื่อ".encode("iso8859-11")),
    "utf-8": (b"ISO_IR 192", "Wang^XiaoDong=王^小东=".encode()),
    "gb18030": (b"GB18030", "Wang^XiaoDong=王^小东=".encode("gb18030")),
    "gbk": (b"GBK", "Wang^XiaoDong=王^小东=".encode("gbk")),
    "latin-1-escaped": (b"ISO 2022 IR 100", "Äneas^Rüdiger".encode("latin-1")),
    "kanji": (
        rb"\ISO 2022 IR 87",
        b"Yamada^Tarou=" + ESC + b"$B;3ED" + ESC + b"(B^" + ESC + b"$BB@O:" + ESC + b"(B=" + ESC + b"$B$d$^$@" + ESC + b"(B^" + ESC
        + b"$B$?$m$&" + ESC + b"(B",
    ),
    "kanji-with-katakana": (
        rb"ISO 2022 IR 13\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=" + ESC + b"$B;3ED" + ESC + b"(J^" + ESC + b"$BB@O:" + ESC + b"(J",
    ),
    "kanji-supplementary": (rb"\ISO 2022 IR 159", b"Smith=" + ESC + b"$(D\x22\x38" + ESC + b"(B"),
    "hangul": (rb"\ISO 2022 IR 149", b"Hong^Gildong=" + ESC + b"$)C\xfb\xf3^" + ESC + b"$)C\xd1\xce\xd4\xd7"),
    "simplified-chinese": (rb"\ISO 2022 IR 58", b"Zhang^XiaoDong=" + ESC + b"$)A\xd5\xc5^" + ESC + b"$)A\xd0\xa1\xb6\xab"),
    "latin-1-and-greek": (rb"ISO 2022 IR 100\ISO 2022 IR 126", "Ä".encode("latin-1") + ESC + b"-F" + "Δ".encode("iso8859-7")),
}  # fmt: skip


def _named(uid: str, terms: bytes, name: bytes) -> Sequence[Object]:
    made = head(uid)
    for ds in made:
        raw("SpecificCharacterSet", terms)(ds)
        raw("PatientName", name)(ds)
        raw("StudyDescription", name[:60])(ds)
    return made


for _what, (_terms, _name) in _NAMES.items():
    case(f"charset-{_what}", "analysed")(lambda uid, t=_terms, n=_name: _named(uid, t, n))
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
