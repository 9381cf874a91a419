"""Made-up measurements for the report: every file of docs/measured, and a gate's record with every column. Deterministic."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.record import Call, Record, StudyRow, write

FALSE = [
    ("healthy", "colin27", "axial", "lower", "", "", "", 40),
    ("healthy", "colin27", "axial", "upper", "meningioma", 7, 7, 3),
    ("volume", "btp01", "axial", "lower", "pituitary", 6, 6, 2),
]
LABELS = ("glioma", "meningioma", "pituitary", "notumor")
CLEAR = 3
ZOO = Path(__file__).parent.parent / "models" / "zoo" / "brain_tumor_4class"


def model(folder: Path) -> Path:
    """A folder with the bundled model's manifest and card, and a made-up record of the gate."""
    folder.mkdir(parents=True)
    for name in ("manifest.toml", "CARD.md"):
        shutil.copy(ZOO / name, folder / name)
    write(folder, record())
    return folder


def record(slices: int = 160) -> Record:
    """Mostly right; int8 is fp32 with a little noise."""
    rng = np.random.default_rng(0)
    truth = np.arange(slices) % 4
    fp32 = logits(truth, rng)
    words = {
        "file": [f"slices/{k:04d}.jpg" if k < 140 else f"volumes/btp06_1.nii.gz {k}" for k in range(slices)],
        "part": ["4" if k < 140 else "btp06" for k in range(slices)],
        "block": [f"b{k // 8}" for k in range(slices)],
        "stratum": ["normal" if label == CLEAR else ("obvious", "subtle")[k % 2] for k, label in enumerate(truth)],
        "plane": [("axial", "coronal", "sagittal")[k % 3] for k in range(slices)],
        "source": [("figshare", "web")[k % 2] if k < 140 else "volume" for k in range(slices)],
    }
    both = {"fp32": fp32, "int8": fp32 + rng.normal(0, 0.2, fp32.shape).astype(np.float32)}
    whole = Record(LABELS, "notumor", truth, both, words)  # type: ignore[arg-type]
    spoiled = replace(whole, logits={v: 0.5 * x for v, x in both.items()})  # type: ignore[misc]
    return replace(whole, spoiled=spoiled, studies=studies())


def studies() -> tuple[StudyRow, ...]:
    """Twelve that are right and one that int8 calls otherwise."""
    right = [(f"run b{k}", LABELS[k % 4], Call("absent" if k % 4 == CLEAR else "present", LABELS[k % 4], 0.97)) for k in range(12)]
    rows = [StudyRow(name, truth, 8, {"fp32": call, "int8": call}) for name, truth, call in right]
    return (*rows, StudyRow("run b99", "glioma", 8, {"fp32": right[0][2], "int8": Call("unsure", "meningioma", 0.51)}))


