"""Documents name what there is: keys, commands, options, targets, files."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydicom.uid import UID

from listener.cli import app
from listener.config import Config, Destination, Peer, Worker, load
from listener.contexts import TRANSFER_SYNTAXES
from models.manifest import Artifact, Coded, DataSource, GateVerdict, Golden, Label, Manifest, read
from pipeline import vocabulary
from pipeline.language import ENGLISH
from pipeline.pixels.limits import Limits
from pipeline.syntaxes import READABLE, why_not
from scripts.model_card import card
from scripts.model_report import FOOTNOTE

ROOT = Path(__file__).parent.parent
LISTS: dict[str, type[BaseModel]] = {"listener.peers": Peer, "destinations": Destination}
DOCUMENTS = [ROOT / "README.md", ROOT / "CONFORMANCE.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDIES, MANIFEST = ROOT / "docs" / "studies.md", ROOT / "docs" / "manifest.md"
SILENT = {"claim", "display", "envelope", "extras", "infer", "language", "page", "picture", "places", "records"}  # these give no reasons
SILENT |= {"report", "run", "traits", "vocabulary", "wording"}
REASONS = ("reasons.", "syntaxes.", "kinds.", "weightings.", "remarks.")  # of the language: what ends as a reason or a remark of a study
ONLY_IN_SUMMARIES = {"reasons.there_is_none", "reasons.there_is_none_for", "reasons.repeated"}
REASONING = sorted(  # what these files say ends as an error of a study
    {str(path.relative_to(ROOT)) for path in (ROOT / "pipeline").rglob("*.py") if path.stem not in SILENT}
    | {f"listener/{name}.py" for name in ("eligibility", "headers", "isolation", "skim")}
)
UNSAID = ("the process that decodes pixels does not start", "the answer has another size than it says")  # there, but of the program itself
PARTS: dict[str, tuple[str, type[BaseModel]]] = {  # where the manifest holds one or several of a kind: how rows call them
    "labels": ("labels[].", Label),
    "artifacts": ("artifacts.fp32.", Artifact),
    "golden": ("golden.", Golden),
    "gate": ("gate.", GateVerdict),
    "learned_from": ("learned_from[].", DataSource),
}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, field) of every key that a file may hold."""
    for name, field in model.model_fields.items():
        key, kind = prefix + name, field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{key}.")
            continue
        yield key, field
        if key in LISTS:
            yield from keys(LISTS[key], f"{key}[].")


def toml(value: Any) -> str:
    """A default as the documents write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, Path)):
        return f'"{value}"'
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(toml, value))}]"
    return str(value)


def commands(group: Any, path: str = "vitalcheck") -> Iterator[tuple[str, Any]]:
    """(words, command) of everything that can be run."""
    for name, command in group.commands.items():
        below = getattr(command, "commands", {})
        if not below or command.invoke_without_command:
            yield f"{path} {name}", command
        if below:
            yield from commands(command, f"{path} {name}")


def manifest_keys(model: type[BaseModel] = Manifest, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of every key that a manifest may hold."""
    for name, field in model.model_fields.items():
        if not prefix and name in PARTS:
            path, part = PARTS[name]
            yield from manifest_keys(part, path)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and field.annotation is not Coded:
            yield from manifest_keys(field.annotation, f"{prefix}{name}.")
        elif field.annotation is Coded:
            yield from ((f"{prefix}{name}.{key}", FieldInfo(default=value)) for key, value in field.default)
        else:
            yield prefix + name, field


def sentences(path: Path) -> Iterator[str]:
    """Every text of two words or more in a Python file that is no docstring, as a pattern: what is filled in may be anything."""
    tree = ast.parse(path.read_text())
    passed = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node}
    passed |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if node in passed or not isinstance(node, (ast.JoinedStr, ast.Constant)):
            continue
        parts = [part.value if isinstance(part, ast.Constant) else None for part in getattr(node, "values", [node])]
        said = "".join(part for part in parts if isinstance(part, str))
        if len(re.findall("[a-z]{2,}", said)) > 1 and " " in said:
            yield "".join(".{0,200}?" if part is None else re.escape(str(part)) for part in parts)


