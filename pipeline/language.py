"""language: what is said to people, in English and in the language of whoever reads the report.

    reason = said("reasons.not_read", modality="CT")    "no enabled model reads CT": ledger, logs, JSON and API keep the English
    GERMAN(reason)                                      "kein eingeschaltetes Modell liest CT": the Summary

The words lie in `languages/`, one file for each language, key by key; code decides what is said, the file how. A site may bring a file of
its own. It is refused where it lacks a key or a field: a sentence that lost its number would be another statement.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "languages"
Value = str | int | float | tuple[str, ...]
_TAG = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")  # RFC 5646 2.1, as far as anybody needs it
_LONGEST = 64  # characters of a code meaning or of a series description: LO (PS3.5 table 6.2-1)


class LanguageError(Exception):
    """A language that is not there or not whole: one line with file, key and how to mend it."""


class Forms(NamedTuple):
    """The words for a count of 1 and for any other; alike where a count changes nothing."""

    one: str
    other: str
    counted: bool  # written as two


@dataclass(frozen=True, slots=True)
class Language:
    """How everything is said in one language."""

    code: str  # RFC 5646
    name: str  # in itself
    decimal: str
    sentences: Mapping[str, Forms]
    texts: Mapping[str, str]  # what manifests say in English, by their own words

    @property
    def id(self) -> str:
        """First 16 hex digits of the sha256 of all its words: other words are another document."""
        words = json.dumps([self.code, self.name, self.decimal, self.sentences, self.texts], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:16]

    @property
    def letters(self) -> frozenset[str]:
        """Every character that it may write."""
        forms = (form for two in self.sentences.values() for form in (two.one, two.other))
        return frozenset().union(self.decimal, *forms, *self.texts.values())

    def __call__(self, value: Value) -> str:
        """`value` in this language; what nobody translated stays as it is."""
        if isinstance(value, Said):
            return self.filled(value.key, value.fields)
        if isinstance(value, float):
            return f"{value:.1f}".replace(".", self.decimal)
        return self.texts.get(value, value) if isinstance(value, str) else str(value)

    def sentence(self, value: str) -> str:
        """`value` with a capital at its beginning."""
        told = self(value)
        return told[:1].upper() + told[1:]

    def filled(self, key: str, fields: Mapping[str, Value]) -> str:
        forms = self.sentences[key]
        if key.startswith("lists."):
            return self._listed(forms.other, key, fields["items"])
        form = forms.one if fields.get("count") == 1 else forms.other
        return form.format_map({name: self(value) for name, value in fields.items()})

    def _listed(self, last: str, key: str, items: Value) -> str:
        """ "a", "a and b", "a, b and c"."""
        told = [self(item) for item in items] if isinstance(items, tuple) else []
        between = self.sentences["lists.comma"].other if key in ("lists.and", "lists.or") else last
        return last.join(filter(None, (between.join(told[:-1]), *told[-1:])))


class Said(str):
    """English, for everybody; with the key of its words and what fills them, so that a Language can say it again."""

    key: str
    fields: Mapping[str, Value]

    def __new__(cls, key: str, fields: Mapping[str, Value]) -> Said:
        text = super().__new__(cls, ENGLISH.filled(key, fields))
        text.key, text.fields = key, dict(fields)
        return text

    def __getnewargs__(self) -> tuple[str, Mapping[str, Value]]:  # type: ignore[override]
        return self.key, self.fields


def said(key: str, **fields: Value) -> Said:
    """The words of `key` with these fields: integers as they are, other numbers with one decimal."""
    return Said(key, fields)


def listed(items: Iterable[str], how: str) -> Said:
    """`items` in one text; `how` is one of the keys of [lists]."""
    return Said(f"lists.{how}", {"items": tuple(items)})


def packed(value: Any) -> Any:
    """`value` for JSON, which would take a Said for any text."""
    if isinstance(value, Said):
        return {"key": value.key, "fields": {name: packed(field) for name, field in value.fields.items()}}
    return [packed(each) for each in value] if isinstance(value, (list, tuple)) else value


def unpacked(value: Any) -> Any:
    """What was `packed`, with tuples for lists. Raises ValueError where it names words that nobody has."""
    if isinstance(value, dict):
        try:
            return Said(value["key"], {str(name): unpacked(field) for name, field in value["fields"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("no such words") from error
    return tuple(map(unpacked, value)) if isinstance(value, list) else value


# Reading a file -----------------------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """Of the languages that are built in."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def is_file(entry: str) -> bool:
    """Whether `entry` is the path of a file, not the name of a language."""
    return "/" in entry or entry.endswith(".toml")


