"""Leave something out, train, and read it: how good the network is on heads that it has never seen. Fold 4 and btp06 stay sealed.

    python -m scripts.leave_out --data DIR --head S1.nii.gz --healthy mni152.nii.gz
    python -m scripts.leave_out --data DIR --run fold0

    read > for each run: train without its parts > be taught further > read these parts with the network > rows, maps

Writes docs/measured/leave_out.csv (names of files, truth, logits; no pictures) and `--work`/<run>/maps.npz, which scripts/study_rule.py
reads; of networks that others taught docs/measured/lessons.csv, too: what each was worth alone. A run that is done is not trained again.
scripts/ablation.py asks the same way what each ingredient is worth.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from models.training.data import Samples, strata, widened
from models.training.loop import OtherRun, Plan, fingerprint, train_fp32
from models.training.network import Network, adjusted, against, strongest
from models.training.teachers import refuse_a_stale_lesson, taught_further
from scripts.datasets import DataError, Examples
from scripts.learnt import ADDED, CLEAR, FEED, FULL, NAMES, NOTHING, added_for, digest, measured_heads, read, samples, written
from scripts.report.material import PATIENTS
from scripts.study_rule import head_area
from scripts.tables import rows_of, write

WIDENED = 11  # pixels of 224: about 5 mm to every side (the pointing game's slightly widened mask)
HEADS = ("healthy",)  # sources whose parts are healthy heads; those of PATIENTS are patients, all others folds
PAINTED = "colin27"  # the head that phantoms are painted into: whoever leaves it out leaves them out
HANDS = 5  # that patients are dealt to at least, where there are so many: a network that learns no patient tells little
Rows = NDArray[np.bool_]
Choice = Callable[[Examples], Rows]
Parts = Mapping[str, Choice]

app = typer.Typer(add_completion=False)


def part(name: str) -> Choice:
    return lambda examples: (np.array(examples.parts) == name) & (np.array(examples.sources) != "phantom")


def web_tumours(examples: Examples) -> Rows:
    return np.asarray((np.array(examples.sources) == "web") & (examples.labels != CLEAR))


def second_half(examples: Examples) -> Rows:
    """Of the original numbering of each tumour class of Cheng's pictures: other patients, and nearly another time."""
    found = np.zeros(len(examples), bool)
    for label in set(examples.labels.tolist()) - {CLEAR}:
        rows = np.flatnonzero((np.array(examples.sources) == "figshare") & (examples.labels == label))
        order = rows[np.argsort(np.array(examples.blocks)[rows], kind="stable")]  # blocks are named in the order of the numbering
        found[order[len(order) // 2 :]] = True
    return found


def runs(examples: Examples) -> dict[str, Parts]:
    """What is left out together: each fold, with some of the patients; pictures of another origin with the last patients and the bundled
    head; the second half. Patients are dealt to the folds and that run, and to runs of their own where folds are few: of several never are
    all left out at once. A part without slices is none, a run without parts neither.
    """
    patients, pictures = _named(examples, PATIENTS), _named(examples, (*PATIENTS, *HEADS, "phantom"), others=True)
    hands = max(len(pictures) + 1, min(HANDS, len(patients)))
    *dealt, last = (patients[k::hands] for k in range(hands))
    names = [f"fold{fold}" for fold in pictures] + [f"patients{k}" for k in range(len(pictures), hands - 1)]
    found: dict[str, Parts] = {
        name: {held: part(held) for held in (*pictures[k : k + 1], *hand)} for k, (name, hand) in enumerate(zip(names, dealt, strict=True))
    }
    found |= {"web": {"web": web_tumours, **{held: part(held) for held in (*last, PAINTED)}}, "half": {"second half": second_half}}
    there = {run: {name: rows for name, rows in parts.items() if rows(examples).any()} for run, parts in found.items()}
    return {run: parts for run, parts in there.items() if parts}


def _named(examples: Examples, sources: Sequence[str], *, others: bool = False) -> list[str]:
    """Names of the parts of `sources`, or of the others."""
    pairs = zip(examples.parts, examples.sources, strict=True)
    return sorted({name for name, source in pairs if (source in sources) != others})


def left_out(examples: Examples, parts: Parts) -> Rows:
    """Everything that must not be learnt so that `parts` are new."""
    rows = np.any([choose(examples) for choose in parts.values()], axis=0)
    return np.asarray(rows | ((np.array(examples.sources) == "phantom") & (PAINTED in parts)))


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="folder in one of the layouts of docs/data.md")],
    head: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that is learnt")] = [],  # noqa: B006 - typer reads it
    healthy: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that no run learns")] = [],  # noqa: B006
    work: Annotated[Path, typer.Option(help="checkpoints and maps")] = Path("runs/leave_out"),
    out: Annotated[Path, typer.Option(help="folder of the table")] = Path("docs/measured"),
    run: Annotated[
        list[str], typer.Option(help="only these: fold0 ..., web, half; patients0 ... where there are more patients than folds")
    ] = [],  # noqa: B006
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="go on without files that cannot be read; they are listed")] = False,
    nothing_added: Annotated[
        bool, typer.Option("--nothing-added", help="add nothing to evidence, as a training with --learned-from does")
    ] = False,
    teachers: Annotated[int, typer.Option(min=0, help="other networks for each run, of other seeds, that teach its network further")] = 0,
) -> None:
    """Trains without parts of DATA and reads them."""
    torch.set_num_threads(2)
    try:
        examples, others = read(data, head, skip_bad=skip_bad, leave_out=True), measured_heads(healthy, head)
        examples = examples.take(~examples.sealed)
        known = runs(examples)
        if wrong := set(run) - known.keys():
            raise DataError(f"--run {', '.join(sorted(wrong))}: no such run with this data; there are {', '.join(known)}")
        for name in run or known:
            added = NOTHING if nothing_added else added_for(teachers)
            leave_out(name, known[name], examples, others, FULL, work / name, added, teachers)
    except (DataError, OtherRun) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    collect(work, out / "leave_out.csv", known)


