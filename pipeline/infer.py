"""infer: Batch -> Prediction, by whichever variant the selector trusts, and by both where it matters.

fp32 always reads the slices that would decide the finding, and all slices of some studies: which ones is a hash of the study's UID, so that
doing a study again does the same again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from models.runtime import Outputs, environment
from models.selector import AdaptiveModelSelector
from pipeline.records import Batch, Prediction

Deciding = Callable[[Outputs], Sequence[int]]


def infer(batch: Batch, selector: AdaptiveModelSelector, *, shadowed: bool, deciding: Deciding) -> Prediction:
    """Row i of the prediction is row i of the batch. `deciding` says which rows would decide, given int8's outputs. Raises NetworkError."""
    answer = selector.infer(batch.tensor, validate=shadowed, rows=deciding)
    return Prediction(
        sources=batch.sources,
        logits=answer.logits,
        evidence=answer.evidence,
        head_area=batch.head_area,
        to_source=batch.to_source,
        variant=answer.variant,
        agreement="not compared" if not answer.compared else "differ" if answer.differing else "agree",
        compared=answer.compared,
        differing=answer.differing,
        geometry=batch.geometry,
        recipe_id=batch.recipe_id,
        environment=environment(),
    )


def is_shadowed(study_uid: str, rate: float) -> bool:
    """Whether a whole study is read by both variants: true for a share `rate` of all UIDs."""
    draw = int.from_bytes(hashlib.sha256(study_uid.encode()).digest()[:8], "big")
    return draw < rate * 2**64
