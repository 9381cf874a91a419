"""listener/contexts.py over real sockets: which SOP classes are stored, in which transfer syntax, and that bytes stay as they were sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from objects import dataset
from peers import push, scanner, store_as
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pynetdicom import AE, AllStoragePresentationContexts, build_role, sop_class
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from listener import contexts
from listener.committer import Committer
from listener.config import Listener, Peer
from listener.eligibility import can_answer
from listener.ledger import Ledger
from listener.requestor import associate
from listener.scp import Scp
from listener.spool import Spool
from pipeline.syntaxes import why_not

SIEMENS_NON_IMAGE, PHILIPS_SPECTRUM = "1.3.12.2.1107.5.9.1", "1.3.46.670589.11.0.0.12.1"
NEWER = "1.2.840.10008.5.1.4.1.1.999.7"  # below the storage classes of the standard, and of no edition that we know
OTHER_SERVICES = (
    sop_class.PatientRootQueryRetrieveInformationModelFind,
    sop_class.StudyRootQueryRetrieveInformationModelMove,
    sop_class.ModalityWorklistInformationFind,
    sop_class.ModalityPerformedProcedureStep,
    sop_class.BasicGrayscalePrintManagementMeta,
    sop_class.UnifiedProcedureStepPush,
    sop_class.HangingProtocolStorage,  # of no patient and no study
    sop_class.InventoryStorage,
    sop_class.InventoryFind,
    "1.2.840.10008.5.1.4.1.1.200.99",  # a newer one of the same kind
    "1.2.840.10008.5.1.4.999.1",
    "1.2.840.10008.1.2.1",  # a transfer syntax
)


class Node:
    """A receiver, its ledger and its port."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.ledger = Ledger(folder)
        listener = Listener(host="127.0.0.1", port=0, peers=(Peer(ae_title="CT01"),), **settings)
        self.scp = Scp(listener, Spool(folder, self.ledger, 0), lambda _: None, Committer(listener, self.ledger))
        self.port = self.scp.start()

    def stored(self, ds: FileDataset) -> bytes:
        """The data set of this instance on disk, without what stands before it (PS3.10 7.1)."""
        held = self.ledger.find(ds.StudyInstanceUID, ds.SOPInstanceUID)
        assert held is not None
        data = held.path.read_bytes()
        return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.scp.stop(1.0)


def accepted(port: int, sop_classes: list[str], syntaxes: list[str] | None = None) -> dict[str, str]:
    """Abstract syntax -> the transfer syntax that was chosen."""
    with scanner(port, sop_classes, syntaxes=syntaxes) as assoc:
        assert assoc.is_established or not assoc.accepted_contexts
        return {context.abstract_syntax: context.transfer_syntax[0] for context in assoc.accepted_contexts}


def in_syntax(folder: Path, syntax: str, number: int) -> FileDataset:
    """An instance in `syntax`, with made-up fragments where that has some: what is stored as sent needs no codec."""
    made = dataset(number=number)
    ds = Dataset(dict(made.items()))  # a FileDataset cannot change its byte order
    ds.file_meta = made.file_meta
    ds.file_meta.TransferSyntaxUID = uid.UID(syntax)
    if ds.file_meta.TransferSyntaxUID.is_encapsulated:
        ds.PixelData = encapsulate([bytes((number,)) * 301])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    else:
        ds["PixelData"].VR = "OW"
    folder.mkdir(exist_ok=True)
    ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return dcmread(folder / f"{number}.dcm")


def on_the_wire(ds: FileDataset) -> bytes:
    syntax = ds.file_meta.TransferSyntaxUID
    return encode(ds, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated) or b""


def test_every_syntax_is_stored_as_sent(node: Node, tmp_path: Path) -> None:
    """In each transfer syntax that is accepted, the data set on disk is that on the wire, byte for byte."""
    sent = [in_syntax(tmp_path / "sent", syntax, number) for number, syntax in enumerate(contexts.TRANSFER_SYNTAXES, 1)]
    for ds in sent:
        assert push(node.port, [ds]) == [0x0000]
        assert node.stored(ds) == on_the_wire(ds), ds.file_meta.TransferSyntaxUID.name
        held = node.ledger.find("1.2.3", ds.SOPInstanceUID)
        assert held is not None and held.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID


