"""Names of patients, one for each defined term of Specific Character Set (PS3.3 C.12.1.1.2), as bytes and as what they say."""

from __future__ import annotations

from typing import NamedTuple

ESC = b"\x1b"


class Name(NamedTuple):
    terms: str  # Specific Character Set
    value: bytes  # Patient's Name, as it stands in the object
    text: str  # what it says; groups alphabetic=ideographic=phonetic (PS3.5 6.2.1)


_SINGLE = {  # PS3.3 table C.12-2: term, how Python names its table, a name in it
    "latin-1": ("ISO_IR 100", "latin-1", "Äneas^Rüdiger"),
    "latin-2": ("ISO_IR 101", "iso8859-2", "Wałęsa^Łukasz"),
    "latin-3": ("ISO_IR 109", "iso8859-3", "Ĉapelo^Ŝtono"),
    "latin-4": ("ISO_IR 110", "iso8859-4", "Bērziņš^Jānis"),
    "cyrillic": ("ISO_IR 144", "iso8859-5", "Люксембург^Илья"),
    "arabic": ("ISO_IR 127", "iso8859-6", "قباني^لنزار"),
    "greek": ("ISO_IR 126", "iso8859-7", "Διονυσιος^Νικος"),
    "hebrew": ("ISO_IR 138", "iso8859-8", "שרון^דבורה"),
    "latin-5": ("ISO_IR 148", "iso8859-9", "Çavuşoğlu^Şükrü"),
    "latin-9": ("ISO_IR 203", "iso8859-15", "Œuvre^Žižka"),
    "katakana": ("ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    "thai": ("ISO_IR 166", "iso8859-11", "นามสกุล^ชื่อ"),
}
_WHOLE = {  # PS3.3 table C.12-5: without code extensions
    "utf-8": ("ISO_IR 192", "utf-8", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "gb18030": ("GB18030", "gb18030", "Wang^XiaoDong=王^小东"),
    "gbk": ("GBK", "gbk", "Wang^XiaoDong=王^小东"),
}
_G1 = {  # PS3.3 table C.12-3: the escape that brings the term's table to the upper half
    "ISO 2022 IR 100": b"-A", "ISO 2022 IR 101": b"-B", "ISO 2022 IR 109": b"-C", "ISO 2022 IR 110": b"-D", "ISO 2022 IR 144": b"-L",
    "ISO 2022 IR 127": b"-G", "ISO 2022 IR 126": b"-F", "ISO 2022 IR 138": b"-H", "ISO 2022 IR 148": b"-M", "ISO 2022 IR 203": b"-b",
    "ISO 2022 IR 13": b")I", "ISO 2022 IR 166": b"-T",
}  # fmt: skip


def _escaped(codec: str, text: str, escape: bytes) -> bytes:
    """Each component begins with the escape, for every delimiter brings the first table back (PS3.5 6.1.2.5.3)."""
    return b"^".join(ESC + escape + component.encode(codec) for component in text.split("^"))


_EXTENDED = {
    f"{name}-escaped": Name(f"\\{term}", _escaped(codec, text, _G1[term]), text)
    for name, (single, codec, text) in _SINGLE.items()
    for term in [single.replace("ISO_IR", "ISO 2022 IR")]
}

NAMES: dict[str, Name] = {
    "ascii": Name("", b"Smith^John", "Smith^John"),
    **{name: Name(term, text.encode(codec), text) for name, (term, codec, text) in {**_SINGLE, **_WHOLE}.items()},
    **_EXTENDED,
    "latin-1-extensible": Name("ISO 2022 IR 100", "Äneas^Rüdiger".encode("latin-1"), "Äneas^Rüdiger"),
    "latin-1-and-greek": Name(
        r"ISO 2022 IR 100\ISO 2022 IR 126", "Ä".encode("latin-1") + ESC + b"-F" + "Δ".encode("iso8859-7"), "ÄΔ"
    ),
    "kanji": Name(  # PS3.5 H.3.1
        r"\ISO 2022 IR 87",
        b"Yamada^Tarou=" + ESC + b"$B;3ED" + ESC + b"(B^" + ESC + b"$BB@O:" + ESC + b"(B=" + ESC + b"$B$d$^$@" + ESC + b"(B^" + ESC
        + b"$B$?$m$&" + ESC + b"(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "kanji-with-katakana": Name(  # PS3.5 H.3.2
        r"ISO 2022 IR 13\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=" + ESC + b"$B;3ED" + ESC + b"(J^" + ESC + b"$BB@O:" + ESC + b"(J=" + ESC + b"$B$d$^$@" + ESC
        + b"(J^" + ESC + b"$B$?$m$&" + ESC + b"(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "kanji-supplementary": Name(r"\ISO 2022 IR 159", b"Smith=" + ESC + b"$(D\x22\x38" + ESC + b"(B", "Smith=΄"),
    "hangul": Name(  # PS3.5 I.2
        r"\ISO 2022 IR 149",
        b"Hong^Gildong=" + ESC + b"$)C\xfb\xf3^" + ESC + b"$)C\xd1\xce\xd4\xd7=" + ESC + b"$)C\xc8\xab^" + ESC + b"$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "simplified-chinese": Name(  # PS3.5 K.2
        r"\ISO 2022 IR 58",
        b"Zhang^XiaoDong=" + ESC + b"$)A\xd5\xc5^" + ESC + b"$)A\xd0\xa1\xb6\xab",
        "Zhang^XiaoDong=张^小东",
    ),
}  # fmt: skip
