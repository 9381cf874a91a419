"""`vitalcheck verify`: does a report of ours reproduce from its study?

report > claim | instances | model | pipeline.run.repeat > claim | compare (listener/verify.py)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from listener import config as configuration
from listener import console, headers, logs
from listener.cli_input import NothingRead, instances, quiet
from listener.eligibility import can_answer
from listener.errors import VitalCheckError
from listener.selftest import OK, WRONG

if TYPE_CHECKING:
    from listener.verify import Check, Inputs
    from models.registry import Model
    from pipeline.claim import Claim
    from pipeline.records import Instance, Kind


class NotVerifiable(VitalCheckError):
    """A document, or a model, that nothing can be said with."""

    exit_code = 2


def verify(
    document: Annotated[Path, typer.Argument(metavar="SR", exists=True, dir_okay=False, help="A Structured Report of ours.")],
    study: Annotated[Path, typer.Option(exists=True, help="Folder with the instances of its study; it may hold more.")],
    model: Annotated[
        str | None, typer.Option(help="The model by name or the path of its folder (with a slash). Default: the one that the report names.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per check, the verdict last.")] = False,
) -> None:
    """Computes a report again from its study, and says whether it reproduces.

    Exactly, where ONNX Runtime and kind of CPU are those of the report; elsewhere the same class, and probabilities within a tolerance
    that is told. Takes the Measurements; given a Summary, it looks for them beside it and in the study's folder. The exit status is 0
    where the report reproduces, 1 where it does not, 2 where that cannot be told.

    \b
    vitalcheck verify results/1.2.3/measurements.dcm --study head/
    vitalcheck verify measurements.dcm --study head/ --model /srv/models/ct_head/
    """
    from listener import verify as compare

    quiet()
    held = _held(study)
    claim, given = _claim(document, held)
    if all(instance.study_uid != claim.study_uid for instance in held):
        raise NotVerifiable(f"{study}: holds no instance of the report's study {claim.study_uid}; name the folder of that study")
    loaded = _loaded(claim, model)
    there = compare.inputs(claim, held)
    sentences = "" if given == "measurements" else "; the sentences of the Summary are not compared"
    checks = [compare.Check("document", OK, f"Measurements {claim.sop_instance_uid}", f"study {claim.study_uid}"), _answered(claim)]
    checks += compare.of_inputs(claim, there, _sets(claim, there, held))
    points: float | None = compare.tolerance(loaded.manifest)
    again = "not computed, for instances are missing" if there.missing else _again(loaded, there)
    if isinstance(again, str):
        checks.append(compare.Check("answer", WRONG, claim.finding, again))
    else:
        points = None if compare.same_environment(claim, again) else points
        checks += [*compare.of_origin(claim, again), *compare.of_answer(claim, again, points)]
    _say(checks, compare.verdict(checks, points) + sentences, as_json)


def _held(study: Path) -> list[Instance]:
    """Raises NotVerifiable."""
    try:
        return instances(study)
    except NothingRead as error:
        raise NotVerifiable(str(error)) from error


def _claim(document: Path, held: Sequence[Instance]) -> tuple[Claim, Kind]:
    """What the Measurements say, and which document was given. Raises NotVerifiable."""
    from pipeline import claim

    said = claim.read(document)
    if said is None:
        raise NotVerifiable(f"{document}: no Structured Report of VitalCheck; give the Measurements of a result")
    if not said.evidence:
        raise NotVerifiable(f"{document}: says that nothing was analysed, so there is no answer to compute again")
    beside = [*document.parent.iterdir(), *(instance.path for instance in held if not can_answer(instance))]
    found = said if said.kind == "measurements" else _measurements(said, beside)
    if found is None:
        which = f"the Measurements of the same result (series 9002 of study {said.study_uid})"
        raise NotVerifiable(f"{document}: is a Summary, in sentences; give {which}")
    if not found.name or not found.parameter("weights sha256"):
        raise NotVerifiable(f"{document}: does not say which model and weights answered; give the document as it was sent")
    return found, said.kind


def _measurements(summary: Claim, paths: Iterable[Path]) -> Claim | None:
    """Those of the same result: made by the same weights from the same instances of the same study. Not at the same time: another
    language makes another Summary, and the Measurements stay.
    """
    from pipeline import claim

    def same(found: Claim) -> bool:
        return (found.study_uid, found.result, found.evidence) == (summary.study_uid, summary.result, summary.evidence)

    read = (claim.read(path) for path in paths if path.is_file())
    return next((found for found in read if found is not None and found.kind == "measurements" and same(found)), None)


def _loaded(claim: Claim, asked: str | None) -> Model:
    """The model that answered, with the variant that did. Raises NotVerifiable where it is not here, byte for byte."""
    from models import registry

    variant, weights = cast(Literal["int8", "fp32"], claim.parameter("variant")), claim.parameter("weights sha256")
    wanted = f"{claim.name} {claim.version}, {variant} weights sha256 {weights}, recipe {claim.parameter('recipe')}"
    try:
        entry = asked or _entry(claim.name, wanted)
        manifest = registry.read(entry)
        file = manifest.artifacts.get(variant)
        here = (
            f"{manifest.name} {manifest.version}, {variant} weights sha256 {file.sha256 if file else 'none'}, recipe {manifest.recipe.id}"
        )
        if here != wanted:
            raise NotVerifiable(f"the report is by {wanted}; here is {here}; give the folder of the report's model with --model")
        loaded = registry.load(entry, variant=variant)
    except registry.ModelRefused as error:
        raise NotVerifiable(f"the report is by {wanted}; {error}") from error
    if loaded.selector.variant != variant:
        why = loaded.selector.decision.reason if loaded.selector.decision else ""
        raise NotVerifiable(f"the report is by {wanted}; on this machine {why}; verify it on one that answers with {variant}")
    return loaded


def _entry(name: str, wanted: str) -> str:
    """The installed model of that name."""
    from models import registry

    known = registry.names()
    found = next((entry for entry in known if registry.read(entry).name == name), None)
    if found is None:
        raise NotVerifiable(
            f"the report is by {wanted}, which is not installed (installed: {', '.join(known) or 'none'}); give its folder with --model"
        )
    return found


def _sets(claim: Claim, there: Inputs, held: Sequence[Instance]) -> set[str]:
    """Digests of the study as it lies here: all of it, as `analyze` reads a folder, and images only, as the service judges."""
    read = {instance.sop_instance_uid: instance for instance in there.found}
    study = [read.get(i.sop_instance_uid, i) for i in held if i.study_uid == claim.study_uid]
    return {found.digest for some in (study, filter(can_answer, study)) for found in headers.group(some)}


def _answered(claim: Claim) -> Check:
    from listener.verify import Check

    return Check("model", OK, f"{claim.name} {claim.version}, {claim.parameter('variant')}", f"weights {claim.parameter('weights sha256')}")


def _again(model: Model, there: Inputs) -> Claim | str:
    """The Measurements computed again; or why that failed."""
    from listener.isolation import Isolated
    from pipeline import claim
    from pipeline.run import repeat

    limits = configuration.load().worker
    first = there.found[0]
    study = headers.group(replace(instance, series_uid=first.series_uid) for instance in there.found)[0]
    try:
        with Isolated(limits.decode_memory_bytes, limits.decode_seconds) as decoder:
            documents = repeat(study, model, datetime.now().astimezone(), decoder)
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer was not computed
        return logs.explain(error)
    return claim.parse(documents[-1].data) or "the document that was made again cannot be read"


def _say(checks: Sequence[Check], verdict: str, as_json: bool) -> None:
    reproduces = all(check.verdict != WRONG for check in checks)
    if as_json:
        for check in checks:
            console.say_json(check._asdict())
        console.say_json({"what": "verdict", "verdict": OK if reproduces else WRONG, "detail": verdict})
    else:
        console.say_table(("what", "", "in the report", "here"), list(_rows(checks)))
        console.say(verdict)
    if not reproduces:
        raise typer.Exit(1)


def _rows(checks: Sequence[Check]) -> Iterator[tuple[str, ...]]:
    """Cut where a value is longer than a line of a table; --json has it whole."""
    for check in checks:
        said, found = (_cut(str(value)) for value in (check.report, check.here))
        yield check.what, check.verdict, said, "the same" if check.report == check.here else found


def _cut(text: str, longest: int = 48) -> str:
    return text if len(text) <= longest or "changed: " in text or "missing: " in text else f"{text[: longest - 3]}..."
