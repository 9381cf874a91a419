"""The selector: the right variant, honestly named, for every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.monitor import DisagreementMonitor
from models.runtime import FixedModel, Network, NetworkError, Outputs
from models.selector import MOST_ROUNDS, RACE_ROUNDS, REST, RETEST_SECONDS, AdaptiveModelSelector, GoldenVectors, NoVariant

GLIOMA, NONE = (2.0, 0.0, 0.0, 0.0), (-2.0, -2.0, -2.0, 0.0)
IMAGE = np.zeros((4, 3, 8, 8), np.float32)


class Clock:
    """Seconds that pass only when told; the race reads it too, so every network seems equally fast unless `slow` ones move it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Paced(FixedModel):
    """A fixed model that takes `seconds` of `clock`, and may answer some rows differently."""

    def __init__(
        self, logits: tuple[float, ...], clock: Clock, seconds: float, odd_rows: dict[int, tuple[float, ...]] | None = None
    ) -> None:
        super().__init__(logits)
        self.clock, self.seconds, self.odd_rows = clock, seconds, odd_rows or {}
        self.seen: list[int] = []

    def run(self, tensor):
        self.clock.now += self.seconds
        self.seen.append(len(tensor))
        outputs = super().run(tensor)
        for row, logits in self.odd_rows.items():
            if row < len(tensor):
                outputs.logits[row] = logits
        return outputs


def made(
    int8: Network | None, fp32: Network | None, clock: Clock, *, monitor: DisagreementMonitor | None = None, prefer: bool = True
) -> AdaptiveModelSelector:
    """A selector over these networks whose golden vectors are one slice answered with GLIOMA by both."""
    networks = {Path("int8"): int8, Path("fp32"): fp32}
    golden = GoldenVectors(IMAGE[:1], {"fp32": np.array([GLIOMA], np.float32), "int8": np.array([GLIOMA], np.float32)}, tolerance=0.5)

    def loader(path: Path) -> Network:
        network = networks[path]
        if network is None:
            raise NetworkError(f"{path} is broken")
        return network

    selector = AdaptiveModelSelector(Path("int8"), Path("fp32"), golden=golden, loader=loader, monitor=monitor, clock=clock)
    selector.initialize(prefer_quantized=prefer)
    return selector


def test_faster_and_right() -> None:
    """int8 answers where it replays its golden vectors and is faster."""
    clock = Clock()
    int8 = Paced(GLIOMA, clock, 1.0)
    selector = made(int8, Paced(GLIOMA, clock, 2.0), clock)

    assert len(int8.seen) == 1 + RACE_ROUNDS  # golden vectors, and no more than it takes
    assert selector.infer(IMAGE).variant == "int8"


def test_slower() -> None:
    """fp32 answers where int8 is slower on this CPU."""
    clock = Clock()
    selector = made(Paced(GLIOMA, clock, 2.0), Paced(GLIOMA, clock, 1.0), clock)

    assert selector.infer(IMAGE).variant == "fp32"


def test_a_busy_moment() -> None:
    """Other work of the machine, which makes single runs longer, decides nothing."""
    clock = Clock()

    class Busy(Paced):
        def run(self, tensor):
            self.seconds = 1.0 if len(self.seen) == 2 else 3.0  # after golden vectors and one round
            return super().run(tensor)

    int8 = Busy(GLIOMA, clock, 3.0)
    assert made(int8, Paced(GLIOMA, clock, 2.0), clock).infer(IMAGE).variant == "int8"


def test_a_narrow_race() -> None:
    """A win by less than a quarter is raced again."""
    clock = Clock()
    int8 = Paced(GLIOMA, clock, 1.0)
    made(int8, Paced(GLIOMA, clock, 1.1), clock)

    assert len(int8.seen) == 1 + MOST_ROUNDS


def test_wrong() -> None:
    """int8 that misses its golden vectors on this CPU is not used, however fast."""
    clock = Clock()
    selector = made(Paced(NONE, clock, 0.1), Paced(GLIOMA, clock, 1.0), clock)

    assert selector.infer(IMAGE).variant == "fp32"
    assert "golden" in selector.decision.reason


def test_missing_int8() -> None:
    """Without int8, fp32 answers."""
    clock = Clock()

    assert made(None, Paced(GLIOMA, clock, 1.0), clock).infer(IMAGE).variant == "fp32"


def test_missing_fp32() -> None:
    """Without fp32, int8 answers and says that nothing was compared."""
    clock = Clock()
    answer = made(Paced(GLIOMA, clock, 1.0), None, clock).infer(IMAGE, validate=True)

    assert (answer.variant, answer.compared) == ("int8", 0)


def test_missing_both() -> None:
    """Without any variant the selector says why for each."""
    with pytest.raises(NoVariant, match=r"fp32: fp32 is broken; int8: int8 is broken"):
        made(None, None, Clock())


def test_fp32_asked_for() -> None:
    """fp32 answers where it is asked for."""
    clock = Clock()

    assert made(Paced(GLIOMA, clock, 1.0), Paced(GLIOMA, clock, 2.0), clock, prefer=False).infer(IMAGE).variant == "fp32"


