"""AdaptiveModelSelector: int8 where this CPU proves it right and faster, fp32 otherwise, both where it matters.

    start      int8 when it replays its golden vectors and wins a short race; fp32 when int8 is missing, wrong or slower
    each study int8 answers; chosen slices (or all of them) are read by fp32 too; where a label differs, fp32's answer counts
    int8 fails fp32 answers; after a rest int8 replays its golden vectors and comes back when they are right
    alarm      more than 5 % of wholly shadowed slices differ: fp32 answers, int8 goes on in its shadow until the rate has fallen

The name and the claims are those of the text this project grew from; its habit of naming the wrong variant is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import structlog

from models.monitor import DisagreementMonitor
from models.runtime import Floats, Network, NetworkError, Outputs, Session

Variant = Literal["fp32", "int8"]
RowChooser = Callable[[Outputs], Sequence[int]]

REST = 20  # studies that fp32 answers before int8 is tried again
RETEST_SECONDS = 86_400.0  # golden vectors are replayed daily: a live migration can change the CPU under a process
RACE_ROUNDS, MOST_ROUNDS = 3, 9
CLEAR = 1.25  # times as fast; a race that is won by less goes on, to MOST_ROUNDS at most
RACE_BATCH = 8

log = structlog.get_logger()


class NoVariant(Exception):
    """Neither variant can be used on this machine; the message says why for each."""


class Decision(NamedTuple):
    """Which variant answers, and why not the other."""

    variant: Variant
    reason: str


class Answer(NamedTuple):
    """Logits and evidence, the variant that really made them, and how many slices both variants read."""

    logits: Floats  # (slice, label)
    evidence: Floats | None  # (slice, label, row, column)
    variant: Variant
    compared: int = 0
    differing: int = 0


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs and what each variant answered at the gate."""

    image: Floats  # (k, channel, size, size)
    logits: dict[Variant, Floats]  # (k, label)
    tolerance: float

    def missed_by(self, variant: Variant, network: Network) -> str | None:
        """Why `network` is not the one that passed the gate, or None when it is."""
        expected = self.logits.get(variant)
        if expected is None:
            return f"no golden vectors of {variant}"
        try:
            found = network.run(self.image).logits
        except NetworkError as error:
            return str(error)
        if found.shape != expected.shape:
            return f"golden vectors gave {found.shape}, not {expected.shape}"
        if not np.isfinite(found).all():
            return "golden vectors gave logits that are not finite"
        off = float(np.abs(found - expected).max())
        return None if off <= self.tolerance else f"golden vectors missed by {off:.3f} (allowed {self.tolerance:.3f})"


