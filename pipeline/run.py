"""The whole of thought, as one line of shell would say it:

choose | decode | prepare | infer | aggregate | report

Pure: no network, no database, the clock is an argument. A study in, the answer out - "declined, because" is an answer too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from models.registry import Model
from models.runtime import Outputs
from pipeline.aggregate import Evidence, aggregate, deciding_rows
from pipeline.choose import choose_model
from pipeline.decode import decode
from pipeline.identity import contradiction
from pipeline.infer import infer, is_shadowed
from pipeline.language import said
from pipeline.prepare import prepare
from pipeline.records import Batch, Choice, Document, Finding, Order, Prediction, Report, Series, Slices, Study
from pipeline.report import make
from pipeline.typical import doubted


class Contradictory(Exception):
    """Instances of two patients or of two studies under one Study Instance UID: a report on one would be in the other's record."""


Decoder = Callable[[Series], Slices]
Deciding = Callable[[Outputs, Batch, Model], Sequence[int]]


def analyze(study: Study, models: Sequence[Model], now: datetime, decoder: Decoder = decode, order: Order = Order()) -> Report:  # noqa: B008
    """The answer for `study` by the first of `models` that may read one of its series; `now` becomes the date and time of its documents.

    `decoder` is `pipeline.decode.decode`, or the same behind a process boundary with limits; `order` says how the documents are wanted.
    Raises Contradictory, Undecodable where pixels of the chosen series cannot be read, NetworkError where no variant of the model answers.
    """
    _check_identity(study)
    timings = Timings()
    model, choice, slices = _chosen(study, models, decoder, timings)
    if slices is None:
        return _declined(study, model, choice, now, order)
    manifest, shadowed = model.manifest, is_shadowed(study.uid, model.shadow_rate)
    finding, prediction = _read(slices, model, timings, _deciding, shadowed=shadowed)
    with timings("report"):
        documents = make(study, choice, finding, prediction, manifest, now, order, slices)
    return Report(
        study_uid=study.uid,
        state="analysed",
        reason=None,
        model=f"{manifest.name} {manifest.version}",
        choice=choice,
        finding=finding,
        variant=prediction.variant,
        agreement=prediction.agreement,
        geometry=prediction.geometry,
        slices=len(prediction.sources),
        recipe=prediction.recipe_id,
        documents=documents,
        timings_ms=timings.ms,
    )


def repeat(study: Study, model: Model, now: datetime, decoder: Decoder = decode) -> tuple[Document, ...]:
    """The documents of `model` for exactly the instances of `study`, which were read as one series before: nothing is chosen.

    The other variant is not asked: who repeats an answer loads `model` with the variant that gave it. Raises Undecodable, NetworkError.
    """
    series = Series(study.series[0].uid, study.instances)
    finding, prediction = _read(decoder(series), model, Timings(), _nothing, shadowed=False)
    return make(study, Choice(series, said("reasons.repeated")), finding, prediction, model.manifest, now)


def _read(slices: Slices, model: Model, timings: Timings, deciding: Deciding, *, shadowed: bool) -> tuple[Finding, Prediction]:
    with timings("prepare"):
        batch = prepare(slices, model.manifest.recipe)
    with timings("infer"):
        prediction = infer(batch, model.selector, shadowed=shadowed, deciding=lambda outputs: deciding(outputs, batch, model))
    with timings("aggregate"):
        return doubted(aggregate(prediction, model.manifest), batch, model.manifest), prediction


def _check_identity(study: Study) -> None:
    if said := contradiction(study):
        raise Contradictory(said)


def _chosen(study: Study, models: Sequence[Model], decoder: Decoder, timings: Timings) -> tuple[Model, Choice, Slices | None]:
    """The model that answers, the series it reads and its slices; None where there is none to read.

    Empty pictures would be read as a head without findings, so a series of them is passed over like any other that is not fit.
    """
    empty: set[str] = set()
    while True:
        with timings("choose"):
            number, choice = choose_model(study, [model.manifest for model in models], empty)
        if choice.series is None:
            return models[number], choice, None
        with timings("decode"):
            slices = decoder(choice.series)
        if _shows_something(slices):
            return models[number], choice, slices
        empty.add(choice.series.uid)


def _shows_something(slices: Slices) -> bool:
    value = slices.pixels.flat[0]
    return any((picture != value).any() for picture in slices.pixels)  # ends at the first that does


def _declined(study: Study, model: Model, choice: Choice, now: datetime, order: Order) -> Report:
    """A radiologist who waits for a head to be read is told why it was not; nobody waits for a knee."""
    manifest = model.manifest
    documents = make(study, choice, None, None, manifest, now, order) if choice.expected else ()
    return Report(study.uid, "declined", choice.reason, f"{manifest.name} {manifest.version}", choice, documents=documents)


def _deciding(outputs: Outputs, batch: Batch, model: Model) -> list[int]:
    return deciding_rows(Evidence(outputs.logits, outputs.evidence, batch.head_area, batch.geometry), model.manifest)


def _nothing(_outputs: Outputs, _batch: Batch, _model: Model) -> list[int]:
    return []


class Timings:
    """How long each stage took, in ms of wall time."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.ms[stage] = round(self.ms.get(stage, 0.0) + (time.perf_counter() - start) * 1000, 2)