def test_every_row_is_compared() -> None:
    """A disagreement in the last row counts as one in the first, and the whole answer becomes fp32's and says so."""
    clock = Clock()
    selector = made(Paced(GLIOMA, clock, 1.0, odd_rows={3: NONE}), Paced(GLIOMA, clock, 2.0), clock)

    answer = selector.infer(IMAGE, validate=True)

    assert (answer.variant, answer.compared, answer.differing) == ("fp32", 4, 1)
    np.testing.assert_array_equal(answer.logits, np.tile(np.array(GLIOMA, np.float32), (4, 1)))


def test_agreement() -> None:
    """Where both agree the logits are int8's, and named so."""
    clock = Clock()
    selector = made(Paced((1.9, 0, 0, 0), clock, 1.0), Paced(GLIOMA, clock, 2.0), clock)

    answer = selector.infer(IMAGE, validate=True)

    assert (answer.variant, answer.compared, answer.differing) == ("int8", 4, 0)
    assert answer.logits[0, 0] == pytest.approx(1.9)


def test_only_deciding_rows() -> None:
    """Without validation fp32 reads only the rows that decide."""
    clock = Clock()
    fp32 = Paced(GLIOMA, clock, 2.0)
    selector = made(Paced(GLIOMA, clock, 1.0), fp32, clock)
    fp32.seen.clear()

    answer = selector.infer(IMAGE, rows=lambda outputs: [2, 0])

    assert (fp32.seen, answer.compared, answer.variant) == ([2], 2, "int8")


def test_failing_int8() -> None:
    """When int8 fails, fp32 answers at once, and int8 comes back after a rest and right golden vectors."""
    clock = Clock()
    int8 = Paced(GLIOMA, clock, 1.0)
    selector = made(int8, Paced(GLIOMA, clock, 2.0), clock)
    int8.fails = True

    assert selector.infer(IMAGE).variant == "fp32"
    int8.fails = False
    assert {selector.infer(IMAGE).variant for _ in range(REST - 1)} == {"fp32"}
    assert selector.infer(IMAGE).variant == "int8"


def test_not_finite() -> None:
    """Logits that are not finite are a failure, not an answer."""
    clock = Clock()
    int8 = Paced(GLIOMA, clock, 1.0)
    selector = made(int8, Paced(GLIOMA, clock, 2.0), clock)
    int8.logits = (np.nan, 0.0, 0.0, 0.0)

    assert selector.infer(IMAGE).variant == "fp32"


def test_evidence_that_is_not_finite() -> None:
    """A map with a hole is a failure, too: its slice would count as one that nobody asked, whatever is in it."""

    class Holed(FixedModel):
        def run(self, tensor):
            return Outputs(super().run(tensor).logits, np.full((len(tensor), 4, 2, 2), -np.inf, np.float32))

    clock = Clock()
    int8 = Paced(GLIOMA, clock, 1.0)
    selector = made(int8, Paced(GLIOMA, clock, 2.0), clock)
    int8.run = Holed(GLIOMA).run  # type: ignore[method-assign]
    assert selector.infer(IMAGE).variant == "fp32"
    with pytest.raises(NetworkError, match="evidence that is not finite"):
        made(None, Holed(GLIOMA), clock).infer(IMAGE)


def test_alarm() -> None:
    """More than 5 % of wholly shadowed slices differing puts int8 to rest; it comes back when the rate has fallen."""
    clock = Clock()
    int8 = Paced(GLIOMA, clock, 1.0, odd_rows={1: NONE})
    selector = made(int8, Paced(GLIOMA, clock, 2.0), clock, monitor=DisagreementMonitor(window=40, least=8))
    selector.infer(IMAGE, validate=True)
    selector.infer(IMAGE, validate=True)

    assert (selector.monitor.alarm, selector.variant) == (True, "fp32")

    int8.odd_rows = {}
    for _ in range(REST + 1):
        selector.infer(IMAGE)

    assert (selector.monitor.alarm, selector.variant) == (False, "int8")


def test_deciding_rows_do_not_alarm() -> None:
    """Slices compared because they decide are the hard ones: they do not count towards the alarm."""
    clock = Clock()
    selector = made(Paced(GLIOMA, clock, 1.0, odd_rows={1: NONE}), Paced(GLIOMA, clock, 2.0), clock, monitor=DisagreementMonitor(least=1))

    answer = selector.infer(IMAGE, rows=lambda outputs: [0, 1])

    assert (answer.variant, answer.differing, selector.monitor.compared) == ("fp32", 1, 0)


def test_daily() -> None:
    """Golden vectors are replayed once a day, because a machine can move to another CPU while it runs."""
    clock = Clock()
    int8 = Paced(GLIOMA, clock, 1.0)
    selector = made(int8, Paced(GLIOMA, clock, 2.0), clock)
    int8.logits = NONE

    assert selector.infer(IMAGE).variant == "int8"
    clock.now += RETEST_SECONDS
    assert selector.infer(IMAGE).variant == "fp32"
