"""A ledger in which something of everything has happened: delivered, waiting for a PACS that is down, declined, quarantined, receiving."""

from __future__ import annotations

from pathlib import Path

from objects import instance

from listener.ledger import Ledger
from listener.rows import Job
from pipeline.records import USUAL, Choice, Document, Finding, Geometry, PassedOver, Report, Series, Source

T0 = 1_700_000_000.0
DELIVERED, WAITING, DECLINED, QUARANTINED, RECEIVING = (f"1.2.826.0.1.{n}" for n in range(1, 6))
ERROR = "connection refused <b>"
GAP = "A gap of 18.0 mm lies between slices 2 and 3."


def filled(folder: Path) -> Ledger:
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder)
    for n, uid in enumerate((DELIVERED, WAITING, DECLINED, QUARANTINED, RECEIVING)):
        for number in (1, 2):
            made = instance(folder / "spool" / uid, uid, number=number, received_at=T0 + 10 * n + number)
            ledger.add(made, can_answer=True, calling_ae="CT01", called_ae="VITALCHECK")
    for uid in (DELIVERED, WAITING):
        job, report = _queued(ledger, uid), _report(uid)
        paths = {document.sop_instance_uid: folder / "reports" / document.sop_instance_uid for document in report.documents}
        ledger.finish(job, report, paths, {"pacs": USUAL}, T0 + 62)
        for document in report.documents:
            if uid == DELIVERED:
                ledger.stored(document.sop_instance_uid, "pacs", 1, T0 + 63)
            else:
                ledger.not_stored(document.sop_instance_uid, "pacs", 1, ERROR, T0 + 66)
    ledger.decline(DECLINED, ledger.receiving()[DECLINED], "no T1-weighted head series: series 1 (MR): T2-weighted", T0 + 60)
    ledger.quarantine(_queued(ledger, QUARANTINED), "instance 1.2.826.0.1.4.1.1: pixels cannot be read (ValueError)", T0 + 62)
    return ledger


def _queued(ledger: Ledger, uid: str) -> Job:
    study = ledger.answering(uid)
    assert study is not None
    job = ledger.queue(study, ledger.receiving()[uid], "quiet for 3 s", T0 + 60)
    assert job is not None
    ledger.begin(job, T0 + 61)
    return job


def _report(uid: str) -> Report:
    finding = Finding("glioma", "present", 0.97, {"glioma": 0.97, "notumor": 0.03}, (Source(f"{uid}.1.2"),), ((1.0, 2.0), (3.0, 4.0)))
    documents = tuple(
        Document(kind, f"{uid}.9.{n}", "1.2.840.10008.5.1.4.1.1.88.33", b"SR")  # type: ignore[arg-type]
        for n, kind in enumerate(("summary", "measurements"))
    )
    choice = Choice(Series(f"{uid}.1", ()), "T1-weighted head series after contrast", (PassedOver(f"{uid}.2", 2, "MR", "localizer"),), True)
    lies = {"geometry": Geometry("axial", 15.2, between=6.0, remarks=(GAP,)), "slices": 24, "recipe": "0123456789abcdef"}
    return Report(uid, "analysed", None, "brain_tumor_4class 1.0.0", choice, finding, "int8", "agree", documents, {"decode": 12.5}, **lies)  # type: ignore[arg-type]
