"""Weights come in here and nowhere else: a folder -> a Model whose bytes are those that its manifest names, and the gate saw.

A folder holds manifest.toml beside ONNX files. It lies in the zoo and has a name there, or anywhere and is named by its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from models import manifest as manifests
from models.manifest import Artifact, Golden, Manifest, ManifestError
from models.runtime import Session
from models.selector import AdaptiveModelSelector, GoldenVectors, NoVariant

ZOO = Path(__file__).parent / "zoo"
Wanted = Literal["auto", "int8", "fp32"]


class ModelRefused(Exception):
    """A model that must not answer; one line says which, why, and how to mend it."""


@dataclass(frozen=True)
class Model:
    """What the pipeline needs of a model."""

    manifest: Manifest
    selector: AdaptiveModelSelector
    folder: Path
    shadow_rate: float = 0.1  # of whole studies


def names(zoo: Path = ZOO) -> list[str]:
    """The models that are installed."""
    return sorted(path.parent.name for path in zoo.glob("*/manifest.toml"))


def folder(entry: str, zoo: Path = ZOO) -> Path:
    """Where a model lies: with a slash `entry` is the path of its folder, else a name of the zoo. Raises ModelRefused."""
    if "/" in entry:
        return Path(entry).expanduser()
    if entry not in names(zoo):
        known = ", ".join(names(zoo)) or "none"
        raise ModelRefused(f"model {entry!r} is not installed; installed: {known}; a folder elsewhere is named with a slash (./{entry})")
    return zoo / entry


def read(entry: str, zoo: Path = ZOO) -> Manifest:
    """The manifest of a model, by name or path. Raises ModelRefused."""
    try:
        return manifests.read(folder(entry, zoo) / "manifest.toml")
    except ManifestError as error:
        raise ModelRefused(str(error)) from error


def load_all(
    entries: Sequence[str], *, variant: Wanted = "auto", threads: int = 2, shadow_rate: float = 0.1, zoo: Path = ZOO
) -> tuple[Model, ...]:
    """Every model of `entries`, by name or path, in this order. Raises ModelRefused where one is refused or two have one name."""
    refuse_same_names(entries, zoo)
    return tuple(load(entry, variant=variant, threads=threads, shadow_rate=shadow_rate, zoo=zoo) for entry in entries)


def refuse_same_names(entries: Sequence[str], zoo: Path = ZOO) -> None:
    """Raises ModelRefused where two of `entries` have one name in their manifests, or one cannot be read."""
    found = [read(entry, zoo).name for entry in entries]
    for name in found:
        if found.count(name) > 1:
            raise ModelRefused(f"two models are called {name}, so that no report could say which one answered; give one another name")


def load(entry: str, *, variant: Wanted = "auto", threads: int = 2, shadow_rate: float = 0.1, zoo: Path = ZOO) -> Model:
    """The model, by name or path, ready to answer.

    Raises ModelRefused when its bytes are not those of the manifest, its recipe is not the one it was trained with, or nothing can run.
    int8 is offered to the selector only when the gate approved exactly these files; fp32 serves without it.
    """
    manifest, place = read(entry, zoo), folder(entry, zoo)
    wrong = problems(manifest, place)
    for part in ("recipe", "fp32"):
        if part in wrong:
            raise ModelRefused(f"model {manifest.name}: {wrong[part]}")
    offered = manifest.approved and not {"int8", "golden"} & wrong.keys()
    selector = AdaptiveModelSelector(
        place / manifest.artifacts["int8"].file if offered else None,
        place / manifest.artifacts["fp32"].file,
        golden=golden(manifest.golden, place) if manifest.golden and "golden" not in wrong else None,
        loader=partial(session, manifest, threads=threads),
        name=manifest.name,
    )
    try:
        selector.initialize(prefer_quantized=variant != "fp32", race=variant == "auto")
    except NoVariant as error:
        raise ModelRefused(f"model {manifest.name}: {error}") from error
    return Model(manifest, selector, place, shadow_rate)


def session(manifest: Manifest, path: Path, threads: int = 2) -> Session:
    """An ONNX file of a model, opened, and what it takes and gives compared with the manifest. Raises NetworkError."""
    opened = Session(path, threads)
    recipe = manifest.recipe
    opened.check(recipe.channels, recipe.size, len(manifest.labels), recipe.id)
    return opened


def problems(manifest: Manifest, place: Path) -> dict[str, str]:
    """What is wrong with a model, by part: its recipe, and each of its files that is missing or has another sha256 than the manifest's.

    Without int8 and without golden vectors a model is whole: fp32 answers.
    """
    files = {"fp32": manifest.artifacts.get("fp32"), "int8": manifest.artifacts.get("int8"), "golden": manifest.golden}
    found = {"recipe": _recipe_problem(manifest)}
    found |= {part: _file_problem(entry, place) for part, entry in files.items() if entry or part == "fp32"}
    return {part: problem for part, problem in found.items() if problem}


def _recipe_problem(manifest: Manifest) -> str | None:
    recipe, trained = manifest.recipe, manifest.recipe_id
    if (manifest.modality == "CT") != bool(recipe.windows):
        if recipe.windows:
            return f"recipe.windows are in Hounsfield units, which {manifest.modality} does not have; leave them out"
        return "CT is read through windows of Hounsfield units; give recipe.windows, one [level, width] for each channel"
    if not trained:
        return (
            f'manifest.toml does not say which recipe its files were trained with; if the one that stands there: recipe_id = "{recipe.id}"'
        )
    if trained != recipe.id:
        return f"its recipe was changed after training (it is {recipe.id} now, trained was {trained}); put its numbers back, or train again"
    return None


def _file_problem(entry: Artifact | Golden | None, place: Path) -> str | None:
    if entry is None:
        return "manifest.toml names no fp32 file; add [artifacts.fp32] with file, sha256 and bytes"
    path = place / entry.file
    if not path.is_file():
        return f"{path} is missing; put the file of the release back, or train again"
    if manifests.sha256(path) != entry.sha256:
        return f"{path} has another sha256 than the manifest says; put the file of the release back, or train again"
    return None


def golden(entry: Golden, place: Path) -> GoldenVectors:
    """The golden vectors of a model."""
    with np.load(place / entry.file) as arrays:
        variants: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")
        return GoldenVectors(arrays["image"], {v: arrays[v] for v in variants if v in arrays}, entry.tolerance)
