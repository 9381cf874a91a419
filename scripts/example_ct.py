"""The worked example of docs/ct-example.md: a network for CT heads that was computed and not learnt, and two studies to try it on.

    python -m scripts.example_ct OUT                # OUT/ct_head/ (a model), OUT/blood/ and OUT/no_blood/ (studies)
    python -m scripts.example_ct OUT --tilt 15      # the same studies with a tilted gantry

It needs the package onnx (`make test` installs it). The network reads nothing real: it marks what is as dense as blood, away from bone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.manifest import Artifact, Coded, Label, Manifest, Recipe, Rules, Window, Words, sha256, write
from scripts.phantom import ct_head

BLOOD_HU, BONE_HU = (55.0, 90.0), 200.0  # clotted blood; skull. Brain has 25 to 45 HU
NEAR_BONE = 11  # pixels, square: in them scalp, brain and skull mix to any density
CELL = 8  # pixels of a cell of evidence
STEEP = 0.25  # per HU: within 4 HU a threshold goes from no to yes
CERTAIN, NOTHING = 9.0, -3.0  # logits over "none" of a cell full of blood, and of one without any

BRAIN, SUBDURAL, BONE = Window(40, 80), Window(80, 200), Window(600, 2800)
RECIPE = Recipe(windows=(BRAIN, SUBDURAL, BONE), mean=0.0, std=1.0)
LABELS = [
    Label(name="haemorrhage", value="1386000", scheme="SCT", meaning="Intracranial hemorrhage"),
    Label(name="none", value="281900007", scheme="SCT", meaning="No abnormality detected"),
]
LIMITS = [  # whole sentences for the card and the report
    "It was generated for the worked example and has learnt from nobody: it reads nothing real.",
    "It marks what has 55 to 90 HU and lies away from bone: calcium, contrast agent and the streaks of metal as well as blood.",
    "Blood next to the skull, old blood and little blood it does not see.",
]


def network() -> onnx.ModelProto:
    """image (batch, 3, size, size) -> logits (batch, 2), evidence (batch, 2, row, column), by layers whose weights are computed.

    smooth | denser than blood's bounds, than bone | keep away from bone | share of each cell | strongest cell
    """
    node, around = helper.make_node, [NEAR_BONE // 2] * 4
    nodes = [
        node("AveragePool", ["image"], ["smooth"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Conv", ["smooth", "slopes", "offsets"], ["over"]),
        node("Clip", ["over", "zero", "one"], ["denser"]),
        node("Split", ["denser", "parts"], ["soft", "bone"], axis=1),
        node("MaxPool", ["bone"], ["near_bone"], kernel_shape=[NEAR_BONE, NEAR_BONE], pads=around, strides=[1, 1]),
        node("Concat", ["soft", "near_bone"], ["three"], axis=1),
        node("Conv", ["three", "but"], ["left"]),
        node("Relu", ["left"], ["blood"]),
        node("Conv", ["blood", "cell", "prior"], ["evidence"], strides=[CELL, CELL]),
        node("ReduceMax", ["evidence"], ["logits"], axes=[2, 3], keepdims=0),
    ]
    size, cells, labels = RECIPE.size, RECIPE.size // CELL, len(LABELS)
    graph = helper.make_graph(
        nodes,
        "ct_head",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", RECIPE.channels, size, size])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels]),
            helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["batch", labels, cells, cells]),
        ],
        [numpy_helper.from_array(array, name) for name, array in _weights().items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"labels": ",".join(label.name for label in LABELS), "recipe": RECIPE.id})
    onnx.checker.check_model(model, full_check=True)
    return model


def _weights() -> dict[str, NDArray[Any]]:
    """A threshold in Hounsfield units is one weight and one offset for the channel whose window shows it."""
    bounds = ((1, SUBDURAL, BLOOD_HU[0]), (1, SUBDURAL, BLOOD_HU[1]), (2, BONE, BONE_HU))
    slopes, offsets = np.zeros((3, RECIPE.channels, 1, 1), np.float32), np.zeros(3, np.float32)
    for row, (channel, window, bound) in enumerate(bounds):
        slopes[row, channel] = STEEP * window.width
        offsets[row] = STEEP * (window.level - window.width / 2 - bound)
    cell = np.zeros((len(LABELS), 1, CELL, CELL), np.float32)
    cell[0] = (CERTAIN - NOTHING) / CELL**2
    return {
        "slopes": slopes,
        "offsets": offsets,
        "zero": np.array(0.0, np.float32),
        "one": np.array(1.0, np.float32),
        "parts": np.array([2, 1], np.int64),
        "but": np.array([1.0, -1.0, -4.0], np.float32).reshape(1, 3, 1, 1),  # over the lower bound, not over the upper, not near bone
        "cell": cell,
        "prior": np.array([NOTHING, 0.0], np.float32),
    }


def write_model(folder: Path) -> Manifest:
    """The network and what it says about itself, as any model: manifest.toml beside an ONNX file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "haemorrhage.onnx"
    path.write_bytes(network().SerializeToString(deterministic=True))
    manifest = Manifest(
        name="ct_head_example",
        version="0.0.1",
        modality="CT",
        sequence="",
        body_part="head",
        labels=LABELS,
        absent="none",
        rules=Rules(contrast="avoid", planes=["axial"]),
        words=Words(
            finding="an intracranial haemorrhage",
            absent="no haemorrhage",
            any=Coded(value="1386000", scheme="SCT", meaning="Intracranial hemorrhage"),
        ),
        recipe=RECIPE,
        recipe_id=RECIPE.id,
        artifacts={"fp32": Artifact(file=path.name, sha256=sha256(path), bytes=path.stat().st_size)},
        limits=LIMITS,
    )
    write(folder / "manifest.toml", manifest)
    return manifest


app = typer.Typer(add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="folder for the model and the studies; made if missing")],
    tilt: Annotated[float, typer.Option(min=-30, max=30, help="degrees of the gantry")] = 0.0,
) -> None:
    """Writes a model for CT heads that reads nothing real, and two phantom studies: with a bleeding, and without."""
    manifest = write_model(out / "ct_head")
    print(f"{out / 'ct_head'}: {manifest.name} {manifest.version}, recipe {manifest.recipe.id}")
    for name, blood in (("blood", True), ("no_blood", False)):
        paths = ct_head.write(out / name, ct_head.Study(blood, tilt))
        print(f"{out / name}: {len(paths)} instances")


if __name__ == "__main__":
    app()
