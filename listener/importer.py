"""importer: somebody's ONNX classifier -> a folder like any other model's: fp32, int8, golden vectors, the gate's verdict, manifest.

look | wrap, compare with the original | quantise | judge | golden vectors | manifest

It never imports torch. What it found, assumed and measured is said, and what a reader of reports must know stands in the manifest's
limits. The folder is there whole or not at all.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from pydantic import ValidationError

from listener import trial
from listener.errors import VitalCheckError
from listener.material import Decoder
from models import foreign, golden, quantise, registry, wrapping
from models import manifest as manifests
from models.foreign import Looked, Told, Unusable
from models.manifest import Artifact, DataSource, Golden, Label, Manifest, Recipe
from models.runtime import Network, NetworkError, Session
from models.wrapping import Shown
from pipeline.records import Variant

STEPS = 0.02  # of the largest golden logit: five of the 256 steps that int8 has. A wrong kernel is off by far more
LEAST_TOLERANCE = 0.25  # logits; the bundled model's
UNKNOWN = DataSource(name="unknown data", licence="licence unknown", citation="unknown: say it with --learned-from")
LIMITS = (  # whole sentences; they stand in every Summary
    "It was imported from a file that others made: how often it is right on real heads is not known here.",
    "Slices are prepared for it as squares that keep their proportions, in the brightness of the whole series; what it learnt from may "
    "have looked otherwise.",
    "Its probabilities and the thresholds that make one finding of many slices are not calibrated on whole studies.",
)
OWN_TRUTH = "Its int8 was judged by how often it says what its fp32 says, not by what is true."
_OURS = ("name", "version", "labels", "absent", "recipe_id", "artifacts", "golden", "gate", "learned_from")  # no --recipe says these


class NotImported(VitalCheckError):
    """What was said of the model and what the file is do not make a model; the message says why."""


@dataclass(frozen=True)
class Order:
    """What the user wants, and says of the file."""

    file: Path
    name: str
    labels: tuple[Label, ...]
    absent: str = "notumor"
    version: str = "1.0.0"
    told: Told = field(default_factory=Told)
    shown: Shown = field(default_factory=Shown)
    said: dict[str, Any] = field(default_factory=dict)  # keys of a manifest: --recipe
    learned_from: tuple[DataSource, ...] = (UNKNOWN,)
    calibration: Path | None = None
    truth: Path | None = None
    method: quantise.Method = "percentile"
    seven_bits: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)


class Imported(NamedTuple):
    manifest: Manifest
    folder: Path
    remarks: tuple[str, ...]  # what was found, assumed and measured, in this order


def run(order: Order, into: Path, decoder: Decoder) -> Imported:
    """The model in `into`/<its name>, `into` made where it is missing. Raises NotImported, NoMaterial."""
    folder = into / order.name
    if folder.exists():
        raise NotImported(f"{folder}: is there already; give another --name or --into, or remove it")
    near = next(place for place in (into, *into.absolute().parents) if place.exists())  # on one file system a rename is all or nothing
    try:
        with tempfile.TemporaryDirectory(dir=near, prefix=f".{order.name}-") as hidden:
            part = Path(hidden) / order.name  # with the rights of any folder, which the hidden one has not
            part.mkdir()
            made, remarks = _made(order, part, decoder)
            into.mkdir(parents=True, exist_ok=True)
            part.rename(folder)
    except (Unusable, NetworkError) as error:
        raise NotImported(" ".join(str(error).split())) from error  # ONNX Runtime writes lines
    except OSError as error:
        raise NotImported(f"{into}: cannot be written to ({error.strerror or error}); give another --into") from error
    return Imported(made, folder, remarks)


def _made(order: Order, folder: Path, decoder: Decoder) -> tuple[Manifest, tuple[str, ...]]:
    looked = foreign.look(order.file, len(order.labels), _told(order))
    model, graph = _described(order, looked), Shown() if order.shown.alike else order.shown
    _write_fp32(folder / "model_fp32.onnx", looked, graph, model)
    sessions: dict[Variant, Session] = {"fp32": registry.session(model, folder / "model_fp32.onnx")}
    remarks = [*looked.remarks, _fed(order), _reads(order, model)]
    calibrating, judging = trial.divided(order.calibration, order.truth, order.names)
    verdict = None
    if calibrating:
        slices = trial.calibration(calibrating, model, decoder)
        remarks.append(_write_int8(folder, slices, order))
    else:
        remarks.append("There is no int8: its ranges are found with pictures like those it will read (--calibration). fp32 answers.")
    if (folder / "model_int8.onnx").exists():
        sessions["int8"] = registry.session(model, folder / "model_int8.onnx")
    if judging:
        judged = trial.judged(folder, model, sessions, judging, decoder)
        verdict, remarks = judged.verdict, [*remarks, *judged.remarks]
    model = _finished(model, folder, sessions, own_truth=order.truth is None)
    manifests.write(folder / "manifest.toml", model.model_copy(update={"gate": verdict}))
    return manifests.read(folder / "manifest.toml"), tuple(remarks)


def _told(order: Order) -> Told:
    """A size and channels that the recipe names need no option."""
    recipe = order.said.get("recipe", {})
    told = {key: getattr(order.told, key) or recipe.get(key) for key in ("size", "channels")}
    return order.told._replace(**told)


def _described(order: Order, looked: Looked) -> Manifest:
    """The manifest, without files. Raises NotImported."""
    recipe = _recipe(order, looked)
    if wrong := sorted(set(_OURS) & order.said.keys()):
        raise NotImported(f"--recipe: {', '.join(wrong)} cannot be said there; it holds [recipe], [rules], [rule], [words], limits ...")
    said = order.said | {"name": order.name, "version": order.version, "labels": order.labels, "absent": order.absent}
    try:
        model = Manifest.model_validate(said | {"recipe": recipe, "recipe_id": recipe.id, "learned_from": order.learned_from})
    except ValidationError as error:
        raise NotImported(_explained(error)) from error
    if problem := registry.problems(model, Path()).get("recipe"):
        raise NotImported(f"--recipe: {problem}")
    return model.model_copy(update={"limits": [*model.limits, *LIMITS]})


def _recipe(order: Order, looked: Looked) -> Recipe:
    said = dict(order.said.get("recipe", {}))
    if {"mean", "std"} & said.keys() and order.shown != Shown():
        raise NotImported("mean and std stand in --recipe and are given as --scale, --mean, --std too; leave one of them out")
    if wrong := {len(order.shown.mean), len(order.shown.std)} - {1, looked.taken.channels}:
        raise NotImported(f"--mean, --std: {wrong.pop()} numbers for {looked.taken.channels} channels; give one, or one for each channel")
    shown = order.shown if order.shown.alike else Shown()
    numbers = {"mean": shown.mean[0] / shown.scale, "std": shown.std[0] / shown.scale}  # of what a Recipe shows: 0 to 1
    try:
        return Recipe.model_validate(numbers | said | {"size": looked.taken.size, "channels": looked.taken.channels})
    except ValidationError as error:
        raise NotImported(f"recipe: {_explained(error)}") from error


def _explained(error: ValidationError) -> str:
    said = ((".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors())
    return "; ".join(f"{key}: {what}" if key else what for key, what in said)


def _reads(order: Order, model: Manifest) -> str:
    """Which series it may read, in words."""
    told = "as --recipe says" if {"modality", "sequence", "body_part"} & order.said.keys() else "assumed; --recipe says otherwise"
    return f"Reads: {' '.join(word for word in (model.sequence, model.modality, 'of the', model.body_part or 'body') if word)} ({told})."


def _fed(order: Order) -> str:
    """What the network is fed, in words."""
    if "windows" in order.said.get("recipe", {}):
        return "Fed: windows of Hounsfield units, as the recipe says."
    if order.shown == Shown() and not {"mean", "std"} & order.said.get("recipe", {}).keys():
        return "Fed: grey from 0 to 1, the same in every channel (assumed; --scale, --mean, --std say otherwise)."
    where = "the recipe's" if order.shown.alike else "in the graph, for each channel its own"
    return f"Fed: grey from 0 to {order.shown.scale:g}, less mean, divided by std ({where})."


def _write_fp32(path: Path, looked: Looked, shown: Shown, model: Manifest) -> None:
    """The wrapped file, compared with the original. Raises Unusable."""
    ours = wrapping.wrapped(looked, shown, model.label_names, model.recipe_id)
    batch = looked.taken.batch
    candidates = [ours] if batch is None else [ours, wrapping.freed(ours, batch)]
    for last, candidate in zip([False] * (len(candidates) - 1) + [True], candidates, strict=True):
        onnx.save(candidate, path)
        try:
            wrapping.check(path, looked, shown, len(model.labels))
        except Unusable:
            if last:
                raise
        else:
            return


def _write_int8(folder: Path, slices: list[Any], order: Order) -> str:
    """Writes int8 where that can be done; a sentence on what became of it."""
    count = sum(len(batch) for batch in slices)
    try:
        quantise.quantise(folder / "model_fp32.onnx", folder / "model_int8.onnx", slices, order.method, seven_bits=order.seven_bits)
    except quantise.NotQuantised as error:
        (folder / "model_int8.onnx").unlink(missing_ok=True)
        return f"There is no int8: {error}"
    return f"int8: its ranges are those of {count} slices ({order.method})."


def _finished(model: Manifest, folder: Path, sessions: dict[Variant, Session], *, own_truth: bool) -> Manifest:
    """With files, golden vectors, and a limit more where int8 was judged by fp32 alone."""
    files = {v: folder / f"model_{v}.onnx" for v in sessions}
    limits = [*model.limits, OWN_TRUTH] if own_truth and "int8" in sessions else model.limits
    return model.model_copy(
        update={
            "artifacts": {v: Artifact(file=p.name, sha256=manifests.sha256(p), bytes=p.stat().st_size) for v, p in files.items()},
            "golden": _golden(folder, model.recipe, sessions),
            "limits": limits,
        }
    )


def _golden(folder: Path, recipe: Recipe, sessions: dict[Variant, Session]) -> Golden:
    """What counts as the same answer hangs on how large this network's logits are."""
    largest = float(np.abs(sessions["fp32"].run(golden.inputs(recipe)).logits).max())
    networks: dict[str, Network] = dict(sessions.items())
    return golden.write(folder, recipe, networks, tolerance=round(max(LEAST_TOLERANCE, STEPS * largest), 3))
