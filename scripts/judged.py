"""The gate's record of a trained network: what both variants say of every sealed slice, of the same slices spoiled, and of whole studies.

Studies are the sealed patient's volumes and healthy heads that nobody learnt; the study rule that serves makes their findings.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from models.manifest import Manifest
from models.record import Call, Record, StudyRow
from models.runtime import Outputs, Session
from models.training.data import spoil, strata
from pipeline.records import Variant
from scripts.datasets import Examples
from scripts.learnt import NAMES, Floats, samples, tensor
from scripts.model_card import ABSENT
from scripts.study_rule import Case, found_in, studies_of

Sessions = Mapping[Variant, Session]


def judged(sealed: Examples, measured: Examples | None, sessions: Sessions, manifest: Manifest) -> Record:
    """The record of `sealed` slices, and of the studies in them and in `measured`."""
    answers = _answers(tensor(torch.from_numpy(sealed.images)), sessions)
    words = {
        "file": sealed.names,
        "part": sealed.parts,
        "block": sealed.blocks,
        "stratum": strata(samples(sealed)),
        "plane": sealed.planes,
        "source": sealed.sources,
    }
    logits = {variant: outputs.logits for variant, outputs in answers.items()}
    spoiled = {variant: outputs.logits for variant, outputs in _answers(_spoiled(sealed), sessions).items()}
    studies = _studies(sealed, answers, manifest)
    if measured is not None:
        studies += _studies(measured, _answers(tensor(torch.from_numpy(measured.images)), sessions), manifest)
    again = Record(NAMES, ABSENT, sealed.labels, spoiled, words)
    return Record(NAMES, ABSENT, sealed.labels, logits, words, tuple(studies), again)


def _answers(image: Floats, sessions: Sessions) -> dict[Variant, Outputs]:
    return {variant: session.run(image) for variant, session in sessions.items()}


def _spoiled(sealed: Examples) -> Floats:
    """Every slice once, spoiled, always in the same way."""
    torch.manual_seed(4)
    grey = torch.from_numpy(sealed.images).float()[:, None]
    return tensor(torch.cat([spoil(rows) for rows in grey.split(16)])[:, 0])


def _studies(examples: Examples, answers: Mapping[Variant, Outputs], manifest: Manifest) -> list[StudyRow]:
    """A row for each volume, and for each plane of a healthy head."""
    maps = {variant: outputs.evidence for variant, outputs in answers.items() if outputs.evidence is not None}
    found = {variant: list(studies_of(examples, evidence, "gate")) for variant, evidence in maps.items()}
    return [
        StudyRow(case.name, case.truth, len(case.maps), {variant: _call(found[variant][k], manifest) for variant in found})
        for k, case in enumerate(found["fp32"])
    ]


def _call(case: Case, manifest: Manifest) -> Call:
    finding = found_in(case, manifest)
    return Call(finding.call, finding.label, float(finding.probability))
