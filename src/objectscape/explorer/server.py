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
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any

from aiohttp import web

from objectscape.explorer.export import page_of
from objectscape.explorer.session import Session
from objectscape.explorer.words import WordsSession

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


def make_app(sessions: Sequence[Session] | Sequence[WordsSession], token: str) -> web.Application:
    """The application; every address begins with /`token`/.

    A request's "model" is a number in `sessions`, 0 if it says nothing.
    """
    work, newest = Worker(), {"edit": 0}

    async def body(request: web.Request) -> tuple[Any, dict[str, Any]]:
        try:
            values = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError("the request is no JSON") from error
        if not isinstance(values, dict) or not isinstance(values.get("ref", {}), dict):
            raise ValueError("the request names no scene")
        number = _whole(values, "model") if "model" in values else 0
        if not 0 <= number < len(sessions):
            raise ValueError(f"there is no model {number}; there are {len(sessions)}")
        return sessions[number], values

    def question(ask: Callable[[Any, dict[str, Any]], Any]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            session, values = await body(request)
            if "ref" not in values:
                raise ValueError("the request names no scene")
            return web.json_response(await work(lambda: ask(session, values)))

        return answer

    def newest_of(kind: str, ask: Callable[[Any, dict[str, Any]], Any]) -> Handler:
        """A question of which only the last counts: one that waits while a newer comes is not worked on."""

        async def answer(request: web.Request) -> web.StreamResponse:
            session, values = await body(request)
            number = newest[kind] = newest.get(kind, 0) + 1
            found = await work(lambda: ask(session, values) if number == newest[kind] else None)
            if found is None:
                return web.json_response({"error": "a newer edit has taken its place"}, status=409)
            return web.json_response(found)

        return answer

    def edit(session: Session, values: dict[str, Any]) -> dict[str, Any]:
        objects = values.get("objects")
        if not isinstance(objects, list) or not all(isinstance(thing, dict) for thing in objects):
            raise ValueError("the edit names no objects")
        return session.edit(values.get("ref", {}), objects, _frame(values))

    async def about(request: web.Request) -> web.StreamResponse:
        return web.json_response({"models": await work(lambda: [session.about() for session in sessions])})

    async def picture(request: web.Request) -> web.StreamResponse:
        content = await request.read()
        found = await work(lambda: [session.add_picture(content) for session in sessions])
        return web.json_response(found[0])  # named after its bytes, so the same for all

    async def slots(request: web.Request) -> web.StreamResponse:
        session, values = await body(request)
        content = await work(lambda: session.slots_npz(values.get("ref", {}), _frame(values)))
        return web.Response(body=content, content_type="application/octet-stream")

    async def export(request: web.Request) -> web.StreamResponse:
        content = await work(lambda: page_of(sessions[0]))
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
    app.router.add_post(f"{base}/api/picture", picture)
    app.router.add_get(f"{base}/api/export", export)
    if isinstance(sessions[0], WordsSession):
        app.router.add_post(f"{base}/api/tell", newest_of("tell", lambda session, v: session.tell(v)))
        return app
    questions: dict[str, Callable[[Session, dict[str, Any]], Any]] = {
        "view": lambda session, v: session.view(v["ref"], _frame(v)),
        "sliders": lambda session, v: session.sliders(v["ref"], _whole(v, "slot"), _frame(v)),
        "stages": lambda session, v: session.stages(v["ref"]),
        "predict": lambda session, v: session.predict(v["ref"], _whole(v, "context")),
        "imagine": lambda session, v: session.imagine(v["ref"], _frame(v), v.get("actions")),
    }
    for name, ask in questions.items():
        app.router.add_post(f"{base}/api/{name}", question(ask))
    app.router.add_post(f"{base}/api/edit", newest_of("edit", edit))
    app.router.add_post(f"{base}/api/slots", slots)
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
    """The page of sessions, served until `close`.

    Args:
        sessions: what is shown, the first in hand; with more than one, models of the same scenes.
        port: 0 takes any that is free.
    """

    def __init__(self, sessions: Sequence[Session] | Sequence[WordsSession], *, port: int = 0) -> None:
        self.sessions = sessions
        self._socket = bind(port)
        self._token = secrets.token_urlsafe(16)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/{self._token}/"

    async def serve(self, ready: Callable[[], None] | None = None) -> None:
        """Answer requests until the task is cancelled."""
        runner = web.AppRunner(make_app(self.sessions, self._token), access_log=None, shutdown_timeout=0.1)
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
