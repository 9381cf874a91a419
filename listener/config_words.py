"""config_words: what is said when a configuration is refused: where, what is wrong, how to mend it. One line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError

PREFIX = "VITALCHECK_"
SECRET = ("http.token", "state.database")  # never repeated: a token, an address with a password in it
Location = tuple[int | str, ...]  # as pydantic gives it: ("listener", "peers", 0, "host")


def explained(error: ValidationError, root: type[BaseModel], path: Path | None, sources: Mapping[str, str]) -> str:
    """The first thing wrong; a key that is not known before a key that is missing, for it may be that one misspelt."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    more = error.error_count() - 1
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    where, tail = place(key, path, sources), f" ({more} more after this one)" if more else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: no such key; {_nearest_key(root, first['loc'])}{tail}"
    if first["type"] == "missing":
        entry = place(key.rpartition(".")[0], path, sources)
        return f"{entry}.{first['loc'][-1]}: missing; every entry needs it{tail}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
    given = "" if key in SECRET else f" is {first['input']!r}"
    return f"{where}{given}: {message}{_default(root, first['loc'])}{tail}"


def place(key: str, path: Path | None, sources: Mapping[str, str]) -> str:
    """Where `key` was set: in the file, or as which variable. One of the entries of a list may go without its number."""
    told = [k for k, source in sources.items() if source == "environment"]
    if any((k + ".").startswith((f"{key}.", f"{key}[")) or re.sub(r"\[\d+\]", "", k) == key for k in told):
        variable, _, entry = key.partition("[")  # a list is one variable
        return f"environment: {PREFIX}{variable.upper().replace('.', '__')}" + (f": [{entry}" if entry else "")
    return f"{path or 'configuration'}: {key}"


def known(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of every key below `model`, lists of tables by their own name."""
    names = []
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        names += known(section, f"{prefix}{name}.") if section and not get_args(field.annotation) else [prefix + name]
    return names


def nearest(wrong: str, candidates: list[str]) -> str:
    """Names the candidates whose last part is most like `wrong`; all of them where none is."""
    lasts = [name.rpartition(".")[2] for name in candidates]
    near = difflib.get_close_matches(wrong, lasts, 1, cutoff=0.5)
    if not near:
        return f"known here: {', '.join(candidates)}"
    return f"did you mean {' or '.join(name for name, last in zip(candidates, lasts, strict=True) if last == near[0])}?"


def _nearest_key(root: type[BaseModel], loc: Location) -> str:
    """Of the same section where `loc` is in one."""
    section = ".".join(str(part) for part in loc[:-1] if isinstance(part, str))
    here = [f"{section}.{name}" for name in _model_at(root, loc[:-1]).model_fields]
    return nearest(str(loc[-1]), here if section else [*root.model_fields, *known(root)])


def _model_at(root: type[BaseModel], loc: Location) -> type[BaseModel]:
    """The section that `loc` points at."""
    model = root
    for part in loc:
        if isinstance(part, str):
            model = _section(model.model_fields[part].annotation) or model
    return model


def _section(annotation: object) -> type[BaseModel] | None:
    """The model of a table, or of the entries of a list of tables."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _default(root: type[BaseModel], loc: Location) -> str:
    field = _model_at(root, loc[:-1]).model_fields.get(str(loc[-1])) if loc else None
    if field is None or field.is_required() or isinstance(field.default, BaseModel):
        return ""
    return f"; leave it out for the default {field.default!r}" if field.default is not None else "; or leave it out"