def leave_out(
    name: str,
    parts: Parts,
    examples: Examples,
    others: Examples | None,
    plan: Plan,
    work: Path,
    added: Sequence[float] = ADDED,
    teachers: int = 0,
) -> None:
    """Trains without `parts`, has `teachers` of other seeds that learnt the same teach it further, adds `added` to each label's
    evidence, and writes rows and maps of them and of `others`. Raises OtherRun where `work` holds another run.
    """
    learnt = examples.take(~left_out(examples, parts))
    sets = {**{title: examples.take(choose(examples)) for title, choose in parts.items()}, **_by_part(others)}
    of = _digest(plan, learnt, sets, added, teachers)
    if _done(work / "maps.npz", of):
        return
    *alone, network = _trained(samples(learnt), plan, work, teachers)
    rows, maps = _read(name, network, sets, added, teachers)
    write(work / "rows.csv", rows)
    (work / "lesson.csv").unlink(missing_ok=True)
    if alone:
        untaught = added_for(0) if any(added) else NOTHING
        every = {f"alone, beginning {k}": _read(name, one, sets, untaught, 0)[0] for k, one in enumerate(alone, 1)}
        write(work / "lesson.csv", list(_lesson(name, {**every, "beginning 1, taught further": rows})))
    masks = np.concatenate([found.masks[:, ::2, ::2] > 0 for found in sets.values()])  # at half the size
    areas = np.concatenate([head_area(found) for found in sets.values()])
    with (work / "maps.part").open("wb") as stream:
        np.savez_compressed(stream, maps=np.concatenate(maps), head_area=areas, masks=masks, of=np.array(of))
    (work / "maps.part").replace(work / "maps.npz")


def _trained(learnt: Samples, plan: Plan, work: Path, teachers: int) -> list[Network]:
    """The network; where there are `teachers`, it and they as they were alone, and last the network as they taught it."""
    refuse_a_stale_lesson(work, teachers)
    network = train_fp32(learnt, FEED, plan, work)
    seeds = [plan.seed + 100 * (k + 1) for k in range(teachers)]
    others = [train_fp32(learnt, FEED, replace(plan, seed=seed), work / f"seed{seed}") for seed in seeds]
    alone = [copy.deepcopy(network), *others] if others else []
    return [*alone, taught_further(network, others, learnt, FEED, plan, work)]


