"""upper: the thread of the upper layer of an association (PS3.8 9.2), asleep until the socket, a queue or a timer has something for it."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError

from listener import logs
from listener.stream import P_DATA, Malformed, Stream

if TYPE_CHECKING:
    from listener.wire import Assoc

log = logs.get()

LONGEST_SLEEP = 60.0  # s; nothing needs it, but a wake-up that was lost would not be for ever
LINGER = 0.05  # s for the next instance to come, before the reactor goes its round: senders have it ready
_T = TypeVar("_T")


class _Bell:
    """Wakes a thread that polls. Once closed it is silent: its number may be that of a file by then."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = threading.Lock()  # a descriptor that was closed may be that of an instance now, and a ring would be written into it

    def ring(self) -> None:
        with self._closing, suppress(BlockingIOError):
            if self.descriptor >= 0:  # else there is nobody to wake
                os.eventfd_write(self.descriptor, 1)

    def silence(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        with self._closing:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


class Ringing(queue.Queue[_T]):
    """A queue that wakes whoever waits for it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def _put(self, item: _T) -> None:
        super()._put(item)
        self._ring()


class Upper(DULServiceProvider):  # type: ignore[misc]
    """The upper layer's thread: reads PDUs, and does what the state machine says."""

    def __init__(self, assoc: Assoc) -> None:
        super().__init__(assoc)
        self._bell = _Bell()
        self.to_provider_queue: queue.Queue[Any] = Ringing(self._bell.ring)
        self.to_user_queue: queue.Queue[Any] = Ringing(assoc.told)
        self._stream: Stream | None = None

    def kill_dul(self) -> None:
        super().kill_dul()
        self._bell.ring()

    def stop_dul(self) -> bool:
        if self.state_machine.current_state == "Sta1":
            self.kill_dul()
        return bool(super().stop_dul())

    def run_reactor(self) -> None:
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                self._turn()
        except (InvalidEventError, queue.Empty) as error:  # what its state does not know, or what another thread took away
            log.debug("assoc.broken", error=logs.explain(error))
            self._break_off()
        except Exception as error:  # noqa: BLE001 - of one association; the others go on
            log.error("assoc.broken", error=logs.explain(error))
            self._break_off()
        finally:
            if self._stream:
                self._stream.give_up()
            self._bell.close()
            self.assoc.wake()

    def _turn(self) -> None:
        if self.artim_timer.expired:
            self.event_queue.put("Evt18")
        if not self._process_recv_primitive() and self._is_transport_event():
            self._idle_timer.restart()
        try:
            event = self.event_queue.get(block=False)
        except queue.Empty:
            self._sleep()
        else:
            self.state_machine.do_action(event)

    def _sleep(self) -> None:
        """Until there is something to read, to send or to time out."""
        connection: Any = self.socket.socket if self.socket else None
        if self.socket.ready:
            return
        waiting = select.poll()
        waiting.register(self._bell.descriptor, select.POLLIN)
        with suppress(OSError, ValueError, TypeError):  # closed meanwhile: its end rings the bell
            waiting.register(connection, select.POLLIN)
        for descriptor, _ in waiting.poll(1000 * self._time_left()):
            if descriptor == self._bell.descriptor:
                self._bell.silence()

    def more_comes(self) -> bool:
        """Is there something to read before there is anything else to do?"""
        if self.socket.ready_at_once:
            return True
        waiting = select.poll()
        waiting.register(self._bell.descriptor, select.POLLIN)
        waiting.register(self.socket.socket, select.POLLIN)
        ready = [descriptor for descriptor, _ in waiting.poll(1000 * LINGER)]
        return bool(ready) and self._bell.descriptor not in ready and self.socket.is_for_us()

    def _time_left(self) -> float:
        timer = self.artim_timer
        runs = timer._start_time is not None and timer._end_time is None and timer.timeout is not None
        return min(LONGEST_SLEEP, max(0.0, timer.remaining) + 0.001) if runs else LONGEST_SLEEP

    def _is_transport_event(self) -> bool:
        if self.state_machine.current_state == "Sta13":
            self.socket.close()
            return True
        return bool(super()._is_transport_event())

    def _read_pdu_data(self) -> None:
        if self.state_machine.current_state != "Sta6":
            super()._read_pdu_data()
            return
        try:
            self.socket.begin_pdu()
            if self.socket.peek() != P_DATA:
                super()._read_pdu_data()
                return
            self._stream = self._stream or Stream(self, self.assoc.store)
            self.assoc.wait_until_open()
            self._stream.read()
        except Malformed as error:
            log.debug("assoc.malformed", reason=str(error))
            self._break_off()
        except OSError:  # the end of the connection, a PDU that is too long or takes too long
            self.event_queue.put("Evt17")

    def _break_off(self) -> None:
        """A-ABORT by the upper layer (PS3.8 9.3.8), and the end of it."""
        self.assoc.end()
        self._kill_thread = True
