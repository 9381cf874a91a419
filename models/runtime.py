"""The only file that knows ONNX Runtime: bytes on disk -> a session that maps a tensor to logits and evidence.

ONNX Runtime's own builds for Linux report models and runs to their maker (its Privacy.md). A node in a hospital reports to nobody,
so that is off before the library is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, when the library is loaded

import onnxruntime

from models import machine

Floats = NDArray[np.float32]


@cache
def environment() -> tuple[str, str]:
    """What computes here: ONNX Runtime's version and the kind of CPU. Asked once: it chooses its code for the CPU once per process, too."""
    return f"ONNX Runtime {onnxruntime.__version__}", f"CPU {machine.cpu()}"


class Outputs(NamedTuple):
    """What a network says about a batch."""

    logits: Floats  # (slice, label)
    evidence: Floats | None  # (slice, label, row, column), where the network has a map


class NetworkError(Exception):
    """A network that cannot be loaded or run; the message says which file and why."""


class Network(Protocol):
    """Anything that answers for a tensor (slice, channel, size, size)."""

    def run(self, tensor: Floats) -> Outputs: ...


class Session:
    """One ONNX file in ONNX Runtime on the CPU. Raises NetworkError."""

    BATCH = 32  # slices at once: 600 frames of a multi-frame object would take gigabytes of activations

    def __init__(self, path: Path, threads: int = 2) -> None:
        self.path = path
        self._session = _opened(path, threads)
        self._names = [output.name for output in self._session.get_outputs()]
        if "logits" not in self._names:
            raise NetworkError(f"{path}: no output named logits (has {', '.join(self._names)})")

    def check(self, channels: int, size: int, labels: int, recipe_id: str) -> None:
        """Raises NetworkError where the file is not the one that its manifest describes; two empty slices show what it gives."""
        said = self._session.get_modelmeta().custom_metadata_map.get("recipe", recipe_id)
        if said != recipe_id:
            raise NetworkError(
                f"{self.path}: was trained with recipe {said}, its manifest has {recipe_id}; take the manifest that belongs to it"
            )
        self._check_input((channels, size, size))
        outputs = self._run(np.zeros((2, channels, size, size), np.float32))
        if outputs.logits.shape != (2, labels) or outputs.logits.dtype != np.float32:
            found = f"{outputs.logits.dtype} logits of {outputs.logits.shape} for two slices"
            raise NetworkError(f"{self.path}: gives {found}, its manifest has {labels} labels; name as many labels as it has outputs")
        evidence = outputs.evidence
        if evidence is not None and (evidence.ndim != 4 or evidence.shape[:2] != (2, labels) or min(evidence.shape[2:]) < 2):
            raise NetworkError(f"{self.path}: gives evidence of {evidence.shape} for two slices, not (2, {labels}, rows, columns)")

    def _check_input(self, shape: tuple[int, int, int]) -> None:
        inputs = self._session.get_inputs()
        if [entry.name for entry in inputs] != ["image"] or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{entry.name} {entry.type}" for entry in inputs)
            raise NetworkError(f"{self.path}: takes {found}, not one float32 input named image; export it with one")
        wanted = inputs[0].shape  # a text or None where any length will do
        if isinstance(wanted[0], int):
            raise NetworkError(f"{self.path}: takes batches of {wanted[0]} and no others; export it with a free first axis")
        if len(wanted) != 4 or any(isinstance(w, int) and w != given for w, given in zip(wanted[1:], shape, strict=True)):
            raise NetworkError(
                f"{self.path}: takes {_axes(wanted[1:])} a slice, its manifest's recipe gives {_axes(shape)} (channels, size, size)"
            )

    def run(self, tensor: Floats) -> Outputs:
        """Logits and evidence, row by row; a batch is cut into pieces of BATCH rows. Raises NetworkError."""
        pieces = [self._run(tensor[k : k + self.BATCH]) for k in range(0, len(tensor), self.BATCH)]
        evidence = [piece.evidence for piece in pieces if piece.evidence is not None]
        return Outputs(np.concatenate([piece.logits for piece in pieces]), np.concatenate(evidence) if evidence else None)

    def _run(self, tensor: Floats) -> Outputs:
        try:
            answers = dict(zip(self._names, self._session.run(self._names, {"image": tensor}), strict=True))
        except Exception as error:
            raise NetworkError(f"{self.path}: ONNX Runtime failed on a batch of {tensor.shape}: {error}") from error
        return Outputs(answers["logits"], answers.get("evidence"))


class Foreign:
    """Any ONNX file with one input, whatever it takes and gives: what `vitalcheck models import` looks at. Raises NetworkError."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        self.path = path
        self._session = _opened(path, threads)
        self.names = [output.name for output in self._session.get_outputs()]

    def run(self, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Its outputs by their names."""
        try:
            return dict(zip(self.names, self._session.run(None, {self._session.get_inputs()[0].name: image}), strict=True))
        except Exception as error:
            raise NetworkError(f"{self.path}: ONNX Runtime failed on a batch of {image.shape}: {error}") from error


def _opened(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; warnings would write past our log
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NetworkError(f"{path}: ONNX Runtime cannot load it: {error}") from error


def _axes(shape: Sequence[object]) -> str:
    return " x ".join(str(axis) for axis in shape)


class FixedModel:
    """A twin for tests: the same answer for every slice, and a count of how often it was asked."""

    def __init__(self, logits: tuple[float, ...], evidence: Floats | None = None, fails: bool = False) -> None:
        self.logits, self.evidence, self.fails, self.calls = logits, evidence, fails, 0

    def run(self, tensor: Floats) -> Outputs:
        self.calls += 1
        if self.fails:
            raise NetworkError("fixed model: told to fail")
        logits = np.tile(np.array(self.logits, np.float32), (len(tensor), 1))
        evidence = None if self.evidence is None else np.tile(self.evidence[None], (len(tensor), 1, 1, 1))
        return Outputs(logits, evidence)


def optimised(path: Path, to: Path) -> None:
    """Writes as `to` the graph that ONNX Runtime really runs for `path` on this CPU. Raises NetworkError."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(to)
    options.log_severity_level = 4  # that the file fits this CPU only is what is asked for
    try:
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NetworkError(f"{path}: ONNX Runtime cannot load it: {error}") from error
