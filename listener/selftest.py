"""selftest: are the installed models the ones that the gate saw, and does this CPU run them right?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from models import registry
from models.manifest import Manifest
from models.runtime import NetworkError, Session
from models.selector import GoldenVectors

OK, NOTE, WRONG = "ok", "note", "WRONG"
VARIANTS: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")


class Row(NamedTuple):
    """One line of `vitalcheck check` or `models verify`."""

    what: str
    verdict: str  # OK, NOTE (good to know) or WRONG
    detail: str


def examine(name: str, zoo: Path) -> list[Row]:
    """Files, golden vectors of both variants on this CPU, and the gate's verdict. Raises ModelRefused when it is not installed."""
    manifest, folder = registry.read(name, zoo), zoo / name
    wrong = registry.problems(manifest, folder)
    parts = (*VARIANTS, "golden") if manifest.golden else VARIANTS
    rows = [Row(f"{name} {part} file", WRONG if part in wrong else OK, wrong.get(part, "sha256 as in the manifest")) for part in parts]
    if manifest.golden and "golden" not in wrong:
        golden = registry.golden(manifest.golden, folder)
        rows += [_replay(name, variant, manifest, folder, golden) for variant in VARIANTS if variant not in wrong]
    return [*rows, _gate(name, manifest)]


def _replay(name: str, variant: Literal["fp32", "int8"], manifest: Manifest, folder: Path, golden: GoldenVectors) -> Row:
    try:
        missed = golden.missed_by(variant, Session(folder / manifest.artifacts[variant].file))
    except NetworkError as error:
        missed = str(error)
    return Row(f"{name} {variant} self-test", WRONG if missed else OK, missed or f"{len(golden.image)} golden vectors replayed")


def _gate(name: str, manifest: Manifest) -> Row:
    if manifest.approved:
        return Row(f"{name} gate", OK, "APPROVED exactly these files")
    gate = manifest.gate
    reasons = "; ".join(gate.reasons) if gate and gate.reasons else "its verdict is about other files" if gate else "not judged"
    return Row(f"{name} gate", NOTE, f"int8 is not served, fp32 answers: {reasons}")
