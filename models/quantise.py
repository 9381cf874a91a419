"""quantise: an fp32 file that keeps to our contract -> its int8 twin, from pictures like those it will read. Static, QDQ, per channel.

    optimise (fold batch norms, constants) | what range does each tensor take? | int8 weights, uint8 activations, int32 biases

The last layers stay in fp32, for their numbers are the logits, and so do additions of constants; both cost next to nothing. The ranges
are ONNX Runtime's to find: minmax keeps everything, percentile leaves out one value in 100,000, entropy keeps what loses least. This is
the only file beside `runtime` that knows ONNX Runtime, of which it takes the tools that need onnx; a serving process never comes here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as in runtime.py; read once, when the library is loaded

import onnx
from onnxruntime import quantization
from onnxruntime.quantization.calibrate import save_tensors_data

from models.runtime import Floats

Method = Literal["minmax", "percentile", "entropy"]
WEIGHTY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BETWEEN = (
    *("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Pad", "Relu", "Reshape"),
    *("Resize", "Sigmoid", "Squeeze", "Transpose", "Unsqueeze"),
)
_METHODS = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "percentile": quantization.CalibrationMethod.Percentile,
    "entropy": quantization.CalibrationMethod.Entropy,
}


class NotQuantised(Exception):
    """A network that ONNX Runtime cannot quantise; the message says why."""


class _Once:
    """ONNX Runtime's CalibrationDataReader of one batch."""

    def __init__(self, batch: Floats) -> None:
        self._left: list[dict[str, Floats]] = [{"image": batch}]

    def get_next(self) -> dict[str, Floats] | None:
        return self._left.pop() if self._left else None


def quantise(fp32: Path, int8: Path, batches: Iterable[Floats], method: Method = "percentile", *, seven_bits: bool = False) -> None:
    """Writes `int8`. `batches` (slice, channel, size, size) are prepared as in service. Raises NotQuantised.

    `seven_bits` halves the weights' range, for CPUs whose int8 products overflow (x86 without VNNI).
    """
    with tempfile.TemporaryDirectory(prefix="vitalcheck-") as folder, _quiet():
        ready, ranges = Path(folder) / "ready.onnx", Path(folder) / "ranges.json"
        try:
            quantization.quant_pre_process(str(fp32), str(ready), skip_symbolic_shape=True)
            model = _each_named(onnx.load(ready))
            onnx.save(model, ready)
            kinds = _kinds(model.graph)
            save_tensors_data(_ranges(ready, Path(folder) / "watched.onnx", batches, method, kinds), ranges)
            quantization.quantize_static(
                ready,
                int8,
                calibration_cache_path=ranges,
                calibrate_method=_METHODS[method],
                op_types_to_quantize=kinds,
                nodes_to_exclude=[*last_layers(model.graph), *shifts(model.graph)],
                per_channel=True,
                reduce_range=seven_bits,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        except (OSError, MemoryError):  # of this machine and not of the network
            raise
        except Exception as error:
            why = " ".join(str(error).split())
            raise NotQuantised(f"ONNX Runtime cannot quantise it ({why}); fp32 can be served without int8") from error
    _take_properties(fp32, int8)


def _ranges(ready: Path, watched: Path, batches: Iterable[Floats], method: Method, kinds: list[str]) -> Any:
    """What each tensor holds over all batches. One batch after the other: the tensors of 200 slices would take gigabytes."""
    found = quantization.create_calibrator(ready, kinds, augmented_model_path=str(watched), calibrate_method=_METHODS[method])
    for batch in batches:
        found.collect_data(_Once(batch))
    return found.compute_data()


def _each_named(model: Any) -> Any:
    """Every node with a name of its own, for by names they are left out."""
    seen: set[str] = set()
    for k, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"node_{k}_of_{node.op_type}"
        seen.add(node.name)
    return model


def _kinds(graph: Any) -> list[str]:
    """The kinds of nodes to quantise: those with weights, and what lies between them."""
    return sorted({node.op_type for node in graph.node} & {*WEIGHTY, *BETWEEN})


def last_layers(graph: Any) -> list[str]:
    """Names of the nodes from the last weights to the outputs; these nodes included."""
    made = {name: node for node in graph.node for name in node.output}
    todo, last = [output.name for output in graph.output], list[str]()
    while todo:
        node = made.get(todo.pop())
        if node is not None and node.name not in last:
            last.append(node.name)
            todo += [] if node.op_type in WEIGHTY else node.input
    return last


def shifts(graph: Any) -> list[str]:
    """Names of the nodes that add or multiply a constant: a bias behind a MatMul, a batch norm behind a ReLU.

    Each feature has a range of its own there, and one scale for all of them lost up to 6 of 15 logits (VGG16 with dense layers, measured).
    """
    constant = {tensor.name for tensor in graph.initializer} | {n for node in graph.node if node.op_type == "Constant" for n in node.output}
    return [node.name for node in graph.node if node.op_type in ("Add", "Mul", "Sub", "Div") and constant & set(node.input)]


@contextlib.contextmanager
def _quiet() -> Any:
    """The library prints its progress and advises by log what is done here; answers own stdout."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _take_properties(fp32: Path, int8: Path) -> None:
    """int8 says of itself what fp32 says: labels, recipe."""
    said = {entry.key: entry.value for entry in onnx.load(fp32, load_external_data=False).metadata_props}
    model = onnx.load(int8)
    onnx.helper.set_model_props(model, said)
    onnx.checker.check_model(model)
    onnx.save(model, int8)
