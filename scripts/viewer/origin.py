"""One origin for all that a browser needs: the start page, the built viewer, and the PACS's DICOMweb behind it.

/start   /start/push   /dicom-web/...   /app-config.js   and everything else is the viewer's
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from html import escape
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scripts.demo import DemoFailed

CONFIG = Path(__file__).parents[2] / "deploy" / "ohif-config.js"
STYLE = Path(__file__).parents[2] / "listener" / "web" / "style.css"
ANSWER_SECONDS = 60.0
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}  # what decoders' shared memory needs
PAGE = """<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<title>VitalCheck: see a report in a viewer</title>
<link rel="stylesheet" href="/start/style.css">
</head>
<body>
<header><span class="name">VitalCheck</span> <span>PACS, viewer and AI node on this machine</span></header>
<main>
{body}
</main>
<footer>Research use, not a medical device. The demo study is a painted phantom: no patient was scanned for it.</footer>
</body>
</html>
"""
HOW = """<p>In the viewer's list of series on the left:</p>
<ul>
<li>series 9001, <b>Summary</b>: double-click it, and the sentences are there as text;</li>
<li>series 9002, <b>Measurements</b>: double-click it, and the region that the AI looked at is drawn on the best slice.</li>
</ul>"""


class Push:
    """The demo study on its way, as the page shows it. `send` gives it to PACS and node, `wait` returns when the reports are there."""

    def __init__(self, study_uid: str, send: Callable[[], None], wait: Callable[[], object]) -> None:
        self.study_uid, self._send, self._wait = study_uid, send, wait
        self.state, self.reason = "idle", ""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Sends it in a thread of its own; does nothing where it is on its way or there."""
        with self._lock:
            if self.state in ("idle", "failed"):
                self.state = "sending"
                threading.Thread(target=self._run, name="push", daemon=True).start()

    def _run(self) -> None:
        try:
            self._send()
            self.state = "reading"
            self._wait()
            self.state = "delivered"
        except (DemoFailed, OSError) as failure:
            self.state, self.reason = "failed", str(failure)


class Isolated:
    """Puts the two headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def isolated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(ISOLATION)
            await send(message)

        await self._app(scope, receive, isolated)


class Viewer(StaticFiles):
    """The built viewer: a path that is no file of it is a page of it."""

    def lookup_path(self, path: str) -> tuple[str, object]:  # type: ignore[override]  # os.stat_result | None
        full, found = super().lookup_path(path)
        return (full, found) if found is not None else super().lookup_path("index.html")


def create(dist: Path, pacs_http_port: int, push: Push) -> Starlette:
    """The application. Only browsers that were really sent to this machine are answered: the PACS behind it asks for no password."""

    def start(_: Request) -> Response:
        return HTMLResponse(page(push))

    def send(_: Request) -> Response:
        push.start()
        return RedirectResponse("/start", 303)

    def dicom_web(request: Request) -> Response:
        return forward(request, pacs_http_port)

    app = Starlette(
        routes=[
            Route("/start", start),
            Route("/start/push", send, methods=["POST"]),
            Route("/start/style.css", lambda _: FileResponse(STYLE)),
            Route("/dicom-web/{path:path}", dicom_web),
            Route("/app-config.js", lambda _: FileResponse(CONFIG)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]), Middleware(Isolated)],
    )
    app.mount("/", Viewer(directory=dist, html=True))
    return app


def forward(request: Request, port: int) -> Response:
    """What the PACS answers. GET alone (Starlette adds HEAD): this viewer looks, it stores nothing.

    Host goes along, for the PACS makes the addresses of bulk data of it (PS3.18 8.7.3).
    """
    query = f"?{request.url.query}" if request.url.query else ""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        kept = {name: value for name in ("accept", "host") if (value := request.headers.get(name))}
        connection.request(request.method, f"/dicom-web/{request.path_params['path']}{query}", headers=kept)
        answer = connection.getresponse()
        body, kind = answer.read(), answer.getheader("Content-Type", "")
    except (OSError, http.client.HTTPException) as error:
        return Response(f"the PACS does not answer: {error}\n", 502, media_type="text/plain")
    finally:
        connection.close()
    return Response(body, answer.status, headers={"Content-Type": kind} if kind else None)


def page(push: Push) -> str:
    """The start page; it loads itself again while the study is on its way."""
    viewer = f"/viewer?StudyInstanceUIDs={escape(push.study_uid)}"
    button = '<form method="post" action="/start/push"><button>Send the demo study</button></form>'
    body = {
        "idle": f"<h1>Send a head MR study to PACS and AI node, and read the answer</h1>{button}",
        "sending": "<h1>The scanner is sending the demo study ...</h1>",
        "reading": "<h1>The study is in the PACS; VitalCheck waits until it is complete, and reads it ...</h1>",
        "failed": f"<h1>This failed: {escape(push.reason)}</h1>{button}",
        "delivered": f'<h1>Both reports are in the PACS</h1><p><a href="{viewer}">Open the study in OHIF</a></p>{HOW}',
    }[push.state]
    waiting = push.state in ("sending", "reading")
    listed = '<p><a href="/">OHIF\'s list of studies</a></p>'
    return PAGE.format(refresh='<meta http-equiv="refresh" content="1">\n' if waiting else "", body=body + listed)