def _read(
    name: str, network: Network, sets: Mapping[str, Examples], added: Sequence[float], teachers: int
) -> tuple[list[dict[str, object]], list[NDArray[np.float16]]]:
    """Rows and maps of `sets`, as `network` with `added` sees them."""
    network, rows, maps = adjusted(network, added), [], []
    for title, found in sets.items():
        evidence = evidence_of(network, found)
        rows += [{"run": name, "part": title, **row} for row in _rows(found, evidence, added, teachers)]
        maps.append(evidence.astype(np.float16))
    return rows, maps


def _lesson(run: str, every: Mapping[str, Sequence[Mapping[str, object]]]) -> Iterator[dict[str, object]]:
    """Rows of lessons.csv: what each network of a run reached alone, and what the lesson made of it."""
    for network, rows in every.items():
        for line in summary(network, [{key: str(value) for key, value in row.items()} for row in rows]):
            yield {"run": run, "network": line.pop("configuration"), **line}


def networks_of(work: Path, examples: Examples, plan: Plan) -> list[Network]:
    """What every run with `examples` made in `work`, before it was taught further. Raises DataError where one is not whole, or learnt other
    slices than its run with `examples`: it may have seen what is sealed.
    """
    return [_network_of(work / name / "fp32.pt", examples.take(~left_out(examples, parts)), plan) for name, parts in runs(examples).items()]


def _network_of(path: Path, learnt: Examples, plan: Plan) -> Network:
    if not path.exists():
        raise DataError(f"{path}: is not there; python -m scripts.leave_out with the same --data and --head makes it (--work)")
    try:
        saved, network = torch.load(path, map_location="cpu", weights_only=True), Network()
    except Exception as error:  # a file that is cut off or another fails in many ways
        raise DataError(f"{path}: is no checkpoint ({type(error).__name__}); remove it, and run scripts.leave_out again") from error
    if saved["epochs"] != len(plan.sizes):
        raise DataError(f"{path}: has {saved['epochs']} of {len(plan.sizes)} epochs; the same scripts.leave_out goes on with it")
    if saved.get("of") != fingerprint(samples(learnt), plan):
        raise DataError(f"{path}: learnt other slices, or by another plan; run scripts.leave_out with the same --data and --head")
    network.load_state_dict(saved["network"])
    return network.eval()


def _digest(plan: Plan, learnt: Examples, sets: Mapping[str, Examples], added: Sequence[float], teachers: int) -> str:
    read_by = [f"{title}: {name}" for title, found in sets.items() for name in found.names]
    taught_by = [f"{teachers} of other seeds"] if teachers else []
    return hashlib.sha256("\n".join([digest(plan, learnt, added, taught_by), *read_by]).encode()).hexdigest()


def _done(maps: Path, of: str) -> bool:
    if not maps.exists():
        return False
    with np.load(maps) as stored:
        if str(stored["of"]) == of:
            return True
    what = (
        "name another --work, or remove it; where only what is added is another, its maps.npz alone, where its teachers are others, "
        "its taught.pt, too: then no network is trained again from the start"
    )
    raise OtherRun(f"{maps.parent}: holds a run of another plan or other slices; {what}")


def _by_part(examples: Examples | None) -> dict[str, Examples]:
    if examples is None:
        return {}
    return {name: examples.take(np.array(examples.parts) == name) for name in dict.fromkeys(examples.parts)}


def evidence_of(network: Network, examples: Examples) -> NDArray[np.float32]:
    """(slice, label, 14, 14) of the fp32 network."""
    network = network.eval()
    with torch.no_grad():
        grey = torch.from_numpy(examples.images)
        found: NDArray[np.float32] = torch.cat([against(network(FEED(part.float()[:, None])), CLEAR) for part in grey.split(32)]).numpy()
    return found


