"""The page for people: what arrived, what became of it, and whether the next study would be answered. HTML from the server, no script.

Every value is escaped. Nothing of a patient is shown: UIDs, states, answers, times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from listener.view import Overview, in_words, iso, lie, remarks
from listener.web.ready import Readiness

MOST = 200  # studies on the page; the API lists all
_HEAD = """<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<title>{title}</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><a class="name" href="/">VitalCheck</a> <span>{where}</span></header>
<main>
"""
_FOOT = """</main>
<footer>Research use, not a medical device. Answers are not calibrated on whole studies.
<a href="/api/studies">/api/studies</a> <a href="/readyz">/readyz</a> <a href="/metrics">/metrics</a></footer>
</body>
</html>
"""


def studies(found: Sequence[Overview], counts: Mapping[str, int], state: str | None, ready: Readiness, where: str, now: float) -> str:
    """The list, refreshed every five seconds."""
    title = "VitalCheck: " + ("ready" if ready.ready else "not ready")
    head = _HEAD.format(refresh='<meta http-equiv="refresh" content="5">\n', title=title, where=escape(where))
    rows = [_study_row(overview, now) for overview in found[:MOST]]
    columns = ("study", "state", "finding", "instances", "delivered", "from", "last instance", "reason or error")
    nothing = f'<p class="empty">No study {f"is {escape(state)}" if state else "has arrived yet"}.</p>'
    body = _table(columns, rows) if rows else nothing
    more = f"<p>{len(found) - MOST} older ones: <a href='/api/studies'>/api/studies</a></p>" if len(found) > MOST else ""
    return head + _banner(ready) + _filters(counts, state) + body + more + _FOOT


def study(facts: Mapping[str, Any]) -> str:
    """Everything that the API tells of one study, as tables."""
    uid = facts["study"]
    head = _HEAD.format(refresh="", title=f"VitalCheck: study {escape(uid)}", where="one study")
    summary = [
        ("state", _state(facts["state"])),
        ("reason", _cell(facts["reason"])),
        ("finding", _cell(in_words(facts["finding"]))),
        ("called by", _cell(facts["calling_ae"])),
        ("first instance", _time(facts["first_at"])),
        ("as JSON", f'<a href="/api/studies/{quote(uid)}">/api/studies/{escape(uid)}</a>'),
    ]
    body = f"<h1>Study {escape(uid)}</h1>" + _table((), [(("key", name), ("value", html)) for name, html in summary if html])
    body += _section("History", facts["history"], ("at", "state", "note"))
    body += _section(
        "Answers",
        facts["results"],
        ("judged_at", "outcome", "finding", "series", "geometry", "model", "variant", "agreement", "recipe", "timings_ms", "error"),
    )
    body += "".join(
        _section("Series passed over", result["passed_over"], ("series_number", "modality", "series_uid", "reason"))
        for result in facts["results"][-1:]
        if result["passed_over"]
    )
    body += _section("Deliveries", facts["deliveries"], ("kind", "destination", "state", "attempts", "stored_at", "next_at", "error"))
    body += _section("Instances", facts["instances"], ("sop_instance_uid", "series_uid", "size", "received_at", "sha256"))
    body += _section("Also in another study", facts["also_elsewhere"], ("sop_instance_uid", "study"))
    body += _section("Kept aside: came again with other bytes", facts["kept_aside"], ("sop_instance_uid", "received_at", "sha256"))
    return head + body + _FOOT


def _banner(ready: Readiness) -> str:
    if ready.ready:
        text, kind = "<strong>Ready.</strong> What arrives now would be kept and analysed.", "good"
    else:
        listed = "".join(f"<li>{escape(reason)}</li>" for reason in ready.reasons)
        text, kind = f"<strong>Not ready.</strong><ul>{listed}</ul>", "bad"
    banner = f'<section class="banner {kind}">{text}</section>'
    chips = [_chip(d["name"], d["state"], f"{d['stored']} stored, {d['waiting']} waiting", d["error"]) for d in ready.destinations]
    for worker in ready.workers:
        refused = worker["alarm"] and not worker["models"]
        state = "ready" if worker["ready"] else "starting" if worker["alive"] and not refused else "gone"
        models = ", ".join(f"{name} {variant}" for name, variant in worker["models"].items())
        chips.append(_chip(f"worker {worker['slot']}", state, models, worker["alarm"]))
    return banner + f'<section class="chips">{"".join(chips) or "<span>No destination is configured.</span>"}</section>'


def _chip(name: str, state: str, detail: str, error: str | None) -> str:
    kind = {"ok": "good", "ready": "good", "down": "bad", "gone": "bad"}.get(state, "idle")
    trouble = f"<em>{escape(error)}</em>" if error else ""
    return f'<span class="chip {kind}"><b>{escape(name)}</b> {escape(state)} <small>{escape(detail)}</small>{trouble}</span>'


def _filters(counts: Mapping[str, int], state: str | None) -> str:
    links = [_filter("all", "/", sum(counts.values()), state is None)]
    links += [_filter(name, f"/?state={name}", n, state == name) for name, n in counts.items()]
    return f"<nav>{''.join(links)}</nav>"


def _filter(name: str, href: str, count: int, chosen: bool) -> str:
    return f'<a href="{href}"{" aria-current=page" if chosen else ""}>{escape(name)} <b>{count}</b></a>'


def _study_row(overview: Overview, now: float) -> tuple[tuple[str, str], ...]:
    delivered = f"{overview.stored} of {overview.deliveries}" if overview.deliveries else ""
    age = f'<time datetime="{iso(overview.changed_at)}" title="{iso(overview.changed_at)}">{ago(now - overview.changed_at)}</time>'
    return (
        ("study", f'<a href="/studies/{quote(overview.uid)}">{escape(overview.uid)}</a>'),
        ("state", _state(overview.state)),
        ("finding", _cell(in_words(overview.finding))),
        ("number", _cell(overview.instances)),
        ("number", escape(delivered)),
        ("from", _cell(overview.calling_ae)),
        ("age", age),
        ("reason", _cell(overview.reason or overview.delivery_error)),
    )


def ago(seconds: float) -> str:
    """4 s, 12 min, 3 h, 9 d ago."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def _section(title: str, found: Sequence[Mapping[str, Any]], columns: tuple[str, ...]) -> str:
    if not found:
        return ""
    shown = [column for column in columns if any(row[column] not in (None, "") for row in found)]
    rows = [[(column, _shown(column, row[column])) for column in shown] for row in found]
    return f"<h2>{escape(title)}</h2>" + _table([column.replace("_", " ") for column in shown], rows)


def _table(columns: Sequence[str], rows: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Cells are (class, HTML)."""
    head = f"<thead><tr>{''.join(f'<th>{escape(column)}</th>' for column in columns)}</tr></thead>" if columns else ""
    lines = ("".join(f'<td class="{kind}">{html}</td>' for kind, html in row) for row in rows)
    return f"<div class=scroll><table>{head}<tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table></div>"


def _shown(column: str, value: Any) -> str:
    if column == "state":
        return _state(value)
    return _time(value) if column == "at" or column.endswith("_at") else _cell(value)


def _time(at: str | None) -> str:
    """ISO 8601 in UTC -> "2026-11-23 23:06:20 UTC"."""
    return f"{at[:10]} {at[11:19]} UTC" if at else ""


def _state(state: str) -> str:
    return f'<span class="state {escape(state)}">{escape(state)}</span>'


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = _in_words(value)
    return "" if value is None else escape(str(value))


def _in_words(value: Mapping[str, Any]) -> str:
    """A finding, how slices lie, or milliseconds by stage."""
    if "label" in value:
        return in_words(value)
    if "plane" in value:
        return f"{lie(value)}. {remarks(value)}".removesuffix(". ")
    return ", ".join(f"{name} {part:.0f}" for name, part in value.items())
