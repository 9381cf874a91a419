"""selftest: are the models the ones that the gate saw, do they fit their manifests, and does this CPU run them right?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from models import registry
from models.manifest import Manifest
from models.runtime import NetworkError
from models.selector import GoldenVectors

OK, NOTE, WRONG = "ok", "note", "WRONG"
Variant = Literal["fp32", "int8"]
VARIANTS: tuple[Variant, ...] = ("fp32", "int8")


class Row(NamedTuple):
    """One line of `vitalcheck check` or `models verify`."""

    what: str
    verdict: str  # OK, NOTE (good to know) or WRONG
    detail: str


def examine(entry: str, zoo: Path) -> list[Row]:
    """Recipe, files, golden vectors of both variants on this CPU, and the gate's verdict. Raises ModelRefused when it is not there."""
    manifest, folder = registry.read(entry, zoo), registry.folder(entry, zoo)
    wrong = registry.problems(manifest, folder)
    golden = registry.golden(manifest.golden, folder) if manifest.golden and "golden" not in wrong else None
    rows = [_recipe(manifest, wrong), *_files(manifest, wrong)]
    rows += [_replay(manifest, variant, folder, golden) for variant in VARIANTS if variant in manifest.artifacts and variant not in wrong]
    return [*rows, _gate(manifest)]


def _recipe(manifest: Manifest, wrong: dict[str, str]) -> Row:
    said = f"{manifest.recipe.id}, the one that its files were trained with"
    return Row(f"{manifest.name} recipe", WRONG if "recipe" in wrong else OK, wrong.get("recipe", said))


def _files(manifest: Manifest, wrong: dict[str, str]) -> list[Row]:
    """fp32 there must be; without int8 and golden vectors a model answers all the same."""
    there = {"fp32", *manifest.artifacts} | ({"golden"} if manifest.golden else set())
    parts = [part for part in (*VARIANTS, "golden") if part in there]
    return [Row(f"{manifest.name} {p} file", WRONG if p in wrong else OK, wrong.get(p, "sha256 as in the manifest")) for p in parts]


def _replay(manifest: Manifest, variant: Variant, folder: Path, golden: GoldenVectors | None) -> Row:
    """A file that runs but has nothing to replay is worth a note: nobody knows whether this CPU runs it right."""
    what = f"{manifest.name} {variant} self-test"
    try:
        session = registry.session(manifest, folder / manifest.artifacts[variant].file)
    except NetworkError as error:
        return Row(what, WRONG, str(error))
    if golden is None or variant not in golden.logits:
        return Row(what, NOTE, "fits its manifest; there are no golden vectors to prove it on this CPU")
    missed = golden.missed_by(variant, session)
    return Row(what, WRONG if missed else OK, missed or f"{len(golden.image)} golden vectors replayed")


def _gate(manifest: Manifest) -> Row:
    what, gate = f"{manifest.name} gate", manifest.gate
    if manifest.approved:
        return Row(what, OK, "APPROVED exactly these files")
    if "int8" not in manifest.artifacts:
        return Row(what, NOTE, "there is no int8 to judge; fp32 answers")
    reasons = "; ".join(gate.reasons) if gate and gate.reasons else "its verdict is about other files" if gate else "not judged"
    return Row(what, NOTE, f"int8 is not served, fp32 answers: {reasons}")
