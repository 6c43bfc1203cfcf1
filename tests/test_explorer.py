"""The explorer: edits by latents, the questions of its server and their refusals, the page as one file, the command."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image
from torch import nn

import objectscape
from objectscape.checkpoints.native import save_model
from objectscape.cli import main
from objectscape.contract import Places
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.data.synthetic.tetrominoes import Tetrominoes
from objectscape.explorer.export import MODULES, page_of
from objectscape.explorer.server import UPLOAD, bind, make_app
from objectscape.explorer.session import Session
from objectscape.explorer.words import WordsSession
from objectscape.models.domains.text import Text
from objectscape.models.domains.visual_vae import VisualVAE
from objectscape.models.framed_slots import FramedSlots
from objectscape.models.genesis import Genesis
from objectscape.models.global_workspace import GlobalWorkspace
from objectscape.models.instance_coloring import ColoringAutoencoder
from objectscape.models.isa import InvariantSlotAttention
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.models.space import Space
from objectscape.models.vae import VAE
from objectscape.scene import Scene

PLACE: dict[str, Any] = {"split": "test", "index": 0}


def coloring() -> ColoringAutoencoder:
    torch.manual_seed(3)
    model = ColoringAutoencoder(slots=4, width=16, hidden=24).eval()
    for parameter in model.parameters():  # so that slots differ, as after training
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def session() -> Session:
    return Session(coloring(), dataset=lambda split: Tetrominoes(split=split, count=6), name="tiny", source="'tiny'")


def pixels_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def place_models() -> list[Any]:
    space = Space(
        image_size=32,
        grid=4,
        components=2,
        glimpse_size=8,
        what_size=4,
        mask_size=4,
        component_size=4,
        features=8,
        width=2,
    )
    framed = FramedSlots(image_size=20, patch=5, slots=3, width=16, hidden=16)
    invariant = InvariantSlotAttention(image_size=20, slots=3, slot_size=8, decoder="patch", encoder_channels=8)
    return [
        pytest.param(invariant.eval(), torch.rand(2, 3, 20, 20), id="invariant slot attention"),
        pytest.param(coloring(), torch.rand(2, 3, 35, 35), id="instance coloring"),
        pytest.param(framed.eval(), torch.rand(2, 3, 3, 20, 20), id="framed slots"),
        pytest.param(space.eval(), torch.rand(2, 3, 32, 32), id="SPACE"),
    ]


@pytest.mark.parametrize(("model", "image"), place_models())
@torch.no_grad()
def test_latents_with_a_place_draw_the_same_scene_and_move(model: Any, image: torch.Tensor) -> None:
    assert isinstance(model, Places)
    size = (image.shape[-2], image.shape[-1])
    output = model(Scene(image=image))
    latents = model.latents(output)
    if image.ndim == 5:
        latents, output = latents[:, -1], output.map(lambda t: t[:, -1] if t.ndim > 2 else t)
    same = model.decode(output.slots, present=output.present) if isinstance(model, Space) else output
    assert torch.allclose(model.redraw(latents, size=size).masks, same.masks, atol=1e-5)
    by = torch.zeros(*latents.shape[:2], 2)
    assert torch.equal(model.shift(latents, by, size=size), latents)
    by[:, 0] = torch.tensor([7.0, -3.0])
    there = model.shift(latents, by, size=size)
    assert not torch.equal(there[:, 0], latents[:, 0])
    assert torch.equal(there[:, 1:], latents[:, 1:])
    assert torch.allclose(model.shift(there, -by, size=size), latents, atol=1e-5)


@torch.no_grad()
def test_a_slot_that_is_moved_by_a_patch_is_drawn_a_patch_farther() -> None:
    model, size = coloring(), (35, 35)
    latents = model.latents(model(Scene(image=torch.rand(1, 3, 35, 35))))
    by = torch.tensor([10.0, 5.0]).expand(1, 4, 2)
    before, after = (model.redraw(x, size=size).components for x in (latents, model.shift(latents, by, size=size)))
    assert torch.allclose(after[..., 5:, 10:], before[..., :-5, :-10], atol=1e-5)


def test_a_scene_comes_in_parts_that_make_it_up(session: Session) -> None:
    view = session.view(PLACE)
    masks = pixels_of(view["masks"]).reshape(4, 35, 35).astype(float) / 255
    parts = pixels_of(view["components"]).reshape(4, 35, 35, 3).astype(float)
    total = masks.sum(0)
    assert np.abs(total - 1).max() < 0.02
    assert np.abs((masks[..., None] * parts).sum(0) / total[..., None] - pixels_of(view["recon"])).max() < 4
    clear = np.sort(masks, 0)[-1] - np.sort(masks, 0)[-2] > 0.01
    assert (pixels_of(view["owners"]) == masks.argmax(0))[clear].all()
    assert view["share"] == [pytest.approx((pixels_of(view["owners"]) == k).mean(), abs=1e-3) for k in range(4)]
    assert set(view["scores"]) == {"MSE", "ARI-FG", "ARI", "mIoU"}
    assert session.view(PLACE) == view


def test_edits_by_the_latent(session: Session) -> None:
    view = session.view(PLACE)
    assert session.about()["latent"] == ["move", "remove", "set", "exchange"]
    nothing = session.edit(PLACE, [{"slot": slot} for slot in view["slots"]])
    assert {name: nothing[name] for name in ("recon", "owners", "masks")} == {
        name: view[name] for name in ("recon", "owners", "masks")
    }
    largest = int(np.argmax(view["share"]))
    gone = session.edit(PLACE, [{"slot": slot, "gone": slot == largest} for slot in range(4)])
    assert gone["share"][largest] == 0
    assert sum(gone["share"]) == pytest.approx(1, abs=1e-3)
    other = {"split": "test", "index": 1}
    swapped = session.edited(PLACE, [{"slot": 0, "gone": True}, {"slot": 2, "from": other}])
    foreign = session.see(other).output
    assert swapped.masks.shape[1] == 5
    assert torch.equal(swapped.slots[0, 0], foreign.slots[0, 2])
    changed = session.edited(PLACE, [{"slot": 1, "set": {"3": 0.5}}, {"slot": 1, "copy": True, "dx": 5}])
    assert changed.slots[0, 2, 3] == 0.5
    assert changed.slots[0, 0, 3] == session.see(PLACE).output.slots[0, 1, 3]  # the copy keeps what it was
    rows = session.sliders(PLACE, largest)
    assert rows[0]["active"] > 0
    assert 0 < len(rows) <= 6
    assert [row["active"] for row in rows] == sorted((row["active"] for row in rows), reverse=True)
    named = session._place_names(torch.rand(1, 4, 19), (35, 35))
    assert named == {16: "Up and down", 17: "Left to right"}


@pytest.mark.parametrize(
    ("things", "words"),
    [
        ([{"slot": 9}], "slots 0..3"),
        ([{"slot": "1"}], "slots 0..3"),
        ([{"slot": 0, "dx": "far"}], "expected a number"),
        ([{"slot": 0, "dx": float("nan")}], "expected a number"),
        ([{"slot": 0, "set": {"99": 1}}], "dimensions 0..17"),
        ([{"slot": k, "gone": True} for k in range(4)], "at least one slot"),
        ([{"slot": 0, "from": {"split": "test", "index": 99}}], "scenes 0..5"),
        ([{"slot": 0, "from": {"split": "tset"}}], "Did you mean 'test'"),
    ],
)
def test_wrong_edits_are_answered_in_words(session: Session, things: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        session.edit(PLACE, things)


def test_what_can_be_done_depends_on_the_model() -> None:
    shapes = lambda split: ColoredShapes(split=split, count=3, image_size=32)  # noqa: E731
    attention = Session(SlotAttentionModel(image_size=32, slots=3, slot_size=8), dataset=shapes)
    assert attention.about()["latent"] == ["remove", "set", "exchange"]
    with pytest.raises(ValueError, match="cannot move an object by its latent"):
        attention.edit(PLACE, [{"slot": 0, "dx": 3}])
    gone = attention.edit(PLACE, [{"slot": 0, "gone": True}, {"slot": 1}, {"slot": 2}])
    assert gone["share"][0] == 0
    sticks = Session(Genesis(image_size=32, slots=3), dataset=shapes)
    about = sticks.about()
    assert about["latent"] == ["set"]
    assert about["samples"]
    assert sticks.view({"sample": 4, "index": 2}) == sticks.view({"sample": 4, "index": 2})
    with pytest.raises(ValueError, match="cannot remove"):
        sticks.edit(PLACE, [{"slot": 0, "gone": True}])
    with pytest.raises(ValueError, match=r"does not divide images into objects.*generate"):
        Session(VAE(image_size=32))


def test_stages_are_a_film_and_clips_have_frames() -> None:
    from objectscape.data.synthetic.moving_shapes import MovingShapes

    shapes = lambda split: ColoredShapes(split=split, count=3, image_size=32)  # noqa: E731
    refining = Session(SlotAttentionModel(image_size=32, slots=3, slot_size=8, iterations=2), dataset=shapes)
    film = refining.stages(PLACE)
    assert len(film) >= 2
    assert film[-1]["recon"] == refining.view(PLACE)["recon"]
    clips = Session(
        FramedSlots(image_size=32, slots=3, width=8, hidden=8), dataset=lambda split: MovingShapes(split=split, count=2)
    )
    view = clips.view(PLACE, 3)
    assert view["frames"] == clips.see(PLACE).scene.image.shape[1]
    assert view["image"] != clips.view(PLACE, 0)["image"]
    assert clips.edit(PLACE, [{"slot": 0, "dx": 4}, {"slot": 1}, {"slot": 2}], 3)["recon"] != view["recon"]
    found = clips.predict(PLACE, 4)
    assert len(found["futures"]) == 3
    assert len(found["futures"][0]) == view["frames"] - 4
    with pytest.raises(ValueError, match="no frame 99"):
        clips.view(PLACE, 99)


def test_a_model_that_acts_imagines_what_follows() -> None:
    from objectscape.data.synthetic.moving_sprites import MovingSprites

    sprites = lambda split: MovingSprites(split=split, count=3, image_size=20, frames=5, actions=True)  # noqa: E731
    torch.manual_seed(0)
    acting = FramedSlots(image_size=20, patch=5, slots=3, width=8, hidden=8, action_size=4)
    clips = Session(acting, dataset=sprites)
    told = clips.about()["actions"]
    assert told["names"] == ["click x", "click y", "move x", "move y"]
    assert not told["one"]
    with patch.object(acting, "predict", wraps=acting.predict) as predict:
        clips.predict(PLACE, 2)
    actions = clips.see(PLACE).scene.actions
    assert torch.equal(predict.call_args.kwargs["actions"], actions[:, 1:4]), "action t leads to frame t + 1"
    film = clips.imagine(PLACE, 1, [[0.5, 0.5, 1, 0.5], [0.5, 0.5, 0, 0.5]])
    assert [step["name"] for step in film] == ["action 1", "action 2"]
    assert film == clips.imagine(PLACE, 1, [[0.5, 0.5, 1, 0.5], [0.5, 0.5, 0, 0.5]])
    for actions, words in (([[0.5]], "4 numbers each"), ([], "1 to 64"), ([[0, 0, 0, "x"]], "expected a number")):
        with pytest.raises(ValueError, match=words):
            clips.imagine(PLACE, 1, actions)
    still = Session(FramedSlots(image_size=20, patch=5, slots=3, width=8, hidden=8), dataset=sprites)
    assert still.about()["actions"] is None
    with pytest.raises(ValueError, match="takes no actions"):
        still.imagine(PLACE, 1, [[0.5] * 4])


def workspace_of_words() -> GlobalWorkspace:
    torch.manual_seed(1)
    domains = {"v": VisualVAE(network="patches", width=8, latent_size=4), "t": Text(width=8, latent_size=6)}
    return GlobalWorkspace(domains=domains, state_size=6, hidden_size=8)


def test_words() -> None:
    words = WordsSession(workspace_of_words())
    assert words.about()["words"]["known"] == ["image", "text"]
    full = words.tell({"text": "a small red egg at the top left pointing up"})
    assert full["source"] == "text"
    assert full == words.tell({"text": "a small red egg at the top left pointing up"})
    assert len(full["row"]) == 8
    shown = words.tell({"ref": {"split": "test", "index": 3}})
    assert shown["source"] == "image"
    assert pixels_of(shown["image"]).shape == pixels_of(shown["pictures"][0]).shape == (32, 32, 3)
    assert isinstance(shown["sentence"], str)
    edited = [*shown["true_row"][:3], 8.0, *shown["true_row"][4:]]
    assert words.tell({"row": edited})["row"] == edited
    content = io.BytesIO()
    Image.new("RGB", (50, 40), "blue").save(content, "PNG")
    own = words.tell({"ref": words.add_picture(content.getvalue())})
    assert "from 50 x 40 to 32 x 32" in own["note"]
    for asked, text in (
        ({"text": "a zebra"}, "the word 'zebra'"),
        ({"text": " "}, "a sentence of"),
        ({"text": 3}, "a sentence of"),
        ({"row": [7] * 8}, "expected 8 numbers"),
        ({"row": [1, 2]}, "expected 8 numbers"),
        ({"ref": {"split": "test", "index": 320}}, "expected 0..319"),
        ({"ref": {"picture": "../etc"}}, "no longer here"),
        ({}, "expected test"),
    ):
        with pytest.raises(ValueError, match=text):
            words.tell(asked)
    with pytest.raises(ValueError, match="cannot be one file"):
        page_of(words)
    with pytest.raises(ValueError, match="cannot translate"):
        WordsSession(coloring())

    async def action(client: TestClient[Any, Any]) -> None:
        told = await (await client.post("/t/api/tell", json={"text": "a red egg at the top"})).json()
        assert told == words.tell({"text": "a red egg at the top"})
        refused = await client.post("/t/api/tell", json={"text": "a zebra"})
        assert refused.status == 400
        assert (await client.post("/t/api/edit", json={"ref": PLACE})).status == 404

    served(make_app([words], "t"), action)


def test_two_models_on_the_same_scenes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    save_model(coloring(), first / "model")
    other = coloring()
    with torch.no_grad():
        other.stem.weight.add_(0.5)
    save_model(other, second / "model")
    both = objectscape.explore(first, str(second), "data=tetrominoes", "data.count=3", serve=False).sessions
    assert [session.name for session in both] == ["first", "second"]

    async def action(client: TestClient[Any, Any]) -> None:
        about = await (await client.get("/t/api/about")).json()
        assert [model["name"] for model in about["models"]] == ["first", "second"]
        views = [await (await client.post("/t/api/view", json={"ref": PLACE, "model": m})).json() for m in (0, 1)]
        assert views[0]["image"] == views[1]["image"]
        assert views[0]["recon"] != views[1]["recon"]
        refused = await client.post("/t/api/view", json={"ref": PLACE, "model": 2})
        assert "there is no model 2" in (await refused.json())["error"]
        content = io.BytesIO()
        Image.new("RGB", (35, 35), "blue").save(content, "PNG")
        ref = await (await client.post("/t/api/picture", data=content.getvalue())).json()
        for m in (0, 1):
            assert (await client.post("/t/api/view", json={"ref": ref, "model": m})).status == 200

    served(make_app(both, "t"), action)
    save_model(SlotAttentionModel(image_size=32, slots=3, slot_size=8), second / "model")
    with pytest.raises(ValueError, match="32x32"):
        objectscape.explore(first, str(second), "data=tetrominoes", "data.count=3", serve=False)


# The server


def served(app: web.Application, action: Callable[[TestClient[Any, Any]], Awaitable[None]]) -> None:
    async def run() -> None:
        async with TestClient(TestServer(app)) as client:
            await action(client)

    asyncio.run(run())


def test_the_server_answers_its_own_page_only(session: Session) -> None:
    async def action(client: TestClient[Any, Any]) -> None:
        page = await client.get("/secret/")
        assert page.status == 200
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in re.sub(r"http://(127\.0\.0\.1|localhost):\*", "", policy)
        for name in ("main.js", "page.css", "source.js", "address.js", "picture.js"):
            assert (await client.get(f"/secret/{name}")).status == 200
        assert (await client.get("/")).status == 404
        assert (await client.get("/wrong/api/about")).status == 404
        assert (await client.get("/secret/../../../etc/passwd")).status == 404
        assert (await client.get("/secret/%2e%2e/session.py")).status == 404
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            refused = await client.get("/secret/api/about", headers=headers)
            assert refused.status == 403
            assert "own page only" in (await refused.json())["error"]
        own = str(client.make_url("")).rstrip("/")
        assert (await client.get("/secret/api/about", headers={"Origin": own})).status == 200

    served(make_app([session], "secret"), action)


def test_questions_and_mistakes(session: Session) -> None:
    async def action(client: TestClient[Any, Any]) -> None:
        async def post(name: str, **body: Any) -> tuple[int, Any]:
            answer = await client.post(f"/t/api/{name}", **body)
            return answer.status, await answer.json()

        status, view = await post("view", json={"ref": PLACE})
        assert status == 200
        assert view == session.view(PLACE)
        objects = [{"slot": 0, "dx": 4}, {"slot": 1}, {"slot": 2}, {"slot": 3}]
        first = await post("edit", json={"ref": PLACE, "objects": objects})
        assert first == await post("edit", json={"ref": PLACE, "objects": objects})
        assert first[1]["recon"] != view["recon"]
        for body, words in (
            ({"json": {"ref": {"split": "test", "index": 6}}}, "scenes 0..5"),
            ({"json": {"ref": {"split": "test", "index": "../0"}}}, "expected a whole number"),
            ({"json": {"ref": PLACE, "frame": "x"}}, "expected a whole number"),
            ({"json": ["no"]}, "names no scene"),
            ({"data": b"\xff\x00"}, "no JSON"),
            ({"json": {"ref": {"picture": "/etc/passwd"}}}, "no longer here"),
            ({"json": {"ref": {"sample": 0, "index": 0}}}, "cannot imagine"),
        ):
            status, found = await post("view", **body)
            assert status == 400
            assert words in found["error"]
        slots = await client.post("/t/api/slots", json={"ref": PLACE})
        assert np.load(io.BytesIO(await slots.read()))["slots"].shape == (4, 16)

    served(make_app([session], "t"), action)


def test_pictures_are_read_with_care(session: Session) -> None:
    def file(size: tuple[int, int], kind: str = "PNG") -> bytes:
        content = io.BytesIO()
        Image.new("RGB", size, "red").save(content, kind)
        return content.getvalue()

    session.image_size = (35, 35)

    async def action(client: TestClient[Any, Any]) -> None:
        answer = await client.post("/t/api/picture", data=file((80, 50)))
        ref = await answer.json()
        view = await (await client.post("/t/api/view", json={"ref": ref})).json()
        assert "from 80 x 50 to 35 x 35" in view["note"]
        assert (pixels_of(view["image"]) == [255, 0, 0]).all()
        assert "segments" not in view["scores"]
        for content, words in (
            (b"no picture", "no picture that can be read"),
            (file((40, 40))[:60], "no picture that can be read"),
            (file((9000, 9000)), "9000 x 9000"),
            (b"", "no picture"),
        ):
            refused = await client.post("/t/api/picture", data=content)
            assert refused.status == 400
            assert words in (await refused.json())["error"]
        refused = await client.post("/t/api/picture", data=bytes(UPLOAD + 1))
        assert refused.status == 413
        assert "too large" in (await refused.json())["error"]

    served(make_app([session], "t"), action)


def test_the_newest_edit_wins(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    free = threading.Event()
    monkeypatch.setattr(session, "about", lambda: {"waited": free.wait(20)})
    drawn: list[float] = []
    edit = session.edit
    monkeypatch.setattr(
        session, "edit", lambda ref, things, frame: (drawn.append(things[0]["dx"]), edit(ref, things, frame))[1]
    )

    async def action(client: TestClient[Any, Any]) -> None:
        async def send(dx: int) -> int:
            return (await client.post("/t/api/edit", json={"ref": PLACE, "objects": [{"slot": 0, "dx": dx}]})).status

        busy = asyncio.create_task(client.get("/t/api/about"))  # it occupies the one worker thread
        await asyncio.sleep(0.1)
        waiting = []
        for dx in range(1, 4):
            waiting.append(asyncio.create_task(send(dx)))
            await asyncio.sleep(0.1)
        free.set()
        assert await asyncio.gather(*waiting) == [409, 409, 200]
        assert drawn == [3]
        await busy

    served(make_app([session], "t"), action)


def test_a_port_in_use_names_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} cannot be used .*--port (\d+) is free"):
            bind(port)


# The page as one file, and the command


def test_the_page_as_one_file(session: Session) -> None:
    page = page_of(session, scenes=2)
    scripts = re.findall(r"<script type=\"module\">(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    assert not re.search(r"^(import|export)\b", scripts[0], re.MULTILINE)
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    match = re.search(r"<script type=\"application/json\" id=\"data\">(.*?)</script>", page, re.DOTALL)
    assert match
    data = json.loads(match[1])
    assert data["about"]["models"][0]["splits"] == {"test": 2}
    assert list(data["view"]) == ['[["index",0],["split","test"]]', '[["index",1],["split","test"]]']
    assert data["view"]['[["index",1],["split","test"]]'] == session.view({"split": "test", "index": 1})


def test_every_element_that_the_script_names_is_in_the_page() -> None:
    folder = Path(objectscape.__file__).parent / "explorer" / "page"
    html = (folder / "index.html").read_text()
    identifiers = set(re.findall(r'id="([\w-]+)"', html))
    script = "".join((folder / name).read_text() for name in MODULES)
    assert set(re.findall(r'\$\("([\w-]+)"\)', script)) <= identifiers
    assert all(name in identifiers for name in re.findall(r'aria-(?:labelledby|describedby)="([\w-]+)"', html))
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) < 150_000
    assert "http" not in script.replace("http://127", "")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(coloring(), tmp_path / "model")
    for words, text in (
        ([str(tmp_path / "none")], "none"),
        ([str(tmp_path), "data=tetrominos"], "tetrominoes"),
        ([str(tmp_path), "--export", "page.txt"], "ends in .html"),
        ([str(tmp_path), "--port", "70000"], "0 to 65535"),
    ):
        assert main(["explore", *words]) == 1
        assert text in capsys.readouterr().err
    file = tmp_path / "page.html"
    words = ["explore", str(tmp_path), "data=tetrominoes", "data.count=3", "--export", str(file), "--scenes", "2"]
    assert main(words) == 0
    assert "<script" in file.read_text()
    session = objectscape.explore(tmp_path, "data=tetrominoes", "data.count=3", serve=False).session
    assert session.about()["splits"] == {"test": 3, "val": 3, "train": 3}


def test_ctrl_c_ends_the_server_at_once(tmp_path: Path) -> None:
    save_model(coloring(), tmp_path / "model")
    command = [
        sys.executable,
        "-m",
        "objectscape",
        "explore",
        str(tmp_path),
        "data=tetrominoes",
        "--port",
        "0",
        "--no-browser",
    ]
    reset = functools.partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # in the background of a shell it is ignored
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=reset
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=60) as page:
            assert b"objectscape explore" in page.read()
        with urllib.request.urlopen(url + "api/about", timeout=60) as answer:
            assert json.load(answer)["models"][0]["model"] == "ColoringAutoencoder"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
