"""What there is to learn from and what stays sealed, as the training room takes it: shared by training, leave-out runs and measurements."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.manifest import sha256
from models.training.data import Feed, Samples, strata
from models.training.lesions import Shares
from models.training.looks import Looks, Strength, Uptake
from models.training.loop import WEIGHTS, Plan
from models.training.teachers import LESSON
from scripts.datasets import DataError, Examples, bundled_head, healthy_head, join, load
from scripts.datasets.audit import audited
from scripts.datasets.examples import Classes
from scripts.datasets.phantoms import phantoms
from scripts.model_card import ABSENT, LABELS, RECIPE, adjustment

NAMES = tuple(label.name for label in LABELS)
CLEAR = NAMES.index(ABSENT)
FEED = Feed(RECIPE.mean, RECIPE.std, RECIPE.channels)
NEVER = Uptake(0.0, 1.0, 1.0)
# Gliomas of low grade often take up no contrast; hardly one that is learnt does not. As dark as half of what is around them, or like it.
UPTAKE = tuple(Uptake(0.3, 0.45, 1.0) if name == "glioma" else NEVER for name in NAMES)
PASTED = 0.15  # of the slices without tumour get one of another head, and tumours of elsewhere are found more often
ADDED = tuple(adjustment(teachers=0).get(name, 0.0) for name in NAMES)  # to each label's evidence, after training
NOTHING = (0.0,) * len(NAMES)  # what is added where data are not our own sets
# Tumours from elsewhere are whiter, smoother or more mottled than what is learnt, and not all of them on T1; a glioma's ring stays one.
STRENGTH = {"glioma": Strength(0.1, rings=True), "meningioma": Strength(0.25, rings=False), "pituitary": Strength(0.1, rings=False)}
LOOKS = Looks(0.1, UPTAKE, tuple(STRENGTH.get(name, Strength(0.0, rings=False)) for name in NAMES), soft=0.12)
FULL = Plan(shares=Shares(paste=PASTED), looks=LOOKS)
QUICK = Plan(sizes=(128,), calibration=100, qat_steps=24)  # a minute or two: artifacts that work, not ones to rely on
Floats = NDArray[np.float32]


def read(data: Path, heads: Sequence[Path] = (), *, skip_bad: bool = False, leave_out: bool = False) -> Examples:
    """Everything, and `heads` (NIfTI, healthy) to learn from; says what it is, and fails where the split leaks. Raises DataError."""
    found = join([load(data, RECIPE, NAMES, ABSENT, skip_bad=skip_bad), bundled_head(RECIPE, CLEAR), *map(_learnt_head, heads)])
    examples, page = audited(found, NAMES, strata(samples(found)), leave_out=leave_out)
    print(page, file=sys.stderr)
    return join([examples, phantoms(RECIPE, Classes(NAMES, ABSENT))])


def _learnt_head(path: Path) -> Examples:
    """Every fourth slice in three planes. Raises DataError."""
    head = healthy_head(path, RECIPE, CLEAR, every=4)
    return replace(head, sealed=np.zeros(len(head), bool))


def measured_heads(paths: Sequence[Path], learnt: Sequence[Path] = (), every: int = 5) -> Examples | None:
    """Healthy heads that nobody learns, `every` so many slices in three planes. Raises DataError, also where one is `learnt`."""
    known = {_unpacked(path) for path in learnt if path.is_file()}
    if twice := [path for path in paths if path.is_file() and _unpacked(path) in known]:
        raise DataError(f"{twice[0]}: is learnt (--head) and cannot be judged by (--healthy) too; leave one of them out")
    return join([healthy_head(path, RECIPE, CLEAR, every) for path in paths]) if paths else None


def _unpacked(path: Path) -> str:
    """sha256 of what it holds, packed (.nii.gz) or not."""
    try:
        return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    except (OSError, EOFError, zlib.error):
        return sha256(path)


def samples(examples: Examples) -> Samples:
    """What the training room knows of them."""
    return Samples.of(examples.images, examples.masks, examples.labels, examples.sources, examples.planes, CLEAR)


def tensor(images: torch.Tensor) -> Floats:
    """Grey slices (n, size, size) -> (n, channel, size, size): what serving would feed the network."""
    return np.ascontiguousarray(FEED(images.float()[:, None]).numpy())


def added_for(teachers: int) -> tuple[float, ...]:
    """What is added to each label's evidence of a network that so many others taught further."""
    return tuple(adjustment(teachers).get(name, 0.0) for name in NAMES)


def written(added: Sequence[float]) -> str:
    """What was added to each label's evidence, as leave_out.csv and the metadata of an ONNX file hold it."""
    return " ".join(f"{by:g}" for by in added)


def digest(plan: Plan, examples: Examples, added: Sequence[float] = ADDED, teachers: Sequence[str] = ()) -> str:
    """sha256 over all that training hangs on: the plan, the weights, the adjustment, the recipe, which slices were learnt as what, and
    the networks that taught it further.
    """
    slices = sorted(zip(examples.names, examples.labels.tolist(), examples.sources, strict=True))
    said = {"plan": asdict(plan), "weights": WEIGHTS, "added": list(added), "recipe": RECIPE.id, "slices": slices}
    if teachers:
        said |= {"teachers": list(teachers), "lesson": LESSON}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