def test_the_syntax_that_is_chosen(node: Node) -> None:
    """Of several in one context: explicit before implicit, native before compressed, lossless before lossy, readable before video."""
    choices = [
        ([uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.ExplicitVRLittleEndian], uid.ExplicitVRLittleEndian),
        ([uid.ExplicitVRBigEndian, uid.ImplicitVRLittleEndian], uid.ImplicitVRLittleEndian),
        ([uid.JPEG2000Lossless, uid.DeflatedExplicitVRLittleEndian], uid.DeflatedExplicitVRLittleEndian),
        ([uid.JPEGBaseline8Bit, uid.JPEG2000, uid.JPEGLosslessSV1], uid.JPEGLosslessSV1),
        ([uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit], uid.JPEGExtended12Bit),
        ([uid.MPEG4HP41, uid.HEVCMP51, uid.JPEGBaseline8Bit], uid.JPEGBaseline8Bit),
    ]
    for proposed, chosen in choices:
        assert accepted(node.port, [sop_class.MRImageStorage], proposed) == {sop_class.MRImageStorage: chosen}


def test_the_order_of_syntaxes() -> None:
    """Every syntax that pydicom knows stands in the order once, but for those whose pixels are elsewhere; what we can read comes first."""
    order = list(contexts.TRANSFER_SYNTAXES)
    assert len(set(order)) == len(order)
    assert {s for s in uid.AllTransferSyntaxes if s not in order} == {s for s in uid.AllTransferSyntaxes if s.name[:4] in ("JPIP", "SMPT")}
    assert [why_not(syntax) is None for syntax in order] == sorted((why_not(syntax) is None for syntax in order), reverse=True)


def test_pixels_that_are_elsewhere_are_refused(node: Node) -> None:
    """A JPIP or SMPTE syntax, and one that only its maker knows, is refused as a transfer syntax; beside another it does no harm."""
    elsewhere = ["1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.7.1", "1.2.840.113619.5.2"]
    with scanner(node.port, [sop_class.MRImageStorage], syntaxes=elsewhere) as assoc:
        assert [context.result for context in assoc.rejected_contexts] == [0x04]
    assert accepted(node.port, [sop_class.MRImageStorage], [*elsewhere, uid.ImplicitVRLittleEndian]) == {
        sop_class.MRImageStorage: uid.ImplicitVRLittleEndian
    }


def test_every_storage_class_is_accepted(node: Node) -> None:
    """Every storage SOP class of the standard, retired and newer ones included, is accepted; 128 contexts fit one association."""
    wanted = [*contexts.STORAGE, *contexts.RETIRED, NEWER]
    assert {context.abstract_syntax for context in AllStoragePresentationContexts} <= set(wanted)
    for some in (wanted[:100], wanted[100:]):
        assert accepted(node.port, some).keys() == set(some)


def test_other_services_are_not_storage(node: Node) -> None:
    """What is no storage of a patient's object is refused as an abstract syntax, and C-ECHO beside it is accepted."""
    with scanner(node.port, [*OTHER_SERVICES, sop_class.Verification]) as assoc:
        assert [context.abstract_syntax for context in assoc.accepted_contexts] == [sop_class.Verification]
        assert {context.result for context in assoc.rejected_contexts} == {0x03}
        assert assoc.send_c_echo().Status == 0x0000


def test_private_classes_are_stored_and_never_analysed(node: Node) -> None:
    """Private, retired and newer instances get 0x0000, their bytes stay, and none of them can change an answer."""
    kinds = (SIEMENS_NON_IMAGE, PHILIPS_SPECTRUM, contexts.RETIRED[0], NEWER)
    sent = [dataset(number=number, sop_class_uid=kind) for number, kind in enumerate(kinds, 1)]
    assert push(node.port, sent) == [0x0000] * 4
    study = node.ledger.study("1.2.3")
    assert study is not None and len(study.instances) == 4
    assert not any(map(can_answer, study.instances))
    assert [node.stored(ds) for ds in sent] == [on_the_wire(ds) for ds in sent]


def test_private_classes_can_be_refused(tmp_path: Path) -> None:
    """With listener.private_sop_classes = false they are refused at negotiation, and classes of the standard are not."""
    node = Node(tmp_path, private_sop_classes=False)
    wanted = [SIEMENS_NON_IMAGE, NEWER, sop_class.MRImageStorage]
    assert accepted(node.port, wanted).keys() == {NEWER, sop_class.MRImageStorage}
    node.scp.stop(1.0)


