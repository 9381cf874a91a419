"""The report's plots, as PNG files that are the same bytes each time; needs matplotlib (the train extra). Never a picture of the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from models.measures import BINS, softmax
from models.record import VARIANTS, Record, Variant
from scripts.datasets.heads import middles
from scripts.report import numbers, twin
from scripts.report.material import Doubles, Material, Rows, number

COLOURS = {"fp32": "#3d6a96", "int8": "#e0863a"}
OTHERS = ("#3d6a96", "#e0863a", "#5a9e6f", "#a9505b", "#7b6aa6", "#8a8a8a", "#c9a227")
GREY = "#8a8a8a"
DPI = 110
EVIDENCE = 14  # rows and columns of the network's map


def draw(material: Material, folder: Path) -> list[Path]:
    """Draws into `folder` every plot there is something to draw for; plots that the report no longer shows are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: plot(material) for name, (needs, plot) in PLOTS.items() if not needs or material.rows(needs)}
    for name in PLOTS.keys() - drawn.keys():
        (folder / f"{name}.png").unlink(missing_ok=True)
    return [_save(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=DPI, metadata={"Software": None})  # no version of matplotlib in the file: same numbers, same bytes
    return path


def _axes(count: int = 1, width: float = 7.2, height: float = 3.6) -> tuple[Any, list[Any]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    found = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    return figure, found


def curve(material: Material) -> Any:
    """Loss by epoch, of training and then of the lesson, which is another loss; the size of the pictures as steps."""
    rows = material.rows("curve.csv")
    epochs, sizes = list(range(1, len(rows) + 1)), [int(row["size"]) for row in rows]
    losses = [number(row["loss"]) for row in rows]
    figure, [axes] = _axes()
    said = {"alone": "alone, by the labels", "taught": "taught further: another loss"}
    for (stage, told), colour in zip(said.items(), OTHERS, strict=False):
        of = [k for k, row in enumerate(rows) if row["stage"] == stage]
        if of:
            axes.plot([epochs[k] for k in of], [losses[k] for k in of], "-o", color=colour, markersize=4, label=told)
    axes.legend(frameon=False, fontsize=9, loc="upper right", bbox_to_anchor=(0.84, 0.92))
    changes = [k for k in range(len(rows)) if k == 0 or sizes[k] != sizes[k - 1]]
    for k in changes:
        axes.axvline(epochs[k] - 0.5, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(f" {sizes[k]}", (epochs[k] - 0.5, 0.97), xycoords=("data", "axes fraction"), va="top", fontsize=9, color="#555555")
    axes.set(xlabel="epoch; above it the side of the pictures in pixels", ylabel="mean loss", title="Training of fp32")
    axes.set(xlim=(0.4, max(epochs) + 0.4), ylim=(0, 1.18 * max(losses)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", alpha=0.3)
    return figure


def confusion(material: Material) -> Any:
    """Both confusion matrices of the sealed fold: slices, coloured by share of the truth."""
    fold = material.fold
    figure, both = _axes(2, 8.4, 4.2)
    for axes, variant in zip(both, VARIANTS, strict=True):
        counts = numbers.matrix(fold, variant)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            said = f"{count}\n{shares[row, column]:.1%}" if count else "0"
            axes.text(column, row, said, ha="center", va="center", fontsize=9, color="white" if shares[row, column] > 0.6 else "#222222")
        ticks = range(len(fold.labels))
        axes.set_xticks(ticks, fold.labels)
        axes.set_yticks(ticks, fold.labels if axes is both[0] else [""] * len(fold.labels))
        axes.set(xlabel="said", title=f"{variant}, {len(fold)} sealed slices")
    both[0].set_ylabel("truth")
    return figure


def reliability(material: Material) -> Any:
    """How often the likeliest label is right, by how sure the network is; below, how many slices that are."""
    fold = material.fold
    figure, [axes, below] = _axes(2, 8.4, 3.8)
    axes.plot([0.25, 1], [0.25, 1], color=GREY, linewidth=1, linestyle="--", label="as sure as right")
    for k, variant in enumerate(VARIANTS):
        sure, right, held = _bins(fold, variant, material.manifest.rule.temperature)
        axes.plot(sure[held > 0], right[held > 0], "-o", color=COLOURS[variant], label=variant, markersize=4)
        below.bar((np.arange(BINS) + 0.3 + 0.4 * k) / BINS, held, 0.4 / BINS, color=COLOURS[variant], label=variant)
    axes.set(
        xlabel="confidence",
        ylabel="share that is right",
        xlim=(0.2, 1.02),
        ylim=(0, 1.03),
        title="Sealed fold: is it as sure as it is right?",
    )
    below.set(xlabel="confidence", ylabel="slices", xlim=(0.2, 1.02), yscale="symlog", title="How many slices")
    below.set_yticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    below.set_ylim(0, max(2.0, 1.5 * below.dataLim.y1))
    axes.legend(frameon=False, fontsize=9)
    below.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.3)
    return figure


def _bins(record: Record, variant: Variant, temperature: float) -> tuple[Doubles, Doubles, Doubles]:
    """(bin,): mean confidence, share right, slices."""
    probabilities = softmax(record.logits[variant], temperature)
    sure, right = probabilities.max(1), probabilities.argmax(1) == record.truth
    where = np.eye(BINS)[np.minimum((sure * BINS).astype(int), BINS - 1)]
    held = where.sum(0)
    return where.T @ sure / np.maximum(held, 1), where.T @ right / np.maximum(held, 1), held


def roc(material: Material) -> Any:
    """Tumour against none, ROC whole and the corner alone, and precision: what was sealed, and what was left out of training in turn."""
    figure, [*panels, precise] = _axes(3, 13.6, 4.8)
    for (_, record, variant), colour in zip(_curves(material), OTHERS, strict=False):
        hit = record.truth != record.clear
        found, right = _pr(hit, 1.0 - softmax(record.logits[variant])[:, record.clear])
        precise.plot(found, right, color=colour, linestyle="--" if variant == "int8" else "-")
    precise.set(title="Precision, the corner", xlim=(0.6, 1.002), ylim=(0.6, 1.002), xlabel="tumour slices found (recall)")
    precise.set(ylabel="of those called tumour, right (precision)")
    precise.grid(alpha=0.3)
    for axes in panels:
        for (name, record, variant), colour in zip(_curves(material), OTHERS, strict=False):
            hit = record.truth != record.clear
            false, true, area = _roc(hit, 1.0 - softmax(record.logits[variant])[:, record.clear])
            axes.plot(false, true, color=colour, label=f"{name}: {area:.3f}", linestyle="--" if variant == "int8" else "-")
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlabel="slices without tumour called tumour (1 - specificity)")
        axes.grid(alpha=0.3)
    panels[0].set(title="Tumour against none", xlim=(-0.01, 1), ylim=(0, 1.01), ylabel="tumour slices found (sensitivity)")
    panels[1].set(
        title="The corner", xlim=(-0.002, 0.2), ylim=(0.8, 1.002), xticks=[0, 0.05, 0.1, 0.15, 0.2], yticks=[0.8, 0.85, 0.9, 0.95, 1]
    )
    panels[0].legend(frameon=False, fontsize=9, title="area under the curve", title_fontsize=9, loc="lower right")
    return figure


def _curves(material: Material) -> list[tuple[str, Record, Variant]]:
    """(name, slices, variant), where there are slices of both kinds."""
    found: list[tuple[str, Record, Variant]] = [(f"sealed fold, {v}", material.fold, v) for v in VARIANTS]
    if material.left_out is not None:
        record = material.left_out.record
        folds = record.take(np.array([part.isdigit() for part in record.words["part"]], bool))
        found += [("folds left out", folds, "fp32"), ("patients left out", numbers.of_source(record, "volume"), "fp32")]
    return [curve for curve in found if 0 < (curve[1].truth != curve[1].clear).sum() < len(curve[1])]


def _roc(hit: Any, score: Doubles) -> tuple[Doubles, Doubles, float]:
    """False and true positive rates from (0, 0) to (1, 1), and the area below; equal scores are one step."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    true, false = (np.append(0, np.cumsum(kind[order])[ends]) / kind.sum() for kind in (hit, ~hit))
    return false, true, float(np.trapezoid(true, false))


def _pr(hit: Any, score: Doubles) -> tuple[Doubles, Doubles]:
    """Recall and precision, from the surest slice on; equal scores are one step."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    true = np.cumsum(hit[order])[ends]
    return true / hit.sum(), true / (ends + 1)


def speed(material: Material) -> Any:
    """Size, and milliseconds a slice on each number of threads, of what was timed at the usual batch."""
    known = [(r, {t: row for t in twin.THREADS if (row := twin.timed(material, r, t)) is not None}) for r in (twin.INT8, *twin.RIVALS)]
    known = [(rival, rows) for rival, rows in known if rows]
    names = ["\n".join(_name(rival)) for rival, _ in known]
    figure, [left, right] = _axes(2, 9.0, 3.8)
    sizes = [_megabytes(material, rival, rows) for rival, rows in known]
    _bars(left, names, sizes, OTHERS[0], 0.6, 0.0)
    for k, threads in enumerate(twin.THREADS):
        ms = [number(rows[threads]["ms"]) / twin.BATCH if threads in rows else float("nan") for _, rows in known]
        _bars(right, names, ms, OTHERS[k], 0.38, (k - 0.5) * 0.4, f"{threads} thread{'s' * (threads > 1)}")
    right.set_yticklabels([])
    left.set(title="Size, MB")
    right.set(title=f"ms a slice, batch {twin.BATCH}")
    right.legend(frameon=False, fontsize=9)
    return figure


def _name(rival: twin.Rival) -> list[str]:
    runtime = {"onnx": "ONNX Runtime", "torch": "eager PyTorch", "openvino": "OpenVINO"}[rival.runtime]
    return [f"{'ours' if rival.ours else 'ResNet18'} {rival.precision}", runtime]


def _megabytes(material: Material, rival: twin.Rival, rows: dict[int, twin.Row]) -> float:
    artifacts = {twin.INT8: material.manifest.artifacts["int8"], twin.TWIN: material.manifest.artifacts["fp32"]}
    if rival in artifacts:
        return artifacts[rival].bytes / 1e6
    return next((number(row["bytes"]) / 1e6 for row in rows.values()), float("nan"))


def _bars(axes: Any, names: list[str], values: list[float], colour: str, thick: float, offset: float, label: str = "") -> None:
    """Lying bars, the first on top, each with its number."""
    bars = axes.barh(np.arange(len(names)) + offset, np.nan_to_num(values), thick, color=colour, label=label)
    axes.bar_label(bars, ["-" if np.isnan(v) else f"{v:.1f}" for v in values], padding=3, fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.15 * max([axes.get_xlim()[1] / 1.15, *np.nan_to_num(values)]))
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])


def pitfalls(material: Material) -> Any:
    """Accuracy of each way to quantise, by set."""
    rows = material.rows("pitfalls.csv")
    methods, sets = (list(dict.fromkeys(row[column] for row in rows)) for column in ("method", "set"))
    found = {(row["method"], row["set"]): number(row["accuracy"]) for row in rows}
    figure, [axes] = _axes(1, max(7.2, 1.4 + 1.5 * len(sets)), 4.4)
    width = 0.85 / len(methods)
    for k, method in enumerate(methods):
        heights = [found.get((method, name), float("nan")) for name in sets]
        at = np.arange(len(sets)) + (k - (len(methods) - 1) / 2) * width
        bars = axes.bar(at, np.nan_to_num(heights), width * 0.92, color=OTHERS[k % len(OTHERS)], label=method)
        axes.bar_label(bars, ["" if np.isnan(h) else f"{h:.3f}" for h in heights], rotation=90, padding=2, fontsize=8)
    low = np.floor(10 * (min(found.values()) - 0.02)) / 10
    axes.set(ylabel=f"labels right (from {low:.1f})", ylim=(low, 1.06), title="The same network, made int8 in several ways")
    axes.set_yticks(np.linspace(low, 1.0, round((1.0 - low) * 10) + 1))
    axes.set_xticks(range(len(sets)), sets)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
    axes.grid(axis="y", alpha=0.3)
    return figure


def false(material: Material) -> Any:
    """Strongest cells of slices without tumour that are called one, on a slice through the middle of the bundled head."""
    behind, tumours = middles(material.manifest.recipe), material.tumours
    figure, panels = _axes(3, 9.6, 3.8)
    for axes, plane in zip(panels, ("axial", "coronal", "sagittal"), strict=True):
        axes.imshow(behind[plane].round(1), cmap="gray", vmin=0, vmax=1.4, interpolation="nearest")  # few greys: a small file
        side = behind[plane].shape[0] / EVIDENCE
        for name, colour in zip(tumours, OTHERS, strict=False):
            counts = _cells(material.rows("false_cells.csv"), plane, name)
            rows, columns = np.nonzero(counts)
            axes.scatter((columns + 0.5) * side, (rows + 0.5) * side, 22 * counts[rows, columns], colour, alpha=0.75)
        axes.set(title=plane, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    drawn = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in zip(tumours, OTHERS, strict=False)]
    figure.legend(handles=drawn, loc="outside lower center", ncols=len(drawn), frameon=False, fontsize=9)
    return figure


def _cells(rows: Rows, plane: str, said: str) -> NDArray[np.int64]:
    """(row, column): slices of `plane` that are called `said` there."""
    counts = np.zeros((EVIDENCE, EVIDENCE), np.int64)
    for row in rows:
        if (row["plane"], row["said"]) == (plane, said):
            counts[int(row["row"]), int(row["column"])] += int(row["slices"])
    return counts


PLOTS: dict[str, tuple[str, Callable[[Material], Any]]] = {  # name of the file: which table it needs ("" the record), who draws it
    "curve": ("curve.csv", curve),
    "confusion": ("", confusion),
    "reliability": ("", reliability),
    "roc": ("", roc),
    "false": ("false_cells.csv", false),
    "speed": ("speed.csv", speed),
    "pitfalls": ("pitfalls.csv", pitfalls),
}
