"""Trains, quantises, judges and documents the image network: one command, resumable.

    python -m scripts.train_image_model --data DIR --out models/zoo/brain_tumor_4class

    read > fp32 > be taught further > QAT > export > answers of ONNX Runtime on what was sealed > gate > golden vectors > manifest > publish
         > report, card

Trained on folds 0-3, patients 01-05, the bundled healthy head, phantoms and every `--head`; fold 4 and patient 06 are for the gate alone.
`--healthy` names healthy heads that are only measured. Checkpoints lie in `--work`: the same command goes on where it was cut off; another
plan wants another `--work`. Exit code 1: the gate rejected int8, so fp32 serves; 2: data or options are wrong.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from pydantic import ValidationError
from torch import nn

from models import gate, golden, record
from models.manifest import Artifact, DataSource, GateVerdict, Manifest, StudyRule, Trait, sha256, write
from models.runtime import Session
from models.training.export import check_answers, check_integers, export
from models.training.loop import OtherRun, Plan, train_fp32
from models.training.network import Network, adjusted
from models.training.qat import Rounding, quantise
from models.training.teachers import refuse_a_stale_lesson, taught_further, weights_digest
from pipeline.records import Variant
from scripts import model_report
from scripts.datasets import DataError, Examples
from scripts.judged import judged
from scripts.learnt import (
    ADDED,
    CLEAR,
    FEED,
    FULL,
    NAMES,
    NOTHING,
    QUICK,
    added_for,
    digest,
    measured_heads,
    read,
    samples,
    tensor,
    written,
)
from scripts.leave_out import networks_of
from scripts.model_card import (
    ABSENT,
    COLIN,
    HEADS,
    LABELS,
    LEARNED_FROM,
    LIMITS,
    LIMITS_OF_OTHERS,
    NAME,
    RECIPE,
    RULE,
    RULE_OF_OTHERS,
    SETS,
    START,
    study_rule,
)
from scripts.report.material import MaterialError
from scripts.tables import rows_of
from scripts.tables import write as write_rows
from scripts.typical import ranges

GOLDEN_TOLERANCE = 0.25  # logits: five steps of the int8 map (0.05 each); a wrong kernel is off by whole logits
VERSION = "1.6.1"
Sessions = dict[Variant, Session]
Ranges = dict[Trait, tuple[float, float]]
PART = 256  # slices at once
OWN, OWN_VERSION = "own_brain_tumor_4class", "1.0.0"  # of a model that learnt from other data than ours


class About(NamedTuple):
    """What a manifest tells about its model in words."""

    name: str
    version: str
    sources: Sequence[DataSource] = LEARNED_FROM
    limits: Sequence[str] = LIMITS


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="folder in one of the layouts of docs/data.md")],
    out: Annotated[Path, typer.Option(help="folder of the model; its files are replaced")] = Path("models/zoo/brain_tumor_4class"),
    work: Annotated[Path, typer.Option(help="checkpoints and the curve; a run that was cut off goes on from here")] = Path("runs/train"),
    head: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) to learn from; may be given several times")] = [],  # noqa: B006
    healthy: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that is judged and never learnt")] = [],  # noqa: B006
    docs: Annotated[Path, typer.Option(help="folder of the report: model-report.md, model-card.md, measured/")] = Path("docs"),
    device: Annotated[str, typer.Option(help="where fp32 learns: cpu, cuda, cuda:1 ...")] = "cpu",
    teachers: Annotated[
        Path | None, typer.Option(help="--work of scripts.leave_out with the same data and --head: its networks teach this one further")
    ] = None,
    seven_bits: Annotated[bool, typer.Option("--seven-bits", help="weights of 7 bits, for x86 without VNNI")] = False,
    learned_from: Annotated[
        list[str],
        typer.Option(
            metavar="NAME|LICENCE|CITATION", help="what DATA and --head are (then nothing is added to evidence); else our sets are named"
        ),
    ] = [],  # noqa: B006
    name: Annotated[
        str, typer.Option(help="of the model of --learned-from, in reports and configurations; a node serves one of a name")
    ] = OWN,
    version: Annotated[str, typer.Option(help="of the model of --learned-from, in reports")] = OWN_VERSION,
    quick: Annotated[bool, typer.Option("--quick", help="a run of minutes: its artifacts work, and are not to be relied on")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="go on without files that cannot be read; they are listed")] = False,
    leave_out: Annotated[bool, typer.Option("--leave-out-leaks", help="leave out of training what a sealed slice shows too")] = False,
) -> None:
    """Learn from DATA, judge on what was sealed, and put the artifacts into OUT."""
    torch.set_num_threads(2)
    if quick and teachers:
        raise typer.BadParameter("a lesson of whole epochs is no run of minutes; leave --quick or --teachers out", param_hint="--teachers")
    if not learned_from and (name, version) != (OWN, OWN_VERSION):
        raise typer.BadParameter("it names a model of other data than ours; say with --learned-from what these are", param_hint="--name")
    _refuse_name(name, version)
    _refuse_device(device)
    work, plan = (work / "quick", QUICK) if quick else (work, FULL)
    try:
        examples, measured = read(data, head, skip_bad=skip_bad, leave_out=leave_out), measured_heads(healthy, head)
        taught_by = networks_of(teachers, examples.take(~examples.sealed), FULL) if teachers else []
    except DataError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    ours = not learned_from  # what is added, and when a study is absent, was chosen on parts of our own sets
    about = About(NAME, VERSION, [*SETS, COLIN, *_heads(head), START], LIMITS)
    if not ours:
        about = About(name, version, [*map(_source, learned_from), COLIN, START], LIMITS_OF_OTHERS)
    added, rule = (added_for(len(taught_by)), study_rule(len(taught_by))) if ours else (NOTHING, RULE_OF_OTHERS)
    rounding = Rounding(reduce_range=seven_bits)
    try:
        manifest = run(
            examples,
            measured,
            out,
            work,
            docs,
            plan,
            about._replace(version="0.0.0") if quick else about,
            device=device,
            rounding=rounding,
            added=added,
            rule=rule,
            teachers=taught_by,
        )
    except (OtherRun, MaterialError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    said = manifest.gate
    if said is not None:
        print(f"{manifest.name} {manifest.version}: {said.verdict}", *said.reasons, *said.remarks, sep="\n  ")
    if said is not None and said.verdict != "APPROVED":
        print(f"{out}: int8 is not served, fp32 answers", file=sys.stderr)
        raise typer.Exit(1)


def _refuse_name(name: str, version: str) -> None:
    """Before the data are read: a manifest must be able to hold it, and the bundled model's is taken. Raises BadParameter."""
    if name == NAME:
        raise typer.BadParameter(f"{NAME} is the bundled model; reports must tell yours from it", param_hint="--name")
    try:
        Manifest(name=name, version=version, labels=list(LABELS))
    except ValidationError as error:
        said = "; ".join(f"{e['loc'][0]} {e['input']!r}: {e['msg']}" for e in error.errors())
        raise typer.BadParameter(said, param_hint="--name, --version") from error


