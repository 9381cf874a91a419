"""listener/delivery.py against polite, rude, silent and dead destinations."""

from __future__ import annotations

from io import BytesIO

import pytest
from objects import dataset
from peers import StoragePeer, dead_peer, silent_peer
from pydicom.uid import ComprehensiveSRStorage, EncapsulatedPDFStorage, EnhancedSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import build_context

from listener import delivery, requestor
from listener.delivery import Failed, Sent
from listener.engine import pause


def document() -> bytes:
    buffer = BytesIO()
    dataset(sop_class_uid=EnhancedSRStorage, PatientID="Müller", SpecificCharacterSet="ISO_IR 192").save_as(
        buffer, enforce_file_format=True
    )
    return buffer.getvalue()


def test_a_document_arrives_as_it_was_made() -> None:
    """The destination holds the same data set under the same UID."""
    with StoragePeer() as pacs:
        assert delivery.send(document(), pacs.destination, "VITALCHECK") == Sent(0x0000)
    (arrived,) = pacs.received
    assert (arrived.SOPInstanceUID, arrived.PatientID) == ("1.2.3.1.1", "Müller")
    assert arrived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_destination_of_the_old_school_gets_implicit_vr() -> None:
    """One that knows nothing but the default transfer syntax gets the document in it."""
    contexts = [build_context(EnhancedSRStorage, ImplicitVRLittleEndian)]
    with StoragePeer(contexts=contexts) as pacs:
        assert delivery.send(document(), pacs.destination, "VITALCHECK") == Sent(0x0000)
    assert (pacs.received[0].PatientID, pacs.received[0].file_meta.TransferSyntaxUID) == ("Müller", ImplicitVRLittleEndian)


@pytest.mark.parametrize("status", [0x0111, 0xB000, 0xB006, 0xB007])
def test_warnings_and_duplicates_mean_stored(status: int) -> None:
    """What a PACS has, coerced or already, is not sent again."""
    with StoragePeer(status=status) as pacs:
        assert delivery.send(document(), pacs.destination, "VITALCHECK") == Sent(status)


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC000, 0x0110])
def test_refusals_are_worth_another_attempt(status: int) -> None:
    """A full PACS is told by its status."""
    with StoragePeer(status=status) as pacs:
        answer = delivery.send(document(), pacs.destination, "VITALCHECK")
    assert answer == Failed(f"PACS answered the C-STORE with 0x{status:04X}")


def test_trouble_of_the_network_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there, an unknown host, the wrong AE title, silence, no SR: each is one line, never an exception."""
    monkeypatch.setattr(requestor, "ANSWER_TIMEOUT", 0.5)
    dead = dead_peer()
    assert delivery.send(document(), dead, "VITALCHECK") == Failed(
        f"no association with PACS at 127.0.0.1:{dead.port}; is it running, and is that its destinations[].port?"
    )
    nowhere = dead.model_copy(update={"host": "no-such-host.invalid"})
    assert isinstance(delivery.send(document(), nowhere, "VITALCHECK"), Failed)
    with silent_peer() as silent:
        assert isinstance(delivery.send(document(), silent, "VITALCHECK"), Failed)
    with StoragePeer() as pacs:
        wrong = pacs.destination.model_copy(update={"ae_title": "OTHER"})
        assert "rejected the association" in str(delivery.send(document(), wrong, "VITALCHECK"))
    with StoragePeer(contexts=[build_context(ComprehensiveSRStorage)]) as pacs:
        said = f"PACS at 127.0.0.1:{pacs.port} does not accept Enhanced SR Storage; switch it on there"
        assert delivery.send(document(), pacs.destination, "VITALCHECK") == Failed(said)


def test_a_document_cut_short_is_an_answer() -> None:
    """What cannot be read or sent is worth another attempt and never an exception, which would be the last attempt."""
    with StoragePeer() as pacs:
        answer = delivery.send(document()[:100], pacs.destination, "VITALCHECK")
    assert isinstance(answer, Failed)
    assert "could not be sent to PACS" in answer.reason


def test_echo_tells_whether_documents_would_be_taken() -> None:
    """C-ECHO answered and both SR classes accepted, or what is missing."""
    with StoragePeer() as pacs:
        assert delivery.echo(pacs.destination, "VITALCHECK") == Sent(0x0000)
    with StoragePeer(contexts=[build_context(ComprehensiveSRStorage)]) as pacs:
        assert delivery.echo(pacs.destination, "VITALCHECK") == Failed("PACS does not accept Enhanced SR Storage")
    assert isinstance(delivery.echo(dead_peer(), "VITALCHECK"), Failed)


def test_echo_asks_for_what_the_destination_is_to_get() -> None:
    """One that is to get a PDF need not know Structured Reports; one that knows nothing else is told what it lacks."""
    with StoragePeer(contexts=[build_context(EncapsulatedPDFStorage)]) as pacs:
        pdf = pacs.destination.model_copy(update={"documents": ("pdf",)})
        assert delivery.echo(pdf, "VITALCHECK") == Sent(0x0000)
        both = pacs.destination.model_copy(update={"documents": ("pdf", "key-image")})
        assert delivery.echo(both, "VITALCHECK") == Failed("PACS does not accept Secondary Capture Image Storage")


def test_pauses_grow_and_end_at_five_minutes() -> None:
    """2, 4, 8 ... 300 seconds, for ever."""
    assert [pause(n) for n in (1, 2, 3, 8, 9, 5000)] == [2, 4, 8, 256, 300, 300]
