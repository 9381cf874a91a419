"""The benchmark of receiving: its senders send every byte, and its goals are judged by what was found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from scripts import bench_tools
from scripts.bench_objects import INSTANCE, KINDS, SERIES, STUDY, data_set
from scripts.bench_receive_page import BARE, CORE, ECHO, JUDGED, LEAST, ORTHANC, PRODUCT, SINK, STORESCP, Cell, Results, Sample, goals, page
from scripts.bench_receivers import Running, cpu_seconds, pss_mb, started, tree
from scripts.bench_senders import Burst, burst, echo_ms, set_up_ms
from tests.peers import need

MR = KINDS["MR"]


@pytest.fixture(scope="module")
def storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    need("storescp")
    folder = tmp_path_factory.mktemp("bench") / "storescp"
    with started("storescp", folder) as running:
        yield running, folder / "kept"


def test_every_byte_that_senders_send_arrives(storescp: tuple[Running, Path]) -> None:
    """Three senders of two instances each leave six files with the bytes of their data sets and UIDs of their own, in three studies."""
    running, kept = storescp
    found = burst(running.port, MR, 3, 2)
    assert (found.instances, found.failures, found.rejected, len(set(found.uids))) == (6, (), 0, 6)
    held = [(path.read_bytes(), dcmread(path, stop_before_pixels=True)) for path in kept.iterdir()]
    assert {ds.SOPInstanceUID for _, ds in held} == set(found.uids)
    assert len({ds.StudyInstanceUID for _, ds in held}) == 3
    for content, ds in held:
        sent = data_set(MR)
        for placeholder, uid in ((INSTANCE, ds.SOPInstanceUID), (STUDY, ds.StudyInstanceUID), (SERIES, ds.SeriesInstanceUID)):
            sent = sent.replace(placeholder.encode(), uid.encode())
        assert content.endswith(sent)


def test_what_a_receiver_costs_is_read_from_the_kernel(storescp: tuple[Running, Path]) -> None:
    """C-ECHO and association set-up take time, and processes have memory and CPU time that only grows."""
    running, _ = storescp
    before = cpu_seconds(running.pid)
    assert 0 < echo_ms(running.port, 5) < 1000
    assert 0 < set_up_ms(running.port, 2) < 1000
    assert pss_mb(tree(running.pid)) > 1
    assert cpu_seconds(running.pid) >= before


def test_a_receiver_that_is_gone_is_a_failure_not_a_rate() -> None:
    """Senders that find nobody tell so, and give no instances per second."""
    found = burst(1, MR, 2, 1)
    assert found.failures
    assert math.isnan(found.rate)


def test_storescu_sends_too(storescp: tuple[Running, Path], tmp_path: Path) -> None:
    """Two processes of storescu deliver what was written for them, and a second burst sends the same files."""
    need("storescu")
    running, _ = storescp
    for _ in range(2):
        found = bench_tools.burst(running.port, KINDS[JUDGED], 2, 2, tmp_path)
        assert (found.instances, found.failures) == (4, ())
    assert len(list(tmp_path.rglob("*.dcm"))) == 4


def sample(rate: int, *, rejected: int = 0) -> Sample:
    return Sample(Burst(instances=rate, bytes=rate * 1_000_000, seconds=1.0, rejected=rejected), rate * 0.005)


def results(ours: int, theirs: int) -> Results:
    """Bursts of CT by the product and both rivals, twice."""
    found = Results((PRODUCT, STORESCP, ORTHANC))
    for name, rate in ((PRODUCT, ours), (STORESCP, theirs), (ORTHANC, theirs)):
        for n in LEAST:
            found.bursts[Cell(name, JUDGED, n)] = [sample(rate), sample(rate)]
    return found


def test_goals_are_judged_against_storescp_and_orthanc() -> None:
    """A product as fast as storescp meets the goals at 1, 4 and 16 associations, misses the one at 64, and every one against Orthanc."""
    verdicts = [goal.verdict for goal in goals(results(100, 100))]
    assert verdicts[:8] == ["met", "met", "met", "**missed**"] + ["**missed**"] * 4


def test_what_stands_beside_a_goal_does_not_judge_it() -> None:
    """Bare sockets and the receiver that keeps nothing have columns of their own, each of its own bursts; the verdict is storescu's."""
    found = results(100, 100)
    for cell, rate in ((Cell(PRODUCT, BARE, 1), 20), (Cell(STORESCP, BARE, 1), 100), (Cell(SINK, JUDGED, 1), 300)):
        found.bursts[cell] = [sample(rate), sample(rate)]
    first = goals(found)[0]
    assert (first.verdict, first.found, first.bare, first.most) == ("met", 1.0, 0.2, 3.0)


def test_what_was_not_measured_meets_no_goal() -> None:
    """An empty run leaves every goal not measured, and a refusal is no rate."""
    assert {goal.verdict for goal in goals(Results((PRODUCT,)))} == {"not measured"}
    found = results(100, 10)
    found.bursts[Cell(PRODUCT, JUDGED, 64)] = [sample(100), sample(100, rejected=1)]
    assert [goal.verdict for goal in goals(found)][3] == "not measured"
    assert "refuses" in page(found, 2, "ext4")


def test_limits_are_below_what_was_asked() -> None:
    """A C-ECHO of 0.9 ms meets its goal, and 5 % of a core for idle associations misses it."""
    found = Results((PRODUCT,))
    found.note(PRODUCT, ECHO, 0.9)
    found.note(PRODUCT, CORE, 5.0)
    verdicts = {goal.what: goal.verdict for goal in goals(found)}
    assert (verdicts[ECHO], verdicts[CORE]) == ("met", "**missed**")
