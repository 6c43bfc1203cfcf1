"""The page's small server: one page, a few questions, for this machine only.

- Bound to 127.0.0.1. Every address begins with a random token; requests with another Host (DNS rebinding) or from
  another Origin are refused. No path of a request ever becomes the name of a file.
- One worker thread asks the model, one question at a time. Of edits only the newest counts: those that wait when a
  newer one arrives are answered with 409, without work.
- The thread is a daemon, so that Ctrl-C ends the program at once, whatever the model is doing.
"""

from __future__ import annotations

import asyncio
import json
import queue
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from aiohttp import web

from objectscape.explorer.export import page_of
from objectscape.explorer.session import Session

UPLOAD = 16 * 2**20
"""Largest picture file in bytes."""
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors http://127.0.0.1:* http://localhost:*",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Worker:
    """One daemon thread that does one thing after the other."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, name="objectscape-explore", daemon=True).start()

    async def __call__(self, function: Callable[[], Any]) -> Any:
        """The result of `function()`, computed when its turn comes."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._work.put((function, loop, future))
        return await future

    def _run(self) -> None:
        while True:
            function, loop, future = self._work.get()
            try:
                result, error = function(), None
            except Exception as raised:
                result, error = None, raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def make_app(session: Session, token: str) -> web.Application:
    """The application; every address begins with /`token`/."""
    work, newest = Worker(), {"edit": 0}

    async def body(request: web.Request) -> dict[str, Any]:
        try:
            values = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError("the request is no JSON") from error
        if not isinstance(values, dict) or not isinstance(values.get("ref"), dict):
            raise ValueError("the request names no scene")
        return values

    def question(ask: Callable[[dict[str, Any]], Any]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            values = await body(request)
            return web.json_response(await work(lambda: ask(values)))

        return answer

    async def edit(request: web.Request) -> web.StreamResponse:
        values = await body(request)
        objects = values.get("objects")
        if not isinstance(objects, list) or not all(isinstance(thing, dict) for thing in objects):
            raise ValueError("the edit names no objects")
        newest["edit"] += 1
        number = newest["edit"]

        def draw() -> dict[str, Any] | None:
            if number != newest["edit"]:
                return None
            return session.edit(values["ref"], objects, _frame(values))

        drawn = await work(draw)
        if drawn is None:
            return web.json_response({"error": "a newer edit has taken its place"}, status=409)
        return web.json_response(drawn)

    async def about(request: web.Request) -> web.StreamResponse:
        return web.json_response(await work(session.about))

    async def picture(request: web.Request) -> web.StreamResponse:
        content = await request.read()
        return web.json_response(await work(lambda: session.add_picture(content)))

    async def slots(request: web.Request) -> web.StreamResponse:
        values = await body(request)
        content = await work(lambda: session.slots_npz(values["ref"], _frame(values)))
        return web.Response(body=content, content_type="application/octet-stream")

    async def export(request: web.Request) -> web.StreamResponse:
        content = await work(lambda: page_of(session))
        return web.Response(text=content, content_type="text/html", headers={"Content-Disposition": "attachment"})

    page = {file.name: file.read_text() for file in (files("objectscape.explorer") / "page").iterdir()}

    def static(name: str) -> Handler:
        kind = TYPES["." + name.rpartition(".")[2]]

        async def send(request: web.Request) -> web.StreamResponse:
            return web.Response(text=page[name], content_type=kind)

        return send

    app = web.Application(client_max_size=UPLOAD, middlewares=[guard])
    base = f"/{token}"
    app.router.add_get(f"{base}/", static("index.html"))
    for name in page:
        app.router.add_get(f"{base}/{name}", static(name))
    app.router.add_get(f"{base}/api/about", about)
    app.router.add_post(f"{base}/api/view", question(lambda v: session.view(v["ref"], _frame(v))))
    app.router.add_post(f"{base}/api/picture", picture)
    app.router.add_post(f"{base}/api/edit", edit)
    app.router.add_post(
        f"{base}/api/sliders", question(lambda v: session.sliders(v["ref"], _whole(v, "slot"), _frame(v)))
    )
    app.router.add_post(f"{base}/api/stages", question(lambda v: session.stages(v["ref"])))
    app.router.add_post(f"{base}/api/predict", question(lambda v: session.predict(v["ref"], _whole(v, "context"))))
    app.router.add_post(f"{base}/api/slots", slots)
    app.router.add_get(f"{base}/api/export", export)
    return app


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only this machine's own page is answered; mistakes are answered in words."""
    status = 200
    try:
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        name = host.rpartition(":")[0] or host
        if name not in ("127.0.0.1", "localhost") or origin not in (None, f"http://{host}"):
            raise web.HTTPForbidden(text="this server answers its own page only")
        response = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        status, text = 413, f"the file is too large; at most {UPLOAD // 2**20} MB are read"
    except web.HTTPException as error:
        status, text = error.status, error.text or error.reason
    except ValueError as error:
        status, text = 400, str(error)
    if status != 200:
        response = web.json_response({"error": text}, status=status)
    response.headers.update(HEADERS)
    return response


def _frame(values: dict[str, Any]) -> int:
    return _whole(values, "frame") if "frame" in values else 0


def _whole(values: dict[str, Any], name: str) -> int:
    if type(values.get(name)) is not int:
        raise ValueError(f"{name}={values.get(name)!r}: expected a whole number")
    return values[name]


def bind(port: int) -> socket.socket:
    """A socket on 127.0.0.1; port 0 takes any that is free.

    Raises:
        OSError: if the port is taken, naming one that is free.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            other = free.getsockname()[1]
        raise OSError(f"port {port} cannot be used ({error.strerror}); --port {other} is free") from error
    return listening


class Serving:
    """A session's page, served until `close`.

    Args:
        session: what is shown.
        port: 0 takes any that is free.
    """

    def __init__(self, session: Session, *, port: int = 0) -> None:
        self.session = session
        self._socket = bind(port)
        self._token = secrets.token_urlsafe(16)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/{self._token}/"

    async def serve(self, ready: Callable[[], None] | None = None) -> None:
        """Answer requests until the task is cancelled."""
        runner = web.AppRunner(make_app(self.session, self._token), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, self._socket).start()
        if ready is not None:
            ready()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """`serve` until Ctrl-C."""
        asyncio.run(self.serve(ready))

    def start(self) -> None:
        """`serve` in a thread of its own, until the program ends."""
        up = threading.Event()
        threading.Thread(target=self.run, args=(up.set,), name="objectscape-page", daemon=True).start()
        up.wait(30)
