"""The window: health, readiness, metrics, a small API and a page for people. It shows; nothing can be changed through it.

/healthz   /readyz   /metrics   /api/studies   /api/studies/{StudyInstanceUID}   /   /studies/{StudyInstanceUID}
"""

from __future__ import annotations

import base64
import binascii
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from listener import metrics
from listener.config import Config, is_loopback
from listener.errors import NoListen, UnknownStudy
from listener.ledger import Ledger
from listener.schema import MOVES
from listener.view import as_json
from listener.web import page
from listener.web.ready import Status, readiness

OPEN = ("/healthz",)  # answers without a token: it says nothing but "alive"
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Awaitable[Response]]


class Server:
    """The page in a thread of the receiver process. Raises NoListen."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=64)
        except OSError as error:
            raise NoListen(host, port, error.strerror or str(error), "http.port") from error
        self.port: int = self._socket.getsockname()[1]
        settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finishes what is being answered, and closes the port."""
        self._server.should_exit = True
        self._thread.join(5.0)
        self._socket.close()


def start(config: Config, ledger: Ledger, status: Status) -> Server:
    """Serves on config.http until `.stop()`. Raises NoListen."""
    return Server(create(config, ledger, status), config.http.host, config.http.port)


def create(config: Config, ledger: Ledger, status: Status) -> Starlette:
    """The application; a test may run it without a port."""
    window = Window(config, ledger, status)
    routes = [
        Route("/healthz", window.healthz),
        Route("/readyz", window.readyz),
        Route("/metrics", window.metrics),
        Route("/api/studies", window.api_studies),
        Route("/api/studies/{uid}", window.api_study),
        Route("/", window.page),
        Route("/studies/{uid}", window.study_page),
        Route("/style.css", window.style),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=config.http.token)],
        exception_handlers={UnknownStudy: _unknown_study},
    )


class Guard(BaseHTTPMiddleware):
    """Asks for the token where there is one, and puts the security headers on every answer.

    Without a token only a browser that was really sent to this machine is answered: another site whose name was made
    to point here (DNS rebinding) carries its own name in the Host header.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        super().__init__(app)
        self._token = token

    async def dispatch(self, request: Request, call_next: Handler) -> Response:
        if request.url.path in OPEN or self._admits(request):
            response = await call_next(request)
        elif self._token:
            challenge = {"WWW-Authenticate": 'Basic realm="VitalCheck: any user, the token as password"'}
            response = PlainTextResponse("a token is needed: Authorization: Bearer TOKEN (http.token)\n", 401, challenge)
        else:
            response = PlainTextResponse("without http.token only http://127.0.0.1 and http://localhost are answered\n", 403)
        response.headers.update(SECURITY_HEADERS)
        return response

    def _admits(self, request: Request) -> bool:
        if not self._token:
            host = request.headers.get("host", "")
            return is_loopback((host if host.endswith("]") else host.rpartition(":")[0] or host).strip("[]"))
        return secrets.compare_digest(_offered(request.headers.get("authorization", "")).encode(), self._token.encode())


def _offered(authorization: str) -> str:
    """The token of `Bearer TOKEN`, or the password of `Basic`, so that a browser can ask for it."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class Window:
    """The answers. Each reads the ledger anew."""

    def __init__(self, config: Config, ledger: Ledger, status: Status) -> None:
        self._config, self._ledger, self._status = config, ledger, status

    def healthz(self, _: Request) -> Response:
        return JSONResponse({"alive": True})

    def readyz(self, _: Request) -> Response:
        found = readiness(self._config, self._ledger, self._status, time.time())
        return JSONResponse(found.as_json(), 200 if found.ready else 503)

    def metrics(self, _: Request) -> Response:
        return Response(metrics.render(self._ledger), media_type="text/plain; version=0.0.4; charset=utf-8")

    def api_studies(self, request: Request) -> Response:
        state = request.query_params.get("state")
        if state is not None and state not in MOVES:
            return JSONResponse({"error": f"no such state; states are {', '.join(MOVES)}"}, 400)
        return JSONResponse([as_json(overview) for overview in self._ledger.studies(state)])

    def api_study(self, request: Request) -> Response:
        return JSONResponse(self._ledger.describe(request.path_params["uid"]))

    def page(self, request: Request) -> Response:
        now, state = time.time(), request.query_params.get("state")
        state = state if state in MOVES else None
        found = readiness(self._config, self._ledger, self._status, now)
        aet = self._config.listener.ae_title
        overviews, counts = self._ledger.studies(state), self._ledger.counts()
        return HTMLResponse(page.studies(overviews, counts, state, found, f"{aet} on {_ports(self._status)}", now))

    def study_page(self, request: Request) -> Response:
        return HTMLResponse(page.study(self._ledger.describe(request.path_params["uid"])))

    def style(self, _: Request) -> Response:
        return FileResponse(Path(__file__).with_name("style.css"), media_type="text/css")


def _ports(status: Status) -> str:
    plain = f"port {status.port}" if status.port is not None else ""
    return " and ".join(filter(None, (plain, f"port {status.tls_port} (TLS)" if status.tls_port is not None else "")))


def _unknown_study(request: Request, error: Exception) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": str(error)}, 404)
    return PlainTextResponse(f"{error}\n", 404)