def reasons() -> Iterator[str]:
    """Every reason and remark of two words or more, likewise."""
    for key, forms in ENGLISH.sentences.items():
        if key.startswith(REASONS) and key not in ONLY_IN_SUMMARIES and len(re.findall("[a-z]{2,}", re.sub("{.+?}", "", forms.other))) > 1:
            yield ".{0,200}?".join(map(re.escape, re.split(r"\{\w+\}", forms.other)))


def words_of(path: Path) -> str:
    """A document as one line without the marks of code."""
    return " ".join(path.read_text().replace("`", "").split())


def targets() -> set[str]:
    """The targets of the Makefile that explain themselves."""
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))


def test_every_configuration_key_is_documented_with_its_default() -> None:
    """docs/configuration.md has one row for every key, with the default that is in force, and no row for a key that is not."""
    rows = dict(re.findall(r"^\| `([\w.\[\]]+)` \| (.*?) \|", (ROOT / "docs" / "configuration.md").read_text(), re.M))
    known = dict(keys(Config))
    assert rows.keys() == known.keys()
    for key, field in known.items():
        if not field.is_required() and field.default is not None:
            assert rows[key] == f"`{toml(field.default)}`", key


def test_shipped_configuration_names_every_key_that_is_built() -> None:
    """deploy/vitalcheck.toml shows every key, but for those whose feature would refuse to start."""
    text = (ROOT / "deploy" / "vitalcheck.toml").read_text()
    not_built = ("state.database", "state.max_age_days")
    shown = set(re.findall(r"^(?:# )?(\w+) = ", text, re.M)) | {"peers", "destinations"}
    assert {key.rpartition(".")[2] for key, _ in keys(Config) if not key.startswith(not_built)} <= shown
    assert tomllib.loads(text)


def test_every_command_and_option_is_documented() -> None:
    """docs/commands.md has a row for every command, and the row names each of its options."""
    rows = re.findall(r"^\| `(vitalcheck [^`]+)`", (ROOT / "docs" / "commands.md").read_text(), re.M)
    for words, command in commands(typer.main.get_command(app)):
        options = [option.opts[-1] for option in command.params if option.opts[-1].startswith("--")]
        row = next((row for row in rows if re.match(rf"{words}(?! [a-z])", row)), None)
        assert row, f"{words} has no row"
        assert not [option for option in options if option not in row], words


def test_every_make_target_is_documented() -> None:
    """docs/commands.md has a row for every target that `make help` shows."""
    documented = set(re.findall(r"^\| `make ([a-z-]+)", (ROOT / "docs" / "commands.md").read_text(), re.M))
    assert documented == targets() - {"help"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_what_exists(document: Path) -> None:
    """Targets, commands and linked files that a document names exist."""
    text = document.read_text()
    assert set(re.findall(r"(?:`|^\s*\$? *)make ([a-z][a-z-]*)", text, re.M)) <= targets()
    words = {command for command, _ in commands(typer.main.get_command(app))}
    for found in re.findall(r"`vitalcheck ([a-z]+)", text):
        assert any(command.split()[1] == found for command in words), found
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (document.parent / link).exists()] == []


def test_configurations_in_documents_load(tmp_path: Path) -> None:
    """Every TOML block that a document shows is a configuration that loads."""
    blocks = [
        (document, block) for document in DOCUMENTS for block in re.findall(r"^```toml\n(.*?)^```", document.read_text(), re.M | re.S)
    ]
    for document, block in blocks:
        path = tmp_path / f"{document.stem}.toml"
        path.write_text(block)
        assert load(path).listener.peers
    assert blocks


@pytest.mark.parametrize("path", REASONING)
def test_every_error_is_explained(path: str) -> None:
    """Whatever these files say of a study, docs/studies.md shows it."""
    text = words_of(STUDIES)
    wanting = [
        said for said in sentences(ROOT / path) if not re.search(said.strip(), text) and not said.startswith(tuple(map(re.escape, UNSAID)))
    ]
    assert wanting == []


