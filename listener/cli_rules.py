"""`vitalcheck rules try`: which series would be read, and why no other. Headers only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from listener import console
from listener.cli_input import DEFAULT_MODEL, JsonOption, ModelOption, PathArgument, installed, quiet, studies
from pipeline.records import Choice, Study


def rules_try(
    path: PathArgument,
    model: ModelOption = [DEFAULT_MODEL],  # noqa: B006 - typer reads it
    as_json: JsonOption = False,
) -> None:
    """Shows which series would be analysed, and why no other.

    Says of each series what it was taken for and by which evidence. Reads headers only: damaged or empty pixels are found by
    `vitalcheck analyze`.

    \b
    vitalcheck rules try head/
    vitalcheck rules try head/ --model brain_tumor_4class --model /srv/models/ct_head/
    vitalcheck rules try archive/ --json | jq -r '[.study, .reason] | @tsv'
    """
    from models import registry
    from pipeline.choose import choose_model
    from pipeline.identity import contradiction

    quiet()
    manifests = [registry.read(installed(entry)) for entry in model]
    for study in studies(path):
        number, choice = choose_model(study, manifests)
        series = _judged(study, choice)
        if as_json:
            uid = choice.series.uid if choice.series else None
            passed = [asdict(series) for series in choice.passed_over]
            answer = {"study": study.uid, "series": uid, "reason": choice.reason, "head": choice.expected, "passed_over": passed}
            answer |= {"model": manifests[number].name, "all_series": series, "contradiction": contradiction(study)}
            console.say_json(answer)
        else:
            _say_choice(study, choice, series, contradiction(study))


def _judged(study: Study, choice: Choice) -> list[dict[str, Any]]:
    """Each series, the chosen one first: what it was taken for, by which evidence, and why it is read or not."""
    from pipeline.traits import seen

    chosen = choice.series.uid if choice.series else ""
    reasons = {passed.series_uid: passed.reason for passed in choice.passed_over} | {chosen: choice.reason}
    looks = sorted(map(seen, study.series), key=lambda look: look.series.uid != chosen)
    return [
        {
            "verdict": "chosen" if look.series.uid == chosen else "passed over",
            "number": look.number,
            "modality": look.modality.strip("?"),
            "plane": ", ".join(look.planes),
            "slices": look.slices,
            "weighting": look.traits.weighting,
            "weighting_by": look.traits.weighting_by,
            "body_part": look.traits.region,
            "body_part_by": look.traits.region_by if look.traits.region else "",
            "contrast": {1: "after", -1: "before", 0: ""}[look.traits.contrast],
            "why": reasons[look.series.uid],
            "series": look.series.uid,
        }
        for look in looks
    ]


def _say_choice(study: Study, choice: Choice, series: list[dict[str, Any]], contradiction: str | None) -> None:
    state = f"quarantined: {contradiction}" if contradiction else "analysed" if choice.series else "declined"
    console.say(f"study {study.uid}: would be {state}")
    columns = ("", "number", "modality", "plane", "slices", "weighting", "body part", "contrast", "why")
    console.say_table(columns, [_row(facts) for facts in series])


def _row(facts: dict[str, Any]) -> tuple[Any, ...]:
    said = [f"{facts[key]} (by {facts[f'{key}_by']})" if facts[key] else "" for key in ("weighting", "body_part")]
    return *(facts[key] for key in ("verdict", "number", "modality", "plane", "slices")), *said, facts["contrast"], facts["why"]
