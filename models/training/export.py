"""Trained networks -> ONNX files that say what they are.

Both variants have input `image` float32 (batch, 1, 224, 224) and outputs `logits` (batch, label) and `evidence` (batch, label, 14, 14).
The old exporter (dynamo=False): the new one does not know what `convert_fx` makes.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from models.runtime import Outputs, optimised
from models.training.network import CHANNELS, Answer
from models.training.quads import by_quads

OPSET = 17
AGREES = 1e-3  # largest |difference| of fp32 in ONNX Runtime against torch: other order of sums, nothing else
INTEGER_CONV = "QLinearConv"
FLOAT_CONVS = ("Conv", "FusedConv", "NhwcFusedConv")
BETWEEN_INTEGERS = ("Clip", "Relu")  # folded into the integer operation before them, or the graph gains nothing
SAID: Mapping[str, str] = {}
Floats = NDArray[np.float32]


class ExportError(Exception):
    """An export that does not answer as the network does, or not in integers; the message names the file and by how much."""


def export(network: nn.Module, path: Path, *, labels: Sequence[str], absent: str, recipe_id: str, said: Mapping[str, str] = SAID) -> None:
    """Writes `network` with its pooling as `path`, checked by onnx; labels, recipe id and what else is `said` are in its metadata."""
    answer = Answer(network, labels.index(absent)).eval()
    write(answer, path, outputs=("logits", "evidence"))
    model = by_quads(onnx.load(path))
    onnx.helper.set_model_props(model, {"labels": ",".join(labels), "absent": absent, "recipe": recipe_id, **said})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write(network: nn.Module, path: Path, *, outputs: Sequence[str], channels: int = CHANNELS) -> None:
    """Any network that eats `image` (batch, channel, 224, 224), as `path`; the batch stays free."""
    batch = {name: {0: "batch"} for name in ("image", *outputs)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracer warnings about shapes; the batch sizes are tested instead
        torch.onnx.export(
            network,
            (torch.randn(2, channels, 224, 224),),
            path,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_axes=batch,
            opset_version=OPSET,
            dynamo=False,
        )


def kinds(path: Path) -> Counter[str]:
    """How many nodes of each kind ONNX Runtime runs for `path`."""
    with tempfile.TemporaryDirectory(prefix="vitalcheck-") as folder:
        optimised(path, Path(folder) / "optimised.onnx")
        return Counter(node.op_type for node in onnx.load(Path(folder) / "optimised.onnx").graph.node)


def check_integers(path: Path) -> Counter[str]:
    """What `kinds` counts. Raises ExportError where a convolution stayed in floating point, or something stands between integer nodes,
    or floats become integers more than once, at the door.
    """
    count = kinds(path)
    floats, between = sum(count[kind] for kind in FLOAT_CONVS), sum(count[kind] for kind in BETWEEN_INTEGERS)
    if floats or between or not count[INTEGER_CONV] or count["QuantizeLinear"] > 1:
        raise ExportError(
            f"{path}: {count[INTEGER_CONV]} integer and {floats} float convolutions, {between} {' or '.join(BETWEEN_INTEGERS)} between"
            f" integer nodes, {count['QuantizeLinear']} times from float to integer (allowed: none, none, 1); it gains little as int8"
        )
    return count


def check_parity(network: nn.Module, absent: int, run: Callable[[Floats], Floats], tensor: Floats, path: Path) -> None:
    """Compares `run`, the exported file's logits, with the network's own over `tensor`. Raises ExportError."""
    _check(torch_logits(network, absent, tensor), run(tensor), "logits", path)


def check_answers(network: nn.Module, absent: int, run: Callable[[Floats], Outputs], tensor: Floats, path: Path) -> None:
    """`check_parity`, and the same for the evidence; `run` gives both. Raises ExportError."""
    outputs, (logits, evidence) = run(tensor), torch_answers(network, absent, tensor)
    if outputs.evidence is None:
        raise ExportError(f"{path}: gives no evidence; export it with `export`")
    _check(logits, outputs.logits, "logits", path)
    _check(evidence, outputs.evidence, "evidence", path)


def _check(ours: Floats, theirs: Floats, what: str, path: Path) -> None:
    off = float(np.abs(ours - theirs).max())
    if off > AGREES:
        raise ExportError(
            f"{path}: its {what} are {off:.4f} off those of the network it was exported from (allowed {AGREES}); do not use it"
        )


def torch_answers(network: nn.Module, absent: int, tensor: Floats, batch: int = 32) -> tuple[Floats, Floats]:
    """(slice, label) and (slice, label, 14, 14): what eager PyTorch answers."""
    answer = Answer(network, absent).eval()
    with torch.no_grad():
        found = [answer(torch.from_numpy(tensor[k : k + batch])) for k in range(0, len(tensor), batch)]
    logits, evidence = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return logits, evidence


def torch_logits(network: nn.Module, absent: int, tensor: Floats, batch: int = 32) -> Floats:
    """(slice, label): what eager PyTorch answers."""
    return torch_answers(network, absent, tensor, batch)[0]