def test_every_reason_is_explained() -> None:
    """docs/studies.md shows every reason and every remark that a study may get."""
    text = words_of(STUDIES)
    assert [said for said in reasons() if not re.search(said.strip(), text)] == []


def test_reasons_are_found() -> None:
    """The tests above look at something: at sentences with what is filled in, and at those without."""
    found, errors = list(reasons()), list(sentences(ROOT / "pipeline" / "pixels" / "layout.py"))
    assert re.escape("its modality is missing") in found and re.escape("it holds no pixel data") in errors
    assert any(re.fullmatch(said, "pixels of 6.0 mm, coarser than 5.0 mm") for said in found)
    assert any(re.fullmatch(said, "its pixels take 1 bits each (BitsAllocated), and 8, 16 or 32 can be read") for said in errors)


def test_every_kind_and_weighting_is_named() -> None:
    """docs/studies.md names every kind of picture and every weighting that a reason may name."""
    text = words_of(STUDIES)
    kinds = {kind for table in (vocabulary._KINDS, vocabulary._KINDS_OF_DERIVED) for kind, _ in table} | set(vocabulary._TYPES)
    weightings = {name for table in (vocabulary._CONTRARY, vocabulary._OTHER, vocabulary._SEQUENCE_NAMES) for name, _ in table}
    weightings |= {*vocabulary._CONTRASTS.values(), vocabulary.ECHO_PLANAR, vocabulary.OTHER}
    assert [word for word in (*kinds, *map(vocabulary.told, weightings)) if word not in text] == []


def test_every_transfer_syntax_that_is_read_stands_in_the_table() -> None:
    """docs/studies.md lists exactly the transfer syntaxes whose pixels are read, by the standard's names; of the others it says why not."""
    rows = dict(re.findall(r"^\| `([\d.]+)` \| (.+?) \|$", STUDIES.read_text(), re.M))
    assert rows == {syntax: UID(syntax).name for syntax in READABLE}
    reasons = {why_not(syntax) for syntax in TRANSFER_SYNTAXES} - {None}
    assert reasons and all(str(reason) in words_of(STUDIES) for reason in reasons)


def test_every_limit_stands_in_the_table() -> None:
    """docs/studies.md gives each limit with the number that is in force."""
    rows = dict(re.findall(r"^\| `([\w.]+)` \| ([\d.]+) \|", STUDIES.read_text(), re.M))
    known = {field.name: field.default for field in fields(Limits)}
    known |= {f"worker.{name}": field.default for name, field in Worker.model_fields.items() if name.startswith("decode_")}
    known |= {"state.min_free_bytes": Config().state.min_free_bytes}
    assert rows == {name: str(value) for name, value in known.items()}


def test_every_key_of_the_manifest_is_documented_with_its_default() -> None:
    """docs/manifest.md has one row for every key of a manifest, with its default, and no row for a key that is not."""
    rows = re.findall(r"^\| `([\w.\[\]]+)`(?:, `[\w.\[\]]+`)? \| (.*?) \|", MANIFEST.read_text(), re.M)
    known = dict(manifest_keys())
    assert [key for key, _ in rows] and {key for key, _ in rows} == known.keys() and len(rows) == len(known)
    for key, said in rows:
        field = known[key]
        default = field.get_default(call_default_factory=True)
        assert said == ("required" if field.is_required() else f"`{toml(default)}`"), key


def test_links_into_documents_lead_to_headings() -> None:
    """A link to a part of a document names one of its headings."""
    for document in DOCUMENTS:
        for file, anchor in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", document.read_text()):
            target = document.parent / file if file else document
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}, (document, anchor)


def test_card_and_report_are_what_the_scripts_print() -> None:
    """The bundled model's card is the one that its manifest gives, and its report says which choice was made on its slices."""
    folder = ROOT / "models" / "zoo" / "brain_tumor_4class"
    assert (folder / "CARD.md").read_text() == card(read(folder / "manifest.toml"))
    assert FOOTNOTE in (ROOT / "docs" / "model-report.md").read_text()
