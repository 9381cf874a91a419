"""verify: does a result reproduce? What a report says beside what was computed again, number by number. Pure.

On the runtime and the kind of CPU that made it a network gives the same bits, so everything printed must be equal. Elsewhere it rounds
differently: the finding must be the same, and each probability within a tolerance that follows from the model's golden vectors.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from listener.selftest import NOTE, OK, WRONG
from models.manifest import Manifest
from pipeline.claim import Claim
from pipeline.records import Instance


class Check(NamedTuple):
    """One thing that was compared."""

    what: str
    verdict: str  # OK, NOTE (does not decide) or WRONG
    report: Any
    here: Any


class Inputs(NamedTuple):
    """The instances that a report names, as they lie here."""

    found: tuple[Instance, ...]
    missing: tuple[str, ...]  # SOP Instance UIDs
    changed: tuple[str, ...]


def inputs(claim: Claim, held: Iterable[Instance]) -> Inputs:
    """Of what lies here exactly the instances that were read; of several with one UID the one that was read, if it is among them."""
    digests = claim.digests
    found: dict[str, Instance] = {}
    for instance in held:
        uid = instance.sop_instance_uid
        wanted = instance.study_uid == claim.study_uid and uid in claim.evidence
        if wanted and (uid not in found or not _is_as_read(found[uid], digests)):
            found[uid] = instance
    changed = sorted(uid for uid, instance in found.items() if not _is_as_read(instance, digests))
    return Inputs(tuple(found.values()), tuple(sorted(claim.evidence - found.keys())), tuple(changed))


def _is_as_read(instance: Instance, digests: Mapping[str, str]) -> bool:
    return instance.sha256.startswith(digests.get(instance.sop_instance_uid, ""))


def of_inputs(claim: Claim, there: Inputs, sets: Collection[str]) -> list[Check]:
    """The instances, and the whole set of the study; `sets` are digests of what lies here, with and without what is no image."""
    intact = len(there.found) - len(there.changed)
    said = [f"{intact} as they were read" if claim.digests else f"{intact} with these UIDs; the report does not say what was in them"]
    said += [f"{word}: {', '.join(uids)}" for word, uids in (("missing", there.missing), ("changed", there.changed)) if uids]
    wanted = claim.parameter("input set sha256")
    same = wanted in sets
    instances = OK if not there.missing and not there.changed and (claim.digests or same) else NOTE
    return [
        Check("instances", WRONG if there.missing or there.changed else instances, len(claim.evidence), "; ".join(said)),
        Check("input set", OK if same else NOTE, wanted, wanted if same else "other instances of the study lie here, or some do not"),
    ]


def of_origin(claim: Claim, here: Claim) -> list[Check]:
    """What computed it. Another program or manifest explains a difference, it is none; another runtime or CPU allows for rounding."""
    pairs = [("program", claim.program, here.program)]
    pairs += [(word.lower(), claim.parameter(word), here.parameter(word)) for word in ("manifest", *_ENVIRONMENT)]
    return [Check(what, OK if said == found else NOTE, said or "not said", found) for what, said, found in pairs]


_ENVIRONMENT = ("ONNX Runtime", "CPU")


def same_environment(claim: Claim, here: Claim) -> bool:
    return all(claim.parameter(word) == here.parameter(word) != "" for word in _ENVIRONMENT)


def tolerance(manifest: Manifest) -> float:
    """How many percentage points rounding may move a probability.

    Golden vectors may be missed by t in each logit, and so may the score of each label of a study, which is a mean of such values. Two
    scores then move apart by 2t, over the temperature T; the steepest a probability can follow, at one half, is tanh(t / 2T). A doubt d
    weighs labels by how likely they are, so that it may move by d tanh(t / 2) more.
    """
    golden = manifest.golden.tolerance if manifest.golden else 0.0
    doubt = max(manifest.rule.doubt.values(), default=0.0) * math.tanh(golden / 2)
    return 100 * math.tanh((golden + doubt / 2) / (2 * manifest.rule.temperature))


def of_answer(claim: Claim, here: Claim, points: float | None) -> list[Check]:
    """The answer; `points` are those that a probability may differ by, None where everything must be equal."""
    exact = points is None
    return [
        _equal("finding", claim.finding, here.finding),
        _equal("presence", claim.presence, here.presence),
        *(
            _near(f"probability of {name}", claim.probabilities.get(name), here.probabilities.get(name), points or 0.0)
            for name in _names(claim, here)
        ),
        _equal("key instances", _told(claim.keys), _told(here.keys), decides=exact),
        _equal("region", _told(claim.region), _told(here.region), decides=exact),
    ]


def _names(claim: Claim, here: Claim) -> Iterable[str]:
    return dict.fromkeys((*claim.probabilities, *here.probabilities))


def _near(name: str, said: float | None, found: float | None, points: float) -> Check:
    near = said is not None and found is not None and abs(said - found) <= points
    return Check(name.lower(), OK if near else WRONG, said, found)


def _equal(what: str, said: Any, found: Any, *, decides: bool = True) -> Check:
    return Check(what, OK if said == found else WRONG if decides else NOTE, said, found)


def _told(parts: Sequence[Sequence[Any]]) -> str:
    """ "1.2.3, 1.2.4 2": sources with their frames, points with their coordinates."""
    return ", ".join(" ".join(str(value) for value in part if value is not None) for part in parts) or "none"


def verdict(checks: Sequence[Check], points: float | None) -> str:
    """In one sentence."""
    wrong = [check.what for check in checks if check.verdict == WRONG]
    if wrong:
        return f"does not reproduce: {', '.join(wrong)}"
    if points is None:
        return "reproduces exactly"
    why = "rounding on another runtime or CPU may move them so far, by the model's golden vectors"
    return f"reproduces: the same class, every probability within {points:.1f} percentage points ({why})"
