"""The report on int8: not inferior to fp32, the pitfalls of quantisation, batches, size and speed, an ordinary network, phantoms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from models.gate import allowed
from models.record import VARIANTS
from models.tables import Line
from scripts.report.material import Material, missing, number, yes
from scripts.report.words import NONE, picture, section, share, table

THREADS, BATCH = (1, 2), 24  # slices at once: a usual series
Row = Mapping[str, str]


class Rival(NamedTuple):
    """What int8 of the bundled network in ONNX Runtime is compared with: rows of speed.csv."""

    said: str
    ours: bool  # the bundled network, or the ordinary ResNet18
    runtime: str  # part of its name
    precision: str


TWIN = Rival("its own fp32 twin", True, "onnx", "fp32")
RESNET = Rival("ResNet18 fp32, ONNX Runtime", False, "onnx", "fp32")
EAGER = Rival("ResNet18 fp32, eager PyTorch", False, "torch", "fp32")
OPENVINO = Rival("the same network in int8, OpenVINO", True, "openvino", "int8")
INT8 = Rival("int8, ONNX Runtime", True, "onnx", "int8")
RIVALS = (TWIN, RESNET, EAGER, OPENVINO)


def sections(material: Material) -> list[str]:
    """All of them."""
    return [_gate(material), _pitfalls(material), _batches(material), _speed(material), _resnet(material), _phantoms(material)]


def timed(material: Material, rival: Rival, threads: int, batch: int = BATCH) -> Row | None:
    """Its row of speed.csv, or None."""
    for row in material.rows("speed.csv"):
        same = ("resnet" not in row["network"].lower()) == rival.ours and rival.runtime in row["runtime"].lower().replace(" ", "")
        if same and row["precision"] == rival.precision and (int(row["threads"]), int(row["batch"])) == (threads, batch):
            return row
    return None


def faster(material: Material, rival: Rival, threads: int, batch: int = BATCH) -> float | None:
    """How many times as long `rival` takes as int8 in ONNX Runtime; None where one was not timed."""
    int8, other = timed(material, INT8, threads, batch), timed(material, rival, threads, batch)
    return number(other["ms"]) / number(int8["ms"]) if int8 and other else None


def smaller(material: Material, rival: Rival) -> float | None:
    """How many times as many bytes `rival` has as int8; its own twin's are in the manifest."""
    if rival is TWIN:
        return material.manifest.artifacts["fp32"].bytes / material.manifest.artifacts["int8"].bytes
    rows = [row for threads in THREADS if (row := timed(material, rival, threads)) is not None]
    known = [number(row["bytes"]) for row in rows if row["bytes"].strip()]
    return known[0] / material.manifest.artifacts["int8"].bytes if known else None


def _gate(material: Material) -> str:
    record, whole, gate = material.record, material.judged[0], material.manifest.gate
    verdict = f"The gate says **{gate.verdict}** ({gate.judged})." if gate else "The gate has not judged these files."
    drawn = "blocks" if record.words.get("block") else "single slices, for the record names no blocks"
    said = (
        f"{len(record)} slices that were sealed, ONNX Runtime's answers. {verdict}\n"
        f"What int8 loses against fp32, and with 95 % confidence at most: a paired bootstrap over {whole.blocks} {drawn}.\n"
        f"Both variants name the same label on {whole.agreement:.2%} of the slices."
    )
    rows = [_lost(line, *limits) for name, line in whole.lines.items() if (limits := allowed(name))]
    head = ["", "lost", "allowed", "lost at most", "allowed", ""]
    notes = "\n".join(f"- {note}" for note in (*gate.reasons, *gate.remarks)) if gate else ""
    return section("Is int8 as good as fp32?", said, table(head, rows), notes)


def _lost(line: Line, drop: float, upper: float) -> list[str]:
    proven = "not inferior" if not_inferior(line) else "**not proven**"
    return [line.name.replace("_", ", "), f"{line.drop:+.4f}", f"{drop:.2f}", f"{line.upper:+.4f}", f"{upper:.2f}", proven]


def not_inferior(line: Line) -> bool:
    """Whether int8 may lose that much of this number (models/gate.py judges the same)."""
    drop, upper = allowed(line.name) or (float("inf"), float("inf"))
    return line.drop <= drop + 1e-9 and line.upper <= upper + 1e-9


def _pitfalls(material: Material) -> str:
    title, rows = "The pitfalls of quantisation", material.rows("pitfalls.csv")
    if not rows:
        return section(title, missing("pitfalls.csv"))
    columns = ("accuracy", "sensitivity", "specificity", "agreement")
    told = [[row["method"], row["set"], row["slices"], *(share(number(row[c])) for c in columns)] for row in rows]
    fold = {row["method"]: number(row["accuracy"]) for row in rows if row["set"] == "fold" and row["method"] != "fp32"}
    best = max(fold, key=lambda method: fold[method], default="")
    said = (
        "The same fp32 network made int8 in several ways. Agreement: slices on which int8 names the same label as fp32. The last way is\n"
        "the one that serves: it saw everything that is learnt, 320 slices of calibration and 480 steps. The others are short runs (1,200\n"
        "slices, 160 of calibration, and 60 steps where labels teach): no fair rivals, and a slice more or less is chance."
    )
    if best:
        said += f"\nOn the fold {best} names most labels rightly, {share(fold[best])}."
    return section(title, said, table(["method", "set", "slices", *columns], told), picture("pitfalls", "Accuracy of each way to quantise"))


