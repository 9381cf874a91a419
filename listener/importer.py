"""importer: somebody's ONNX classifier -> a folder like any other model's: fp32, int8, golden vectors, the gate's verdict, manifest.

look | wrap, compare with the original | quantise | judge | golden vectors | manifest

It never imports torch. What it found, assumed and measured is said, and what a reader of reports must know stands in the manifest's
limits. The folder is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from pydantic import ValidationError

from listener import trial
from listener.errors import VitalCheckError
from listener.material import Decoder
from models import foreign, golden, quantise, registry, wrapping
from models import manifest as manifests
from models.foreign import Looked, Shown, Told, Unusable
from models.manifest import Artifact, DataSource, GateVerdict, Label, Manifest, Recipe
from models.runtime import Floats, Network, NetworkError, Session
from pipeline.records import Variant

UNKNOWN = DataSource(name="unknown data", licence="licence unknown", citation="unknown: say it with --learned-from")
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
    with _writing(into):
        hidden = tempfile.TemporaryDirectory(dir=near, prefix=f".{order.name}-")
    with hidden as place:
        part = Path(place) / order.name  # with the rights of any folder, which the hidden one has not
        made, remarks = _filled(order, part, decoder)
        with _writing(into):
            into.mkdir(parents=True, exist_ok=True)
            part.rename(folder)
    return Imported(made, folder, remarks)


@contextlib.contextmanager
def _writing(into: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotImported(f"{into}: cannot be written to ({error.strerror or error}); give another --into") from error


def _filled(order: Order, folder: Path, decoder: Decoder) -> tuple[Manifest, tuple[str, ...]]:
    """`folder` with all that a model has. Raises NotImported, NoMaterial."""
    try:
        folder.mkdir()
        return _made(order, folder, decoder)
    except (Unusable, NetworkError) as error:
        raise NotImported(" ".join(str(error).split())) from error  # ONNX Runtime writes lines
    except MemoryError as error:
        raise NotImported(f"{order.file}: memory does not suffice to import it; free some, or import it on a larger machine") from error
    except OSError as error:  # of a disk that is full, say
        raise NotImported(
            f"{error.filename or folder}: {error.strerror or error}; nothing was kept: mend that, and import again"
        ) from error


def _made(order: Order, folder: Path, decoder: Decoder) -> tuple[Manifest, tuple[str, ...]]:
    looked = foreign.look(order.file, len(order.labels), _told(order), _shown(order))
    model, graph = _described(order, looked), Shown() if order.shown.alike else order.shown
    _write_fp32(folder / "model_fp32.onnx", looked, graph, model)
    sessions: dict[Variant, Session] = {"fp32": registry.session(model, folder / "model_fp32.onnx")}
    near = golden.tolerance(sessions["fp32"], model.recipe)
    remarks = [*looked.remarks, _fed(order), _reads(order, model)]
    calibrating, judging = trial.divided(order.calibration, order.truth, order.names)
    verdict = None
    if calibrating:
        int8, said = _int8(folder, trial.calibration(calibrating, model, decoder), order, model)
        remarks.append(said)
        sessions |= {"int8": int8} if int8 else {}
    else:
        remarks.append("There is no int8: its ranges are found with pictures like those it will read (--calibration). fp32 answers.")
    if judging:
        judged = trial.judged(folder, model, sessions, judging, decoder, near)
        verdict, remarks = judged.verdict, [*remarks, *judged.remarks]
    limits = [*model.limits, *_limits(order, model, verdict, map_decides=looked.given.map is not None)]
    model = _finished(model.model_copy(update={"gate": verdict, "limits": limits}), folder, sessions, near)
    manifests.write(folder / "manifest.toml", model)
    return manifests.read(folder / "manifest.toml"), tuple(remarks)


def _limits(order: Order, model: Manifest, verdict: GateVerdict | None, *, map_decides: bool) -> Iterator[str]:
    """Whole sentences; they stand in every Summary."""
    yield "It was imported from a file that others made: how often it is right on real patients is not known here."
    how = "through its windows of Hounsfield units" if model.recipe.windows else "in the brightness of the whole series"
    yield f"Slices are prepared for it as squares that keep their proportions, {how}; what it learnt from may have looked otherwise."
    if _assumed(order):
        yield "What numbers it is fed was assumed, for nobody told: fed others than it learnt with, it gives wrong answers."
    yield "Its probabilities and the thresholds that make one finding of many slices are not calibrated on whole studies."
    if map_decides and verdict:
        yield "Its findings are made of its map, not of the answers for whole slices that its variants were compared by."
    if verdict and verdict.verdict == "APPROVED" and order.truth is None:
        yield "Its int8 was judged by how often it says what its fp32 says, not by what is true."


def _said_recipe(order: Order) -> Recipe:
    """What --recipe says of it, the rest as usual. Raises NotImported."""
    said = {key: value for key, value in order.said.get("recipe", {}).items() if key != "windows"}  # as many as the file has channels
    try:
        return Recipe.model_validate({"mean": 0.0, "std": 1.0} | said)
    except ValidationError as error:
        raise NotImported(f"--recipe: recipe: {explained(error)}") from error


def _told(order: Order) -> Told:
    """A size and channels that the recipe names need no option. Raises NotImported."""
    recipe, said = _said_recipe(order), order.said.get("recipe", {})
    told = {key: getattr(order.told, key) or (getattr(recipe, key) if key in said else None) for key in ("size", "channels")}
    return order.told._replace(**told)


def _shown(order: Order) -> Shown:
    """What it is fed, by the options or by the recipe. Raises NotImported."""
    recipe = _said_recipe(order)
    return order.shown if order.shown != Shown() else Shown(1.0, (recipe.mean,), (recipe.std,))


def _described(order: Order, looked: Looked) -> Manifest:
    """The manifest, without files. Raises NotImported."""
    recipe = _recipe(order, looked)
    if wrong := sorted(set(_OURS) & order.said.keys()):
        raise NotImported(f"--recipe: {', '.join(wrong)} cannot be said there; it holds [recipe], [rules], [rule], [words], limits ...")
    said = order.said | {"name": order.name, "version": order.version, "labels": order.labels, "absent": order.absent}
    try:
        model = Manifest.model_validate(said | {"recipe": recipe, "recipe_id": recipe.id, "learned_from": order.learned_from})
    except ValidationError as error:
        raise NotImported(explained(error)) from error
    if problem := registry.problems(model, Path()).get("recipe"):
        raise NotImported(f"--recipe: {problem}")
    return model


def _recipe(order: Order, looked: Looked) -> Recipe:
    said = dict(order.said.get("recipe", {}))
    if {"mean", "std"} & said.keys() and order.shown != Shown():
        raise NotImported("mean and std stand in --recipe and are given as --scale, --mean, --std too; leave one of them out")
    shown = order.shown if order.shown.alike else Shown()
    numbers = {"mean": shown.mean[0] / shown.scale, "std": shown.std[0] / shown.scale}  # of what a Recipe shows: 0 to 1
    try:
        return Recipe.model_validate(numbers | said | {"size": looked.taken.size, "channels": looked.taken.channels})
    except ValidationError as error:
        raise NotImported(f"recipe: {explained(error)}") from error


def explained(error: ValidationError) -> str:
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
    if _assumed(order):
        return "Fed: grey from 0 to 1, the same in every channel (assumed; --scale, --mean, --std say otherwise)."
    where = "the recipe's" if order.shown.alike else "in the graph, for each channel its own"
    return f"Fed: grey from 0 to {order.shown.scale:g}, less mean, divided by std ({where})."


def _assumed(order: Order) -> bool:
    """Whether nobody says what it is fed."""
    return order.shown == Shown() and not {"mean", "std", "windows"} & order.said.get("recipe", {}).keys()


def _write_fp32(path: Path, looked: Looked, shown: Shown, model: Manifest) -> None:
    """The wrapped file, compared with the original. Raises Unusable."""
    ours = wrapping.wrapped(looked, shown, model.label_names, model.recipe_id)
    batch = looked.taken.batch
    candidates = [ours] if batch is None else [ours, wrapping.freed(ours, batch)]
    for last, candidate in zip([False] * (len(candidates) - 1) + [True], candidates, strict=True):
        onnx.save(candidate, path)
        try:
            wrapping.check(path, looked, shown, len(model.labels), model.recipe)
        except Unusable:
            if last:
                raise
        else:
            return


def _int8(folder: Path, slices: list[Floats], order: Order, model: Manifest) -> tuple[Session | None, str]:
    """int8 where it can be made and opened; and a sentence on what became of it."""
    path, count = folder / "model_int8.onnx", sum(len(batch) for batch in slices)
    try:
        quantise.quantise(folder / "model_fp32.onnx", path, slices, order.method, seven_bits=order.seven_bits)
        return registry.session(model, path), f"int8: its ranges are those of {count} slices ({order.method})."
    except (quantise.NotQuantised, NetworkError) as error:
        path.unlink(missing_ok=True)
        return None, f"There is no int8: {' '.join(str(error).split())}"


def _finished(model: Manifest, folder: Path, sessions: dict[Variant, Session], near: float) -> Manifest:
    """With files and golden vectors."""
    files = {v: folder / f"model_{v}.onnx" for v in sessions}
    networks: dict[str, Network] = dict(sessions.items())
    return model.model_copy(
        update={
            "artifacts": {v: Artifact(file=p.name, sha256=manifests.sha256(p), bytes=p.stat().st_size) for v, p in files.items()},
            "golden": golden.write(folder, model.recipe, networks, tolerance=near),
        }
    )