def _refuse_device(device: str) -> None:
    """Before the data are read: PyTorch must be able to use it. Raises BadParameter."""
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # each kind of device fails in a way of its own
        raise typer.BadParameter(f"{device}: {str(error).partition(chr(10))[0]}; cpu works everywhere", param_hint="--device") from error


def _heads(paths: Sequence[Path]) -> list[DataSource]:
    """What heads are, by their bytes; of one that docs/data.md does not know nothing is made up."""
    return list(dict.fromkeys(HEADS.get(sha256(path), _unknown(path.name)) for path in paths))


def _unknown(name: str) -> DataSource:
    return DataSource(name=f"Healthy head {name}", licence="not told", citation="--head of the training; --learned-from tells more")


def _source(text: str) -> DataSource:
    parts = [part.strip() for part in text.split("|")]
    if len(parts) != 3 or not all(parts):
        raise typer.BadParameter(f"{text!r}: written as 'NAME|LICENCE|CITATION'", param_hint="--learned-from")
    return DataSource(name=parts[0], licence=parts[1], citation=parts[2])


def run(
    examples: Examples,
    measured: Examples | None,
    out: Path,
    work: Path,
    docs: Path,
    plan: Plan,
    about: About,
    *,
    device: str = "cpu",
    rounding: Rounding = Rounding(),  # noqa: B008 - frozen
    added: Sequence[float] = ADDED,
    rule: StudyRule = RULE,
    teachers: Sequence[Network] = (),
) -> Manifest:
    """The whole run; returns the manifest that it wrote. Raises ExportError."""
    learnt, sealed = examples.take(~examples.sealed), examples.take(examples.sealed)
    refuse_a_stale_lesson(work, len(teachers))
    trained = train_fp32(samples(learnt), FEED, plan, work, device)
    network = adjusted(taught_further(trained, teachers, samples(learnt), FEED, plan, work, device), added)
    twin = quantise(network, samples(learnt), FEED, plan, work, rounding)
    new = work / "artifacts"
    of = digest(plan, learnt, added, [weights_digest(teacher) for teacher in teachers])
    said = {"training": of, "data": "; ".join(source.citation for source in about.sources), "added": written(added)}
    sessions = _export(new, network, twin, said)
    check_answers(network, CLEAR, sessions["fp32"].run, tensor(torch.from_numpy(sealed.images[:32])), new / "model_fp32.onnx")
    check_integers(new / "model_int8.onnx")
    typical = ranges(map(tensor, torch.from_numpy(learnt.images).split(PART)), RECIPE)
    manifest = _described(new, about, sessions, rule, len(teachers), typical)
    found = judged(sealed, measured, sessions, manifest)
    record.write(new, found)
    manifest = manifest.model_copy(update={"gate": _verdict(found, manifest, sessions)})
    write(new / "manifest.toml", manifest)
    _publish(new, out)
    (docs / "measured").mkdir(parents=True, exist_ok=True)
    write_rows(docs / "measured" / "curve.csv", list(_curve(work, taught=bool(teachers))))
    write_rows(docs / "measured" / "learnt.csv", list(counted(examples)))
    model_report.render(docs, out)
    return manifest