def _batches(material: Material) -> str:
    title, rows = "Does the batch change the answer?", material.rows("batches.csv")
    if not rows:
        return section(title, missing("batches.csv"))
    told = [[row["variant"], row["batch"], row["largest_difference"], _same(row["same_argmax"])] for row in rows]
    said = (
        "The same slices in batches of several sizes, against one by one: the largest difference of a logit, and whether a label changed."
    )
    return section(title, said, table(["variant", "batch", "largest difference", "same labels"], told))


def _same(word: str) -> str:
    """1 or true: all of them; anything between 0 and 1 is a share of the slices."""
    if yes(word):
        return "all"
    return f"**{number(word):.4f}**" if word.replace(".", "", 1).isdigit() else "**no**"


def _speed(material: Material) -> str:
    fp32, int8 = (material.manifest.artifacts[v].bytes for v in VARIANTS)
    size = f"fp32 {fp32 / 1e6:.2f} MB, int8 {int8 / 1e6:.2f} MB: {fp32 / int8:.2f} times smaller."
    rows = material.rows("speed.csv")
    if not rows:
        return section("Size and speed", size, missing("speed.csv"))
    told = [[*(row[c] for c in ("network", "runtime", "precision", "threads", "batch")), *_costs(row)] for row in rows]
    head = ["network", "runtime", "precision", "threads", "batch", "ms", "ms a slice", "MB"]
    plot = picture("speed", "Size and time of each network")
    said = (
        "How many times as long, and as large, as int8 of the bundled network in ONNX Runtime (1 is the same, below 1 the other is better):"
    )
    return section("Size and speed", size, _timed(material), table(head, told), said, _ratios(material), plot)


def _timed(material: Material) -> str:
    """How, on what, and of which files."""
    cpus = ", ".join(dict.fromkeys(row.get("cpu") or "a CPU that was not noted" for row in material.rows("speed.csv")))
    row, shipped = timed(material, INT8, THREADS[0]), material.manifest.artifacts["int8"].bytes
    other = "" if row is None or int(row["bytes"]) == shipped else " The files were those of another version of this model."
    return f"Medians of interleaved rounds on {cpus}; another CPU gives other ratios.{other}"


def _costs(row: Row) -> list[str]:
    ms, size = number(row["ms"]), row["bytes"].strip()
    return [f"{ms:.1f}", f"{ms / int(row['batch']):.2f}", f"{number(size) / 1e6:.2f}" if size else NONE]


def _ratios(material: Material) -> str:
    settings = sorted({(int(row["threads"]), int(row["batch"])) for row in material.rows("speed.csv")})
    head = ["", "size", *(f"{threads} thread{'s' * (threads > 1)}, batch {batch}" for threads, batch in settings)]
    rows = [[r.said, times(smaller(material, r)), *(times(faster(material, r, *s)) for s in settings)] for r in RIVALS]
    return table(head, rows)


def times(ratio: float | None) -> str:
    """3.55 x, or a dash."""
    return NONE if ratio is None else f"{ratio:.2f} x"


def _resnet(material: Material) -> str:
    title, rows = "An ordinary network of the same data: ResNet18", material.rows("resnet.csv")
    if not rows:
        return section(title, missing("resnet.csv"))
    columns = ("accuracy", "sensitivity", "specificity")
    told = [[row["set"], row["slices"], *(share(number(row[c])) for c in columns)] for row in rows]
    return section(
        title,
        "fp32, one label per slice, from random weights and for fewer steps than ours; trained once to compare with.",
        table(["set", "slices", *columns], told),
    )


def _phantoms(material: Material) -> str:
    title, rows = "Phantoms", list(material.rows("phantoms.csv"))
    if not rows:
        return section(title, missing("phantoms.csv"))
    groups: dict[tuple[str, str], list[Row]] = {("all", "all"): rows}
    for row in rows:
        groups.setdefault((row["plane"], "no tumour" if row["tumour"] == "none" else row["tumour"]), []).append(row)
    told = [[*group, *(recognised([row for row in here if row["variant"] == v]) for v in VARIANTS)] for group, here in groups.items()]
    said = "Painted heads, recognised for what they are. They test the software and are no evidence of how good the network is."
    return section(title, said, table(["plane", "painted", *VARIANTS], told))


def recognised(rows: list[Row]) -> str:
    """9/10, or a dash."""
    return f"{sum(yes(row['right']) for row in rows)}/{len(rows)}" if rows else NONE
