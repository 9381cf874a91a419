"""The only file that knows ONNX Runtime: bytes on disk -> a session that maps a tensor to logits and evidence.

ONNX Runtime's own builds for Linux report models and runs to their maker (its Privacy.md). A node in a hospital reports to nobody,
so that is off before the library is loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, when the library is loaded

import onnxruntime

Floats = NDArray[np.float32]


class Outputs(NamedTuple):
    """What a network says about a batch."""

    logits: Floats  # (slice, label)
    evidence: Floats | None  # (slice, label, row, column), where the network has a map


class NetworkError(Exception):
    """A network that cannot be loaded or run; the message says which file and why."""


class Network(Protocol):
    """Anything that answers for a tensor (slice, 3, size, size)."""

    def run(self, tensor: Floats) -> Outputs: ...


class Session:
    """One ONNX file in ONNX Runtime on the CPU. Raises NetworkError."""

    BATCH = 32  # slices at once: 600 frames of a multi-frame object would take gigabytes of activations

    def __init__(self, path: Path, threads: int = 2) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; warnings would write past our log
        self.path = path
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise NetworkError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        self._names = [output.name for output in self._session.get_outputs()]
        if "logits" not in self._names:
            raise NetworkError(f"{path}: no output named logits (has {', '.join(self._names)})")

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
