"""listener/command_set.py against the library's own encoder and decoder."""

from __future__ import annotations

from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import read_dataset
from pydicom.uid import CTImageStorage
from pynetdicom.dimse_messages import C_ECHO_RQ, C_ECHO_RSP, C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import encode

from listener.command_set import StoreRequest, echo_request, echo_response, store_request, store_response

UIDS = st.from_regex(r"[1-9]{1,9}(\.[1-9][0-9]{0,8}){0,5}", fullmatch=True)


def theirs(uid: str, number: int) -> bytes:
    """A C-STORE request as the library writes it."""
    primitive, message = C_STORE(), C_STORE_RQ()
    primitive.MessageID, primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = number, CTImageStorage, uid
    primitive.Priority, primitive.DataSet = 2, BytesIO(b"\0\0")
    message.primitive_to_message(primitive)
    return encode(message.command_set, True, True) or b""


@given(UIDS, st.integers(0, 65535))
def test_a_request_is_read_as_it_was_written(uid: str, number: int) -> None:
    """Message ID, both UIDs without their padding, and that a data set follows."""
    assert store_request(theirs(uid, number)) == StoreRequest(number, CTImageStorage, uid, has_data_set=True)


@given(UIDS, st.integers(0, 65535), st.sampled_from([0x0000, 0xA700, 0xA900, 0xC000, 0x0122]), st.text(max_size=80))
def test_a_response_is_one_to_the_library(uid: str, number: int, status: int, comment: str) -> None:
    """What we write by hand reads as a C-STORE response with the same values; what is no ASCII in a comment does no harm."""
    raw = store_response(StoreRequest(number, CTImageStorage, uid, has_data_set=True), status, comment)
    message = C_STORE_RSP()
    message.command_set = read_dataset(BytesIO(raw), True, True)
    answer = message.message_to_primitive()
    assert (answer.MessageIDBeingRespondedTo, answer.Status) == (number, status)
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (CTImageStorage, uid)
    assert message.command_set.CommandGroupLength == len(raw) - 12


def test_an_echo_is_no_store_and_its_response_is_one_to_the_library() -> None:
    """Message ID and status; a C-STORE request is no echo."""
    primitive, message, answer = C_ECHO(), C_ECHO_RQ(), C_ECHO_RSP()
    primitive.MessageID = 7
    message.primitive_to_message(primitive)
    raw = encode(message.command_set, True, True) or b""
    assert (store_request(raw), echo_request(raw), echo_request(theirs("1.2.3", 7))) == (None, 7, None)
    answer.command_set = read_dataset(BytesIO(echo_response(7)), True, True)
    told = answer.message_to_primitive()
    assert (told.MessageIDBeingRespondedTo, told.Status, told.AffectedSOPClassUID) == (7, 0x0000, "1.2.840.10008.1.1")


@given(st.integers(1, 60))
def test_a_command_that_is_cut_is_none(missing: int) -> None:
    """Whatever is missing at its end, but for whole elements."""
    whole = theirs("1.2.3.4", 1)
    try:
        found = store_request(whole[:-missing])
    except ValueError:
        return
    assert found is None or found.sop_instance_uid == ""


@given(st.binary(max_size=200))
def test_rubbish_is_said_to_be_none(raw: bytes) -> None:
    """ValueError, None, or a request; nothing else comes of any bytes."""
    try:
        found = store_request(raw)
    except ValueError as error:
        assert str(error)
    else:
        assert found is None or raw[:2] == b"\0\0"
