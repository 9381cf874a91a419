"""`vitalcheck models import`: any ONNX classifier becomes a folder that this node serves."""

from __future__ import annotations

import importlib.util
import math
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from listener import config as configuration
from listener import console
from listener.cli_input import DEFAULT_MODEL, quiet
from listener.errors import VitalCheckError

if TYPE_CHECKING:
    from listener.importer import Imported, Order
    from models.manifest import DataSource, Label

FileArgument = Annotated[Path, typer.Argument(metavar="FILE.onnx", exists=True, dir_okay=False, help="The classifier.")]
NameOption = Annotated[str, typer.Option(metavar="NAME", help="What logs, metrics and reports call it; its folder is called so too.")]
LabelsOption = Annotated[str, typer.Option(metavar="NAME,NAME,...", help="What its outputs mean, in their order.")]
AbsentOption = Annotated[str, typer.Option(metavar="NAME", help="Which of the labels means none of the others.")]
CodeOption = Annotated[
    list[str],
    typer.Option(
        "--label",
        metavar="NAME=CODE:SCHEME:MEANING",
        help="The code of a label that the bundled model does not have, for reports are coded. Once for each such label.",
    ),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="What the manifest shall say besides (docs/manifest.md): modality, sequence, body_part, [recipe] with windows for CT, "
        "[rules], [words]. Without it: T1-weighted MR of the head, brain tumours.",
    ),
]
ScaleOption = Annotated[float, typer.Option(min=1e-3, help="What it learnt that white is: 1, or 255. --mean and --std are in this unit.")]
MeanOption = Annotated[str, typer.Option(metavar="NUMBERS", help="Taken off: one number, or one for each channel (0.485,0.456,0.406).")]
StdOption = Annotated[str, typer.Option(metavar="NUMBERS", help="Divides what is left: one number, or one for each channel.")]
LayoutOption = Annotated[
    Literal["nchw", "nhwc"] | None, typer.Option(help="Whether channels come first or last, where the shape of its input leaves it open.")
]
SizeOption = Annotated[int | None, typer.Option(min=16, max=1024, help="Pixels of its square input, where the file leaves it open.")]
ChannelsOption = Annotated[int | None, typer.Option(min=1, max=16, help="Channels of its input, where the file leaves it open.")]
GivesOption = Annotated[
    Literal["logits", "softmax"] | None,
    typer.Option(help="What its output holds. Found out without it; with it, a file that differs is refused."),
]
OutputOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The output with a number for each label, where several could be it.")
]
MapOption = Annotated[
    str | None,
    typer.Option("--map", metavar="NAME", help="The output with a number for each label and cell. It says where, and decides the finding."),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        exists=True,
        help="DICOM studies and pictures like those it will read, not only easy ones: 200 of their slices make int8. Without --truth "
        "every other study or picture judges instead. Without this option there is no int8, and fp32 answers.",
    ),
]
TruthOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER|FILE.csv",
        exists=True,
        help="What judges int8, 20 studies or pictures at least: a folder for each label, or a CSV (file,label). Without it what fp32 says "
        "counts as true.",
    ),
]
MethodOption = Annotated[
    Literal["minmax", "percentile", "entropy"],
    typer.Option(help="How the ranges of int8 are found. Try another one where int8 is REJECTED."),
]
SevenBitsOption = Annotated[
    bool, typer.Option("--seven-bits", help="Weights of 7 bits, for x86 without VNNI, whose products of 8 bits overflow.")
]
SourceOption = Annotated[
    list[str], typer.Option(metavar="NAME|LICENCE|CITATION", help="A data set that it learnt from, once for each; reports name them.")
]
VersionOption = Annotated[str, typer.Option(metavar="VERSION", help="Its version, as reports say it.")]
IntoOption = Annotated[Path, typer.Option(metavar="FOLDER", help="Where its own folder is made.")]


class NeedsMore(VitalCheckError):
    def __init__(self) -> None:
        super().__init__("`vitalcheck models import` needs onnx; pip install 'vitalcheck[import]' brings it")


class NoOrder(VitalCheckError):
    """An option that cannot be read."""

    exit_code = 2


