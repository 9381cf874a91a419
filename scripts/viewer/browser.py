"""A headless Chromium, spoken to in the DevTools protocol over two pipes: no driver, no library, no port.

Chromium reads commands on descriptor 3 and writes answers and events on descriptor 4, each JSON and a zero byte (--remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from scripts.demo import DemoFailed
from scripts.viewer import Missing, end

FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--use-gl=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-background-networking", "--disable-component-update", "--no-first-run", "--hide-scrollbars",
    "--disable-dev-shm-usage",
)  # fmt: skip
ANSWER_SECONDS = 60.0  # a page that draws in software on two cores may think for long

STOP_SECONDS = 10.0


class Browser:
    """One page. `evaluate` is its JavaScript, `click` its mouse, `picture` what it shows."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._buffer, self._number, self._session = to, back, b"", 0, ""
        os.set_blocking(back, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(back, selectors.EVENT_READ)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **parameters: Any) -> Any:
        """The answer to one command. Raises DemoFailed."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        try:
            os.write(self._to, json.dumps(command | ({"sessionId": self._session} if self._session else {})).encode() + b"\0")
        except BrokenPipeError:
            raise DemoFailed(f"Chromium ended before it heard {method}") from None
        until = time.monotonic() + ANSWER_SECONDS
        while (message := self._message(until, method)).get("id") != self._number:
            pass  # events, which nobody here waits for
        if "error" in message:
            raise DemoFailed(f"Chromium refused {method}: {message['error'].get('message')}")
        return message["result"]

    def _message(self, until: float, method: str) -> Any:
        while b"\0" not in self._buffer:
            if not self._selector.select(max(0.0, until - time.monotonic())):
                raise DemoFailed(f"Chromium did not answer {method} within {ANSWER_SECONDS:.0f} s")
            if not (read := os.read(self._back, 1 << 20)):
                raise DemoFailed(f"Chromium ended before it answered {method}")
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, address: str) -> None:
        """Returns when all of it is there: a style sheet that comes later moves what is to be clicked. Raises DemoFailed."""
        self.call("Page.navigate", url=address)
        self.wait("location.protocol !== 'about:' && document.readyState === 'complete'", ANSWER_SECONDS, address)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page. Raises DemoFailed."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise DemoFailed(f"the page raised {answer['exceptionDetails'].get('exception', {}).get('description', 'an exception')}")
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float, what: str) -> Any:
        """The first true value of the expression; a page on its way to another has none. Raises DemoFailed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if found := self.evaluate(expression):
                    return found
            except DemoFailed:
                if time.monotonic() > until - 1:
                    raise
            time.sleep(0.2)
        raise DemoFailed(f"{what} did not come within {seconds:g} s")

    def click(self, x: float, y: float, times: int = 1) -> None:
        """The left button, `times` in quick succession."""
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self) -> bytes:
        """PNG of what is seen."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def chromium(width: int = 1400, height: int = 900) -> Iterator[Browser]:
    """Debian's Chromium with a profile of its own; gone afterwards. Raises Missing, DemoFailed."""
    program = shutil.which("chromium")
    if program is None:
        raise Missing("Chromium is missing; install the Debian package chromium")
    commands, to = os.pipe()
    back, answers = os.pipe()
    with tempfile.TemporaryDirectory(prefix="vitalcheck-chromium-", ignore_cleanup_errors=True) as profile:
        child = _start([program, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"], commands, answers)
        try:
            browser = Browser(to, back)
            browser.resize(width, height)
            yield browser
        finally:
            _stop(child)
            os.close(to)
            os.close(back)


def _start(command: list[str], commands: int, answers: int) -> subprocess.Popen[bytes]:
    """The child with the pipes as its descriptors 3 and 4: a shell puts them there, for Popen cannot. Closes our copies."""
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 20) for each in (commands, answers)]  # so that neither is 3 or 4 before its turn
    spliced = ["bash", "-c", f'exec 3<&{high[0]} 4>&{high[1]} "$0" "$@"', *command]  # sh of Debian knows descriptors of one digit only
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(spliced, pass_fds=high, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    for each in (commands, answers, *high):
        os.close(each)
    return child


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ends Chromium, and those of its helpers that would write into the profile a moment longer."""
    end(child, STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # of its own session, which nobody else is in
