"""stream: the P-DATA of an open association. A C-STORE goes fragment by fragment from the socket to the spool.

    PDU   type B (04) | reserved B | length >L | items                                      PS3.8 table 9-22
    item  length >L | context B | message control header B | fragment                       PS3.8 tables 9-23, E.2-1
          bit 0: of a command, else of a data set; bit 1: the last fragment

    command -- whole? -- C-STORE-RQ? --yes--> Store.begin > write ... > Store.end > C-STORE-RSP
                              |
                         C-ECHO-RQ? ---yes--> C-ECHO-RSP
                              |
                              no: its items go to the library, and so do those of its data set

How a sender cuts its command and its data set is its own business: one item a PDU or many, of one byte or a megabyte, or of none.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_items import PresentationDataValueItem
from pynetdicom.sop_class import Verification

from listener.command_set import LONGEST, StoreRequest, echo_request, echo_response, store_request, store_response
from listener.connection import AFTER

if TYPE_CHECKING:
    from listener.upper import Upper

P_DATA = 0x04  # PDU type
COMMAND, LAST = 1, 2
MOST_OTHER = 1 << 25  # bytes of a data set that is not stored: a commitment request with 100 000 references has up to 15 MB
_PDU, _ITEM, _RESPONSE = Struct(">BxL"), Struct(">LBB"), Struct(">BxLLBB")


class Malformed(Exception):
    """What came is no message of DICOM, or no more of it is wanted; the association is aborted."""


class Sink(Protocol):
    """Where a data set goes."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Takes a copy."""


class Store(Protocol):
    """Who keeps instances. Called on the thread of the upper layer."""

    def begin(self, assoc: Any, request: StoreRequest, context: Any) -> Sink:
        """Where the data set goes; what is refused is swallowed by a sink of its own. Raises ConnectionError, as `end`."""

    def end(self, assoc: Any, request: StoreRequest, sink: Sink) -> tuple[int, str]:
        """Status and Error Comment, once the last fragment was written. Raises ConnectionError where another thread ended it all."""

    def echoed(self, assoc: Any) -> None:
        """A C-ECHO was answered."""

    def give_up(self, assoc: Any, sink: Sink) -> None:
        """The association ended before its data set did."""


class Stream:
    """What is half received. One for each association."""

    def __init__(self, upper: Upper, store: Store) -> None:
        self._upper, self._store, self._socket, self._assoc = upper, store, upper.socket, upper.assoc
        self._command, self._context = bytearray(), 0  # of the message that is coming
        self._request: StoreRequest | None = None
        self._sink: Sink | None = None
        self._others = -1  # bytes that the library still takes for the data set of its message; -1: it waits for none

    def read(self) -> None:
        """One PDU, and while an instance is coming in, those that follow. Raises Malformed, OSError."""
        self._pdu()
        while (self._sink or (self._request and self._upper.more_comes())) and not self._upper._kill_thread:
            self._upper._idle_timer.restart()
            self._socket.begin_pdu()
            if self._socket.peek() != P_DATA:  # an abort, a release, the end: the state machine's
                return
            self._pdu()

    def give_up(self) -> None:
        sink, self._sink = self._sink, None
        if sink:
            self._store.give_up(self._assoc, sink)

    def _pdu(self) -> None:
        _, left = _PDU.unpack(self._socket.take(_PDU.size))
        if left > AFTER:
            raise Malformed(f"a PDU of {left} bytes")
        while left:
            left -= self._item(left)

    def _item(self, left: int) -> int:
        """One presentation data value item; its length."""
        if left < _ITEM.size:
            raise Malformed("an item is cut off")
        length, context, control = _ITEM.unpack(self._socket.take(_ITEM.size))
        if length < 2 or length + 4 > left:
            raise Malformed("an item is longer than its PDU")
        if control & COMMAND:
            self._of_command(context, length - 2, control)
        elif self._sink:
            self._of_instance(context, length - 2, control)
        else:
            self._of_others(context, length - 2, control)
        return int(length) + 4

    def _of_command(self, context: int, length: int, control: int) -> None:
        if self._sink or self._others >= 0:
            raise Malformed("a command within a data set")
        if len(self._command) + length > LONGEST:
            raise Malformed("a command set without end")
        if self._command and context != self._context:
            raise Malformed("one command in two contexts")
        self._context = context
        self._command += self._socket.take(length)
        if control & LAST:
            command, self._command = bytes(self._command), bytearray()
            try:
                self._serve(command)
            except ValueError as error:
                raise Malformed(f"a command set that cannot be read: {error}") from error

    def _serve(self, command: bytes) -> None:
        """Raises ValueError where it is no command set."""
        self._request = store_request(command)
        if self._request:
            self._begin(self._request)
        elif (echo := echo_request(command)) is not None and self._is_verification():
            self._store.echoed(self._assoc)
            self._send(echo_response(echo))
        else:
            self._hand_on(self._context, COMMAND | LAST, command)

    def _is_verification(self) -> bool:
        accepted = self._assoc._accepted_cx.get(self._context)
        return accepted is not None and accepted.abstract_syntax == Verification

    def _begin(self, request: StoreRequest) -> None:
        accepted = self._assoc._accepted_cx.get(self._context)
        if accepted is None:
            raise Malformed("a context that was not negotiated")
        self._socket.widen()
        sink = self._store.begin(self._assoc, request, accepted)
        if request.has_data_set:
            self._sink = sink
        else:
            self._answer(request, *self._store.end(self._assoc, request, sink))

    def _of_instance(self, context: int, length: int, control: int) -> None:
        sink, request = self._sink, self._request
        if context != self._context or sink is None or request is None:
            raise Malformed("a data set in another context than its command")
        while length:
            if not self._socket.buffered:
                self._socket.more()
            chunk = self._socket.some(length)
            sink.write(chunk)
            length -= len(chunk)
        if control & LAST:
            answer = self._store.end(self._assoc, request, sink)
            self._sink = None  # now, for what cannot be ended is given up
            self._answer(request, *answer)

    def _of_others(self, context: int, length: int, control: int) -> None:
        """The data set of a message that the library serves."""
        if self._others < 0 or context != self._context:
            raise Malformed("a data set without a command")
        self._others += length
        if self._others > MOST_OTHER:
            raise Malformed(f"a data set of more than {MOST_OTHER} bytes that is no instance")
        self._hand_on(context, control, self._socket.take(length))

    def _hand_on(self, context: int, control: int, fragment: bytes) -> None:
        """To the library, as the PDU that it would have read."""
        item, pdu = PresentationDataValueItem(), P_DATA_TF()
        item.presentation_context_id, item.presentation_data_value = context, bytes([control]) + fragment
        pdu.presentation_data_value_items.append(item)
        self._upper._recv_pdu.put(pdu)
        self._upper.state_machine.do_action("Evt10")
        self._others = max(self._others, 0) if self._assoc.dimse.message is not None else -1

    def _answer(self, request: StoreRequest, status: int, comment: str) -> None:
        self._send(store_response(request, status, comment))
        if self._assoc.is_unwanted:
            raise Malformed("its sender is sent away")

    def _send(self, body: bytes) -> None:
        self._socket.socket.sendall(_RESPONSE.pack(P_DATA, len(body) + 6, len(body) + 2, self._context, COMMAND | LAST) + body)