def _curve(work: Path, *, taught: bool) -> Iterator[Mapping[str, object]]:
    """Every epoch of fp32, and of its lesson."""
    for stage, name in (("alone", "curve.csv"), ("taught", "taught.csv"))[: 1 + taught]:
        yield from ({"stage": stage, **row} for row in rows_of(work / name))


def counted(examples: Examples) -> Iterator[dict[str, object]]:
    """How many slices of each source and part were learnt, and how many were sealed."""
    rows = Counter(zip(examples.sources, examples.parts, examples.sealed.tolist(), strict=True))
    for source, part in sorted({(source, part) for source, part, _ in rows}):
        yield {"source": source, "part": part, "learnt": rows[source, part, False], "sealed": rows[source, part, True]}


def _export(folder: Path, network: Network, twin: nn.Module, said: dict[str, str]) -> Sessions:
    """Both files in `folder`, opened."""
    folder.mkdir(exist_ok=True)
    nets: dict[Variant, nn.Module] = {"fp32": network, "int8": twin}
    for variant, net in nets.items():
        export(net, folder / f"model_{variant}.onnx", labels=NAMES, absent=ABSENT, recipe_id=RECIPE.id, said=said)
    return {variant: Session(folder / f"model_{variant}.onnx") for variant in nets}


def _described(folder: Path, about: About, sessions: Sessions, rule: StudyRule, taught_by: int, typical: Ranges) -> Manifest:
    """The manifest, not judged yet, and golden.npz beside it."""
    recipe, files = RECIPE, {v: folder / f"model_{v}.onnx" for v in sessions}
    return Manifest(
        name=about.name,
        version=about.version,
        labels=list(LABELS),
        absent=ABSENT,
        recipe_id=recipe.id,
        recipe=recipe,
        rule=rule,
        taught_by=taught_by,
        artifacts={v: Artifact(file=path.name, sha256=sha256(path), bytes=path.stat().st_size) for v, path in files.items()},
        golden=golden.write(folder, recipe, {str(v): session for v, session in sessions.items()}, GOLDEN_TOLERANCE),
        learned_from=list(about.sources),
        limits=list(about.limits),
        typical=typical,
    )


def _verdict(found: record.Record, manifest: Manifest, sessions: Sessions) -> GateVerdict:
    digests = (manifest.artifacts["fp32"].sha256, manifest.artifacts["int8"].sha256)
    batches = {variant: golden.batches(session, golden.many(manifest.recipe)) for variant, session in sessions.items()}
    today = datetime.now(UTC).date()
    return gate.judge(found, digests=digests, on=today, batches=batches, temperature=manifest.rule.temperature)


def _publish(new: Path, out: Path) -> None:
    """Moves the artifacts to `out`, the manifest last: until then the old manifest's digests refuse what is half there."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(new.iterdir(), key=lambda p: p.name == "manifest.toml"):
        part = out / (path.name + ".part")
        part.write_bytes(path.read_bytes())
        part.replace(out / path.name)


if __name__ == "__main__":
    app()