def import_(
    file: FileArgument,
    name: NameOption,
    labels: LabelsOption,
    absent: AbsentOption = "notumor",
    label: CodeOption = [],  # noqa: B006 - typer reads it
    recipe: RecipeOption = None,
    scale: ScaleOption = 1.0,
    mean: MeanOption = "0",
    std: StdOption = "1",
    layout: LayoutOption = None,
    size: SizeOption = None,
    channels: ChannelsOption = None,
    gives: GivesOption = None,
    output: OutputOption = None,
    map_: MapOption = None,
    calibration: CalibrationOption = None,
    truth: TruthOption = None,
    method: MethodOption = "percentile",
    seven_bits: SevenBitsOption = False,
    learned_from: SourceOption = [],  # noqa: B006 - typer reads it
    version: VersionOption = "1.0.0",
    into: IntoOption = Path(),
) -> None:
    """Makes a model of any ONNX classifier: wrapped, quantised, judged, with a manifest.

    It looks at what the file takes and gives, says what it found and what it assumed, and refuses what does not fit. Nothing is
    believed: the wrapped network is compared with the original, int8 with fp32. An int8 that is REJECTED is kept and never answers;
    fp32 does. An import that fails leaves nothing behind. docs/your-own-model.md shows it once, with a network from PyPI.

    \b
    vitalcheck models import vgg16.onnx --name vgg16 --labels glioma,meningioma,notumor,pituitary --calibration heads/
    vitalcheck models import net.onnx --name mine --labels notumor,glioma --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    vitalcheck models import ct.onnx --name ct --labels bleeding,none --absent none --recipe ct.toml \\
        --label bleeding=1386000:SCT:"Intracranial hemorrhage" --label none=281900007:SCT:"No abnormality detected"

    \b
    its input    FILE, or --layout --size --channels; what is fed: --scale --mean --std --recipe
    its outputs  --labels --absent --label; FILE, or --output --map --gives
    its int8     --calibration --truth --method --seven-bits
    its reports  --name --version --learned-from, and [words] in --recipe
    """
    if importlib.util.find_spec("onnx") is None:
        raise NeedsMore
    from listener.importer import Order, run
    from listener.isolation import Isolated
    from models.foreign import Shown, Told

    quiet()
    said = _said(recipe)
    order = Order(
        file=file,
        name=_plain(name),
        labels=_labels(labels, label, absent, said),
        absent=absent,
        version=version,
        told=Told(layout, channels, size, gives, output, map_),
        shown=Shown(scale, _numbers("--mean", mean), _numbers("--std", std)),
        said=said,
        calibration=calibration,
        truth=truth,
        method=method,
        seven_bits=seven_bits,
        **({"learned_from": tuple(map(_source, learned_from))} if learned_from else {}),
    )
    limits = configuration.load().worker
    with Isolated(limits.decode_memory_bytes, limits.decode_seconds) as decoder:
        _say(run(order, into, decoder), order)


def _plain(name: str) -> str:
    """It becomes a folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise NoOrder(f"--name {name!r}: letters, digits, _, . and -, 64 at most, for it becomes the name of a folder")
    return name


def _said(path: Path | None) -> dict[str, Any]:
    """What --recipe says, by keys of a manifest."""
    if path is None:
        return {}
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NoOrder(f"--recipe {path}: {error}; it is TOML like a manifest's, [recipe] and what else docs/manifest.md has") from error
    if not isinstance(found.get("recipe", {}), dict):
        raise NoOrder(f"--recipe {path}: recipe is a table; write [recipe], and its keys below it")
    return found


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise NoOrder(f"{option} {text!r}: a number, or several with commas between them") from None
    if not all(map(math.isfinite, found)) or (option == "--std" and min(found) <= 0):
        raise NoOrder(f"{option} {text!r}: finite numbers{', above 0' if option == '--std' else ''}")
    return found


def _labels(names: str, codes: list[str], absent: str, said: dict[str, Any]) -> tuple[Label, ...]:
    """Labels with their codes: those of the bundled model, and those that are told."""
    from models import registry

    told = {label.name: label for label in map(_code, codes)}
    bundled = {label.name: label for label in registry.read(DEFAULT_MODEL).labels}
    known = bundled | told
    wanted = [name.strip() for name in names.strip(", ").split(",")]
    if unused := [name for name in told if name not in wanted]:
        raise NoOrder(f"--label {unused[0]}: --labels ({names}) does not name it; name it there, or leave its code out")
    if unknown := [name for name in wanted if name not in known]:
        raise NoOrder(
            f"--labels: no code for {', '.join(unknown)} (known: {', '.join(known)}); reports are coded, so give each of them one: "
            f"--label '{unknown[0]}=CODE:SCT:MEANING'"
        )
    if (others := [name for name in wanted if name not in {*bundled, absent}]) and "words" not in said:
        raise NoOrder(
            f"--labels: {', '.join(others)}: reports would speak of brain tumours; say what they shall say under [words] in --recipe"
        )
    return tuple(known[name] for name in wanted)


def _code(text: str) -> Label:
    from models.manifest import Label

    name, _, code = text.partition("=")
    parts = code.split(":", 2)
    if not name or len(parts) != 3 or not all(parts):
        raise NoOrder(f"--label {text!r}: written as NAME=CODE:SCHEME:MEANING, for instance glioma=393564001:SCT:Glioma")
    from pydantic import ValidationError

    from listener.importer import explained

    try:
        return Label(name=name, value=parts[0], scheme=parts[1], meaning=parts[2])
    except ValidationError as error:
        raise NoOrder(f"--label {text!r}: {explained(error)}") from error


def _source(text: str) -> DataSource:
    from models.manifest import DataSource

    parts = [part.strip() for part in text.split("|")]
    if len(parts) != 3 or not all(parts):
        raise NoOrder(f"--learned-from {text!r}: written as 'NAME|LICENCE|CITATION'")
    return DataSource(name=parts[0], licence=parts[1], citation=parts[2])


def _say(imported: Imported, order: Order) -> None:
    from listener.importer import UNKNOWN

    manifest, folder = imported.manifest, imported.folder
    console.say(f"{order.file.name}: imported as {manifest.name} {manifest.version}")
    for remark in imported.remarks:
        console.say(f"  {remark}")
    console.say_table(("file", "MB"), [(folder / a.file, f"{a.bytes / 1e6:.2f}") for a in manifest.artifacts.values()])
    if UNKNOWN in order.learned_from:
        console.say("What it learnt from is unknown; reports say so. --learned-from tells them.")
    console.say(f"Try it: vitalcheck analyze STUDY --out results --model {_path(folder)}")
    console.say(f'Serve it: in vitalcheck.toml, [models] enabled = ["{_path(folder.absolute())}"], then vitalcheck check')


def _path(folder: Path) -> str:
    """With a slash, so that it is no name."""
    return str(folder) if folder.is_absolute() or "/" in str(folder) else f"./{folder}"
