"""`vitalcheck studies`: the ledger, from the outside. Works beside a running service and without one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from listener import config, console, view
from listener.ledger import Ledger
from listener.schema import MOVES
from listener.view import Overview

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Default: vitalcheck.toml in this folder, where there is one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
UidArgument = Annotated[str, typer.Argument(metavar="UID", help="A Study Instance UID.")]


@app.callback()
def list_(
    context: typer.Context,
    state: Annotated[str, typer.Option(help=f"Only studies in this state: {', '.join(MOVES)}.")] = "",
    as_json: JsonOption = False,
    path: ConfigOption = None,
) -> None:
    """Lists what arrived and what became of it.

    \b
    vitalcheck studies --state quarantined
    vitalcheck studies --json | jq -r 'select(.finding.call == "present") | .study'
    vitalcheck studies show 1.2.840.113619.2.1
    vitalcheck studies retry 1.2.840.113619.2.1
    """
    if context.invoked_subcommand:
        return
    if state and state not in MOVES:
        raise typer.BadParameter(f"{state!r} is no state; states are {', '.join(MOVES)}", param_hint="--state")
    with _ledger(path) as ledger:
        found = ledger.studies(state or None)
    if as_json:
        for overview in found:
            console.say_json(view.as_json(overview))
    elif found:
        console.say_table(
            ("study", "state", "finding", "instances", "delivered", "changed", "reason"), [_row(overview) for overview in found]
        )
    else:
        console.warn("no study here" + (f" is {state}" if state else " yet"))


@app.command()
def show(uid: UidArgument, as_json: JsonOption = False, path: ConfigOption = None) -> None:
    """Shows all that is known of one study.

    Its history, the series that was read and how its slices lie, why each other series was passed over, deliveries, instances and how
    many of them we committed to (their scanner may have deleted them), and what was kept aside because it came again with other bytes.
    Nothing of the patient.

    \b
    vitalcheck studies show 1.2.840.113619.2.1
    vitalcheck studies show 1.2.840.113619.2.1 --json | jq '.results[-1].passed_over'
    """
    with _ledger(path) as ledger:
        study = ledger.describe(uid)
    if as_json:
        console.say_json(study)
        return
    console.say_block(
        f"study {uid}",
        {"state": study["state"], "reason": study["reason"], "finding": view.in_words(study["finding"]), "from": study["calling_ae"]},
    )
    _section("history", study["history"], ("at", "state", "note"))
    _section("answers", study["results"], ("judged_at", "outcome", "instances", "model", "variant", "agreement", "because"))
    for result in study["results"][-1:]:
        _say_series(result)
    _section("deliveries", study["deliveries"], ("kind", "destination", "state", "attempts", "next_at", "error"))
    _section("instances, by series", _per_series(study["instances"]), ("series_uid", "instances", "bytes", "committed"))
    _section("also in another study", study["also_elsewhere"], ("sop_instance_uid", "study"))
    _section("kept aside", study["kept_aside"], ("sop_instance_uid", "sha256", "received_at"))


@app.command()
def retry(uid: UidArgument, path: ConfigOption = None) -> None:
    """Queues a quarantined study again.

    First mend what its error says. What was sent again since the quarantine, under the same UID, takes
    the place of the wrong one, which stays kept aside.

    \b
    vitalcheck studies retry 1.2.840.113619.2.1
    """
    with _ledger(path) as ledger:
        job = ledger.retry(uid, time.time())
    console.say(f"study {uid}: queued, attempt {job.attempt}")


@contextmanager
def _ledger(path: Path | None) -> Iterator[Ledger]:
    ledger = Ledger(config.load(path).state.dir, create=False)
    try:
        yield ledger
    finally:
        ledger.close()


def _row(overview: Overview) -> tuple[Any, ...]:
    reason = overview.reason or overview.delivery_error
    delivered = f"{overview.stored}/{overview.deliveries}" if overview.deliveries else ""
    changed = view.iso(overview.changed_at)
    return overview.uid, overview.state, view.in_words(overview.finding), overview.instances, delivered, changed, reason


def _per_series(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Hundreds of instances are for --json."""
    series = {instance["series_uid"]: 0 for instance in instances}
    sizes, committed = dict(series), dict(series)
    for instance in instances:
        series[instance["series_uid"]] += 1
        sizes[instance["series_uid"]] += instance["size"]
        committed[instance["series_uid"]] += instance["committed_at"] is not None
    return [{"series_uid": uid, "instances": n, "bytes": sizes[uid], "committed": committed[uid]} for uid, n in series.items()]


def _say_series(result: dict[str, Any]) -> None:
    """Of the last answer: what was read and how it lies, and why each other series was not."""
    if result["series"]:
        console.say()
        read = {"series": result["series"], "slices": view.lie(result["geometry"]), "recipe": result["recipe"]}
        console.say_block("read", read | {"remarks": view.remarks(result["geometry"])})
    _section("series passed over", result["passed_over"] or [], ("series_number", "modality", "series_uid", "reason"))


def _section(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if rows:
        console.say(f"\n{title}")
        console.say_table(columns, [[row[column] for column in columns] for row in rows])