def test_a_private_class_of_another_service_is_refused(node: Node) -> None:
    """A peer that says which service its private class is of is believed (PS3.7 D.3.3.6): a private query is not accepted as storage."""
    said = SOPClassCommonExtendedNegotiation()
    said.sop_class_uid, said.service_class_uid = PHILIPS_SPECTRUM, "1.2.840.10008.4.2"
    query = SOPClassCommonExtendedNegotiation()
    query.sop_class_uid, query.service_class_uid = SIEMENS_NON_IMAGE, "1.3.12.2.1107.5.9.20"
    ae = AE("CT01")
    ae.requested_contexts = [build_context(PHILIPS_SPECTRUM), build_context(SIEMENS_NON_IMAGE)]
    assoc = associate(ae, "127.0.0.1", node.port, ae_title="VITALCHECK", ext_neg=[said, query])
    assert [context.abstract_syntax for context in assoc.accepted_contexts] == [PHILIPS_SPECTRUM]
    assert assoc.send_c_store(dataset(sop_class_uid=PHILIPS_SPECTRUM)).Status == 0x0000
    assoc.release()


def test_a_store_where_verification_was_negotiated(node: Node) -> None:
    """A C-STORE on a context of C-ECHO is answered 0x0122 and keeps nothing; the association goes on."""
    with scanner(node.port, [sop_class.Verification], syntaxes=[uid.ExplicitVRLittleEndian]) as assoc:
        assert store_as(assoc, dataset(), "1.2.3.1.1") == 0x0122
        assert assoc.send_c_echo().Status == 0x0000
    assert node.ledger.studies() == []


def test_no_other_role_is_taken(node: Node) -> None:
    """We are the SCP of storage: a peer that asks to be the SCP is not promised it."""
    ae = AE("CT01")
    ae.add_requested_context(sop_class.MRImageStorage)
    role = build_role(sop_class.MRImageStorage, scu_role=True, scp_role=True)
    assoc = associate(ae, "127.0.0.1", node.port, ae_title="VITALCHECK", ext_neg=[role])
    assert [(context.as_scu, context.as_scp) for context in assoc.accepted_contexts] == [(True, False)]
    assoc.release()


def negotiated(port: int, sop_class_uid: str, *items: Any) -> tuple[list[int], list[Any]]:
    """Results of the contexts, and items of user information beyond lengths and names, that the proposal of `items` is answered by."""
    ae = AE("CT01")
    ae.add_requested_context(sop_class_uid)
    assoc = associate(ae, "127.0.0.1", port, ae_title="VITALCHECK", ext_neg=list(items))
    told = (AsynchronousOperationsWindowNegotiation, SCP_SCU_RoleSelectionNegotiation)
    others = [item for item in assoc.acceptor.primitive.user_information if isinstance(item, told) or "Identity" in type(item).__name__]
    results = [context.result for context in (*assoc.accepted_contexts, *assoc.rejected_contexts)]
    if assoc.is_established:
        assoc.release()
    return results, others


def test_what_is_not_negotiated_gets_no_answer(node: Node) -> None:
    """A window of operations and a user's identity are passed over, and the association is accepted, as CONFORMANCE.md says."""
    window, user = AsynchronousOperationsWindowNegotiation(), UserIdentityNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    user.user_identity_type, user.primary_field, user.positive_response_requested = 1, b"somebody", True
    assert negotiated(node.port, sop_class.MRImageStorage, window, user) == ([0], [])


@pytest.mark.parametrize(("scu", "scp", "result", "answered"), [(True, True, 0, [(True, False)]), (False, True, 1, [])])
def test_the_scp_role_of_commitment_is_ours(node: Node, scu: bool, scp: bool, result: int, answered: list[tuple[bool, bool]]) -> None:
    """Of storage commitment the SCU role is accepted, the SCP role is not, and who proposes that alone has no context (PS3.7 D.3.3.4)."""
    role = build_role(sop_class.StorageCommitmentPushModel, scu_role=scu, scp_role=scp)
    results, roles = negotiated(node.port, sop_class.StorageCommitmentPushModel, role)
    assert (results, [(item.scu_role, item.scp_role) for item in roles]) == ([result], answered)


@pytest.mark.parametrize("value", ["", "1", "a.b", "1..2", "3.1", "1.2/../..", "1." + "2" * 64, "1.2\n"])
def test_what_is_no_uid_is_no_class(value: str) -> None:
    """An abstract syntax that is no UID is not taken for a private class."""
    assert not contexts.is_storage(value)
