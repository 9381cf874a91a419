"""Trained networks -> ONNX files that say what they are.

Both variants have input `image` float32 (batch, 3, 224, 224) and outputs `logits` (batch, label) and `evidence` (batch, label, 14, 14).
The old exporter (dynamo=False): the new one does not know what `convert_fx` makes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from models.training.network import Answer

OPSET = 17
AGREES = 1e-3  # largest |logit difference| of fp32 in ONNX Runtime against torch: other order of sums, nothing else


class ExportError(Exception):
    """An export that does not answer as the network does; the message names the file and by how much."""


def export(network: nn.Module, path: Path, *, labels: Sequence[str], absent: str, recipe_id: str) -> None:
    """Writes `network` with its pooling as `path`, checked by onnx, with labels and recipe id in its metadata."""
    answer = Answer(network, labels.index(absent)).eval()
    batch = {name: {0: "batch"} for name in ("image", "logits", "evidence")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracer warnings about shapes; the batch sizes are tested instead
        torch.onnx.export(
            answer,
            (torch.randn(2, 3, 224, 224),),
            path,
            input_names=["image"],
            output_names=["logits", "evidence"],
            dynamic_axes=batch,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"labels": ",".join(labels), "absent": absent, "recipe": recipe_id})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def check_parity(
    network: nn.Module, absent: int, run: Callable[[NDArray[np.float32]], NDArray[np.float32]], tensor: NDArray[np.float32], path: Path
) -> None:
    """Compares `run`, the exported file's logits, with the network's own over `tensor`. Raises ExportError."""
    off = float(np.abs(torch_logits(network, absent, tensor) - run(tensor)).max())
    if off > AGREES:
        raise ExportError(
            f"{path}: its logits are {off:.4f} off those of the network it was exported from (allowed {AGREES}); do not use it"
        )


def torch_logits(network: nn.Module, absent: int, tensor: NDArray[np.float32], batch: int = 32) -> NDArray[np.float32]:
    """(slice, label): what eager PyTorch answers."""
    answer = Answer(network, absent).eval()
    with torch.no_grad():
        return np.concatenate([answer(torch.from_numpy(tensor[k : k + batch]))[0].numpy() for k in range(0, len(tensor), batch)])