def read(entry: str) -> Language:
    """The language of that name, or the one in the TOML file at that path. Raises LanguageError."""
    if is_file(entry):
        return _read(Path(entry), ENGLISH.sentences)
    if entry == ENGLISH.code:
        return ENGLISH
    if entry not in names():
        raise LanguageError(f"there is no language {entry!r}; name {' or '.join(names())}, or the path of a TOML file of your own")
    return _read(FOLDER / f"{entry}.toml", ENGLISH.sentences)


def _read(path: Path, english: Mapping[str, Forms] | None) -> Language:
    try:
        return _language(tomllib.loads(path.read_text(encoding="utf-8")), english)
    except OSError as error:
        raise LanguageError(f"{path}: cannot be read ({error.strerror}); name {' or '.join(names())}, or another file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LanguageError(f"{path}: is no TOML: {error}; every line is key = text, texts in quotes") from error
    except _Wrong as error:
        raise LanguageError(f"{path}: {error}") from error


class _Wrong(Exception):
    """Key, what is wrong with it, how to mend it."""


def _language(tree: dict[str, Any], english: Mapping[str, Forms] | None) -> Language:
    """Checked against English; None: it is English."""
    code, name, decimal = (_line(key, tree.pop(key, None)) for key in ("language", "name", "decimal"))
    if not _TAG.fullmatch(code) or len(code) > 16:  # a code value is SH
        raise _Wrong(f'language: {code!r} is no language tag; write it as RFC 5646 does, "de" or "pt-BR"')
    texts = {key: _line(f"texts.{key}", text) for key, text in _table("texts", tree.pop("texts", {})).items()}
    found = {f"{part}.{key}": text for part, table in tree.items() for key, text in _table(part, table).items()}
    forms = {key: _forms(key, text) for key, text in found.items()}
    english = english or forms
    if unknown := next((key for key in forms if key not in english), None):
        raise _Wrong(f"{unknown}: no such key; did you mean {difflib.get_close_matches(unknown, english, 1, cutoff=0)[0]}?")
    if missing := next((key for key in english if key not in forms), None):
        raise _Wrong(f"{missing}: missing; translate {english[missing].other!r}")
    for key, said_so in forms.items():
        _check(key, said_so, english[key])
    return Language(code, name, decimal, forms, texts)


def _table(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{key}: no such key; texts lie in tables: [headings], [findings], [reasons] and so on")
    return value


def _line(key: str, value: Any) -> str:
    if value is None:
        raise _Wrong(f'{key}: missing; a file begins with language = "de", name = "Deutsch", decimal = ","')
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _Wrong(f"{key}: is no text of one line; write it in quotes")
    return value


def _forms(key: str, value: Any) -> Forms:
    if not isinstance(value, dict):
        return Forms(_line(key, value), _line(key, value), counted=False)
    if value.keys() != {"one", "other"}:
        raise _Wrong(f'{key}: two forms are written {{one = "...", other = "..."}}')
    return Forms(_line(f"{key}.one", value["one"]), _line(f"{key}.other", value["other"]), counted=True)


def _check(key: str, forms: Forms, english: Forms) -> None:
    """Raises _Wrong unless `forms` hold the fields that English holds; with a count of one the number may be left out."""
    needed = _fields(key, english.other)
    known = needed | ({"count"} if english.counted else set())
    if forms.counted and "count" not in known:
        raise _Wrong(f"{key}: has two forms, and nothing is counted there; write one text")
    for form, wanted in ((forms.other, needed), (forms.one, needed - {"count"} if forms.counted else needed)):
        has = _fields(key, form)
        if unknown := sorted(has - known):
            raise _Wrong(f"{key}: no such field {{{unknown[0]}}}; {_those(known)}")
        if missing := sorted(wanted - has):
            raise _Wrong(f"{key}: lacks the field {{{missing[0]}}}, without which it says less; {_those(needed)}")
    if key.startswith("headings.") and len(forms.other) > _LONGEST:
        raise _Wrong(f"{key}: has {len(forms.other)} characters, and a heading may have {_LONGEST}; shorten it")


def _those(fields: Iterable[str]) -> str:
    named = ", ".join(f"{{{field}}}" for field in sorted(fields))
    return f"its fields are {named}" if named else "it has none"


def _fields(key: str, text: str) -> set[str]:
    """The fields of a text. One that is more than a name could ask for anything, so it is refused."""
    try:
        parts = [(field, spec or conversion) for _, field, spec, conversion in Formatter().parse(text) if field is not None]
    except ValueError as error:
        raise _Wrong(f"{key}: {error}; a field is written {{name}}, a brace of its own {{{{ or }}}}") from error
    if odd := next((field for field, more in parts if more or not field.isidentifier()), None):
        raise _Wrong(f"{key}: no such field {{{odd}}} as it is written there; a field is written {{name}}")
    return {field for field, _ in parts}


ENGLISH = _read(FOLDER / "en.toml", None)