class AdaptiveModelSelector:
    """Holds both variants of one network and answers with the one that this machine can trust."""

    def __init__(
        self,
        int8_path: Path | None,
        fp32_path: Path | None,
        *,
        golden: GoldenVectors | None = None,
        loader: Callable[[Path], Network] = Session,
        monitor: DisagreementMonitor | None = None,
        clock: Callable[[], float] = time.monotonic,
        name: str = "",
    ) -> None:
        self._log = log.bind(model=name) if name else log
        self._paths: dict[Variant, Path | None] = {"fp32": fp32_path, "int8": int8_path}
        self._golden, self._loader, self._clock = golden, loader, clock
        self._networks: dict[Variant, Network] = {}
        self._resting: str | None = None  # why int8 does not answer for now
        self._rested, self._tested_at = 0, clock()
        self.monitor = monitor or DisagreementMonitor()
        self.decision: Decision | None = None

    @property
    def variant(self) -> Variant:
        """The variant that would answer now."""
        if self.decision is None:
            raise NoVariant("initialize() has not been called")
        return "fp32" if self._resting else self.decision.variant

    def initialize(self, prefer_quantized: bool = True, race: bool = True) -> Decision:
        """Loads, replays golden vectors, races; returns the decision. Raises NoVariant when nothing can be used.

        `race=False` takes int8 without asking whether it is faster; right it must be in any case.
        """
        problems: dict[Variant, str | None] = {"fp32": self._load("fp32"), "int8": self._load("int8")}
        self.decision = self._decide(problems, prefer_quantized, race)
        self._log.info("model.variant_chosen", variant=self.decision.variant, reason=self.decision.reason)
        return self.decision

    def _load(self, variant: Variant) -> str | None:
        """Loads and proves one variant; returns what is wrong with it."""
        path = self._paths[variant]
        if path is None:
            return "not offered"
        try:
            network = self._loader(path)
        except NetworkError as error:
            return str(error)
        if self._golden is None:
            problem = "no golden vectors to prove it" if variant == "int8" else None
        else:
            problem = self._golden.missed_by(variant, network)
        if problem is None:
            self._networks[variant] = network
        return problem

    def _decide(self, problems: dict[Variant, str | None], prefer_quantized: bool, race: bool) -> Decision:
        fp32, int8 = problems["fp32"], problems["int8"]
        if fp32 and int8:
            raise NoVariant(f"no variant can be used here. fp32: {fp32}; int8: {int8}")
        if fp32:
            return Decision("int8", f"fp32 cannot be used ({fp32}); int8 answers without comparison")
        if int8:
            return Decision("fp32", f"int8 cannot be used: {int8}")
        if not prefer_quantized:
            return Decision("fp32", "fp32 asked for")
        if not race:
            return Decision("int8", "int8 asked for")
        ratio = self._race()
        return Decision("int8" if ratio > 1.0 else "fp32", f"fp32 takes {ratio:.2f} times as long as int8 on this CPU")

    def _race(self) -> float:
        """How many times as long fp32 takes as int8: the quickest of interleaved rounds, for other work can only make a run longer."""
        assert self._golden is not None  # without golden vectors int8 is not loaded
        image = np.zeros((RACE_BATCH, *self._golden.image.shape[1:]), np.float32)
        quickest: dict[Variant, float] = {"fp32": np.inf, "int8": np.inf}
        for rounds in range(1, MOST_ROUNDS + 1):
            for variant, network in self._networks.items():
                start = self._clock()
                network.run(image)
                quickest[variant] = min(quickest[variant], self._clock() - start)
            ratio = quickest["fp32"] / max(quickest["int8"], 1e-9)
            if rounds >= RACE_ROUNDS and not 1 / CLEAR < ratio < CLEAR:
                break
        return ratio

    def infer(self, image: Floats, validate: bool = False, rows: RowChooser | None = None) -> Answer:
        """Answers for `image` (slice, channel, size, size). Raises NetworkError when no variant answers.

        With `validate` fp32 reads every slice too (a wholly shadowed study, counted by the monitor); otherwise those that `rows`
        picks from int8's outputs. Where any label differs, the whole answer is fp32's and says so.
        """
        self._recover()
        if self.variant == "fp32":
            return self._answered_by_fp32(image)
        try:
            outputs = self._run("int8", image)
        except NetworkError as error:
            if "fp32" not in self._networks:
                raise
            self._rest(str(error))
            return self._answered_by_fp32(image)
        picked = range(len(image)) if validate else rows(outputs) if rows else ()
        return self._compared(image, outputs, np.array(picked, dtype=np.int64), whole=validate)

    def _run(self, variant: Variant, image: Floats) -> Outputs:
        outputs = self._networks[variant].run(image)
        for what, values in (("logits that are", outputs.logits), ("evidence that is", outputs.evidence)):
            if values is not None and not np.isfinite(values).all():  # a slice of which nothing is said must not count as one without
                raise NetworkError(f"{variant} gave {what} not finite")
        return outputs

    def _answered_by_fp32(self, image: Floats) -> Answer:
        outputs = self._run("fp32", image)
        if self.monitor.alarm and "int8" in self._networks:  # int8 goes on in the shadow, so that the rate can fall again
            self._watch(outputs, image)
        return Answer(*outputs, "fp32")

    def _watch(self, fp32: Outputs, image: Floats) -> None:
        try:
            int8 = self._run("int8", image)
        except NetworkError:
            return
        self._count(_differ(int8, fp32))

    def _compared(self, image: Floats, int8: Outputs, rows: np.ndarray[tuple[int], np.dtype[np.int64]], whole: bool) -> Answer:
        if "fp32" not in self._networks or not rows.size:
            return Answer(*int8, "int8")
        try:
            fp32 = self._run("fp32", image[rows])
            differ = _differ(Outputs(int8.logits[rows], None), fp32)
            if whole:
                self._count(differ)
            if not any(differ):
                return Answer(*int8, "int8", compared=rows.size)
            full = fp32 if whole else self._run("fp32", image)
        except NetworkError as error:
            self._log.warning("model.comparison_failed", error=str(error))
            return Answer(*int8, "int8")
        return Answer(*full, "fp32", compared=rows.size, differing=sum(differ))

    def _count(self, differ: list[bool]) -> None:
        before = self.monitor.alarm
        self.monitor.add(differ)
        if self.monitor.alarm and not before:
            self._resting = "disagrees with fp32"
            self._log.error(
                "model.disagreement_alarm", rate=round(self.monitor.rate, 4), limit=self.monitor.limit, compared=self.monitor.compared
            )

    def _rest(self, why: str) -> None:
        self._resting, self._rested = why, 0
        self._log.error("model.fell_back", variant="fp32", error=why)

    def _recover(self) -> None:
        """Brings int8 back when its reason to rest is gone, and replays the golden vectors once a day."""
        if self._resting is None:
            if self._clock() - self._tested_at >= RETEST_SECONDS:
                self.self_test()
            return
        self._rested += 1
        if not self.monitor.alarm and self._rested >= REST and self.self_test() is None:
            self._resting = None
            self._log.info("model.recovered", variant="int8")

    def self_test(self) -> str | None:
        """Replays int8's golden vectors; puts int8 to rest when they are missed. Returns what is wrong, or None."""
        self._tested_at, self._rested = self._clock(), 0
        if self._golden is None or "int8" not in self._networks:
            return None
        problem = self._golden.missed_by("int8", self._networks["int8"])
        if problem and self._resting is None and "fp32" in self._networks:
            self._rest(problem)
        return problem


def _differ(one: Outputs, other: Outputs) -> list[bool]:
    """For every slice, whether the likeliest label differs."""
    return [bool(d) for d in one.logits.argmax(1) != other.logits.argmax(1)]