def _rows(examples: Examples, evidence: NDArray[np.float32], added: Sequence[float], teachers: int) -> Iterator[dict[str, object]]:
    logits = strongest(torch.from_numpy(evidence)).numpy()
    pointed = points(evidence, examples)
    for k, stratum in enumerate(strata(samples(examples))):
        yield {
            "source": examples.sources[k],
            "plane": examples.planes[k],
            "stratum": stratum,
            "block": examples.blocks[k],
            "file": examples.names[k],
            "truth": NAMES[examples.labels[k]],
            **{f"fp32_{name}": f"{logit:.3f}" for name, logit in zip(NAMES, logits[k], strict=True)},
            "added": written(added),
            "teachers": teachers,
            **pointed[k],
        }


def points(evidence: NDArray[np.float32], examples: Examples) -> list[dict[str, str]]:
    """For each slice with a drawn tumour: does the strongest cell of its label lie in the widened mask, and Dice of
    evidence above 0.
    """
    found = []
    for cells, mask, label in zip(evidence, examples.masks, examples.labels, strict=True):
        if not mask.any():
            found.append({"pointed": "", "dice": ""})
            continue
        side = mask.shape[0] / cells.shape[-1]
        row, column = ((np.array(np.unravel_index(cells[label].argmax(), cells[label].shape)) + 0.5) * side).astype(int)
        wide = widened(torch.from_numpy(mask)[None, None].float(), WIDENED)[0, 0].numpy() > 0
        full = (
            torch.nn.functional.interpolate(torch.from_numpy(cells[label])[None, None], size=mask.shape, mode="bilinear")[0, 0].numpy() > 0
        )
        dice = 2 * float((full & (mask > 0)).sum()) / float(full.sum() + mask.sum())
        found.append({"pointed": str(int(wide[row, column])), "dice": f"{dice:.3f}"})
    return found


def summary(title: str, rows: Sequence[Mapping[str, str]]) -> Iterator[dict[str, object]]:
    for name in dict.fromkeys(row["part"] for row in rows):
        of_part = [row for row in rows if row["part"] == name]
        truth = np.array([NAMES.index(row["truth"]) for row in of_part])
        said = np.array([[float(row[f"fp32_{label}"]) for label in NAMES] for row in of_part]).argmax(1)
        tumour, found = truth != CLEAR, (truth != CLEAR) & (said != CLEAR)
        pointed = [row["pointed"] == "1" for row in of_part if row["pointed"]]
        shares = {
            "accuracy": truth == said,
            "sensitivity": said[tumour] != CLEAR,
            "specificity": said[~tumour] == CLEAR,
            "class_right": (truth == said)[found],
            "pointed": np.array(pointed),
        }
        told = {key: f"{hits.mean():.3f}" if len(hits) else "" for key, hits in shares.items()}
        yield {"configuration": title, "part": name, "slices": len(of_part), **told}


def collect(work: Path, table: Path, names: Sequence[str] | Mapping[str, object]) -> None:
    """The rows of every run that is done into `table`, where rows of runs that `work` does not hold stay; a summary on stdout."""
    rows: list[Mapping[str, str]] = []
    kept = rows_of(table) if table.exists() else []
    for name in dict.fromkeys([*names, *(row["run"] for row in kept)]):
        path = work / name / "rows.csv"
        found = rows_of(path) if path.exists() else [row for row in kept if row["run"] == name]
        found = [{**row, "teachers": row.get("teachers", "0")} for row in found]  # older ones had none
        rows += found
        for line in summary(name, found):
            print("  ".join(f"{value!s:>12}" for value in line.values()))
    write(table, rows)
    lessons = table.with_name("lessons.csv")
    told = [row for name in names if (work / name / "lesson.csv").exists() for row in rows_of(work / name / "lesson.csv")]
    kept = rows_of(lessons) if lessons.exists() else []
    told += [row for row in kept if row["run"] not in {line["run"] for line in told}]
    if told:
        write(lessons, told)


if __name__ == "__main__":
    app()