def logits(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(slice, label): the true label stands out, most of the time; the absent label is 0."""
    found = rng.normal(-2.0, 1.6, (len(truth), 4)) + 5.5 * np.eye(4)[truth]
    return (found - found[:, [CLEAR]]).astype(np.float32)


def measured(docs: Path) -> Path:
    """`docs` with every file of docs/measured."""
    folder = docs / "measured"
    folder.mkdir(parents=True)
    for name, (head, rows) in {**_runs(), **_heads(), **_quantised()}.items():
        with (folder / name).open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([head.split(","), *rows])
    return docs


def _runs() -> dict[str, tuple[str, list[Sequence[object]]]]:
    sizes = (160, 160, 160, 160, 192, 192, 224, 224)
    curve = [("alone", k + 1, size, f"{0.9 * 0.75**k:.4f}", 100 + size) for k, size in enumerate(sizes)]
    curve += [("taught", k + 1, size, f"{0.3 * 0.9**k:.4f}", 300) for k, size in enumerate((160, 224))]
    ablation = [(c, p, 200, 0.9, 0.93, s, 0.88) for c, s in (("evidence map", 0.97), ("one label per slice", 0.85)) for p in ("0", "btp01")]
    phantoms = [
        (
            tumour,
            plane,
            seed,
            v,
            "absent" if tumour == "none" else "present",
            "notumor" if tumour == "none" else tumour,
            0.98,
            int(seed != 1),
        )
        for tumour in ("glioma", "meningioma", "pituitary", "none")
        for plane in ("axial", "coronal", "sagittal")
        for seed in range(1, 12)
        for v in ("fp32", "int8")
    ]
    return {
        "curve.csv": ("stage,epoch,size,loss,seconds", curve),
        "learnt.csv": ("source,part,learnt,sealed", [("figshare", "0", 120, 0), ("figshare", "4", 0, 120), ("volume", "btp06", 0, 20)]),
        "ablation.csv": ("configuration,part,slices,accuracy,sensitivity,specificity,class_right", ablation),
        "phantoms.csv": ("tumour,plane,seed,variant,call,label,probability,right", phantoms),
    }


def _heads() -> dict[str, tuple[str, list[Sequence[object]]]]:
    rng, rows = np.random.default_rng(1), []
    for part in ("0", "1", "2", "3", "btp01", "btp02", "web", "colin27"):
        source = {"web": "web", "colin27": "healthy"}.get(part, "volume" if part.startswith("btp") else "figshare")
        truth = np.full(24, CLEAR) if source == "healthy" else np.arange(24) % 4 if source != "volume" else np.arange(24) % 2 * CLEAR
        for k, (label, said) in enumerate(zip(truth, logits(truth, rng), strict=True)):
            where = ("", "") if label == CLEAR else (int(k % 20 != 1), f"{0.6 + 0.01 * (k % 20):.3f}")
            run = "web" if part == "web" else "fold0"
            words = (run, part, source, "axial", "normal" if label == CLEAR else "obvious", f"{part} {k // 8}", f"{part}/{k}.jpg")
            rows.append((*words, LABELS[label], *(f"{x:.4f}" for x in said), "0 0 0 0", int(part == "web"), *where))
    called = ("glioma", 20, "present", "glioma", 0.99, 1, 0.71, 10, 9, 0)
    studies = [("fold0", "volume", f"btp0{k}_{date}", *called) for k in (1, 2) for date in (1, 2)]
    studies += [
        ("heads", "healthy", f"colin27 {plane}", "notumor", 60, "absent", "notumor", 0.98, "", "", 0, 0, 1)
        for plane in ("axial", "coronal", "sagittal")
    ]
    studies += [("fold1", "run", f"run b{k}", LABELS[k % 4], 8, "present", "glioma", 0.9, 1, "", 8, 8, 0) for k in range(8)]
    logit_names = ",".join(f"fp32_{label}" for label in LABELS)
    return {
        "leave_out.csv": (f"run,part,source,plane,stratum,block,file,truth,{logit_names},added,teachers,pointed,dice", rows),
        "lessons.csv": (
            "run,network,part,slices,accuracy,sensitivity,specificity,class_right,pointed",
            [
                ("web", network, "web", 126, share, 0.95, "", 0.8, 0.9)
                for network, share in (("alone, beginning 1", 0.85), ("taught", 0.84))
            ],
        ),
        "false_cells.csv": ("kind,part,plane,third,said,row,column,slices", FALSE),
        "leave_out_studies.csv": ("run,kind,study,truth,slices,call,label,probability,key_inside,dice,tumour_slices,found,false", studies),
    }


def _quantised() -> dict[str, tuple[str, list[Sequence[object]]]]:
    methods = ("PTQ, MinMax", "PTQ, histogram", "PTQ, obvious cases only", "QAT, naive", "QAT taught by fp32", "fp32")
    sets = ("fold 3", "patients", "web", "healthy heads")
    pitfalls = [
        (m, s, 200, f"{0.99 - 0.02 * i - 0.015 * j:.3f}", 0.95, 0.96, 0.97) for i, m in enumerate(methods) for j, s in enumerate(sets)
    ]
    batches = [(v, size, "0.0000" if v == "int8" else "0.0012", 1) for v in ("fp32", "int8") for size in (2, 4, 24)]
    costs = {  # ms on one thread at batch 24, bytes
        ("brain_tumor_4class", "ONNX Runtime", "fp32"): (204.0, 11955375),
        ("brain_tumor_4class", "ONNX Runtime", "int8"): (92.0, 3363395),
        ("brain_tumor_4class", "PyTorch", "fp32"): (700.0, ""),
        ("brain_tumor_4class", "OpenVINO", "int8"): (88.0, 3400000),
        ("ResNet18", "ONNX Runtime", "fp32"): (690.0, 44700000),
        ("ResNet18", "PyTorch", "fp32"): (980.0, 44800000),
    }
    speed = [(*k, t, b, f"{ms * (b / 24) / t**0.8:.2f}", size, "A CPU") for k, (ms, size) in costs.items() for t in (1, 2) for b in (1, 24)]
    return {
        "pitfalls.csv": ("method,set,slices,accuracy,sensitivity,specificity,agreement", pitfalls),
        "batches.csv": ("variant,batch,largest_difference,same_argmax", batches),
        "speed.csv": ("network,runtime,precision,threads,batch,ms,bytes,cpu", speed),
        "resnet.csv": (
            "set,slices,accuracy,sensitivity,specificity",
            [("fold 3", 600, 0.93, 0.97, 0.95), ("healthy heads", 400, "", "", 0.9)],
        ),
    }
