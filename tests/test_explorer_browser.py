"""The page in a real browser: hands, keys, reload, files. Skipped by name where Chromium or Playwright is missing."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import objectscape
from objectscape.api import Exploration
from objectscape.data.synthetic.moving_sprites import MovingSprites
from objectscape.explorer.session import Session
from objectscape.explorer.words import WordsSession
from objectscape.models.framed_slots import FramedSlots
from tests.test_explorer import workspace_of_words

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
FIRST = "pretrained/instance_coloring-tetrominoes"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.set_default_timeout(20_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("http://127.0.0.1", "data:", "blob:", "file:"))
            else wrong.append(f"a request to {request.url}")
        ),
    )
    yield page
    page.close()
    assert not wrong


@pytest.fixture(scope="module")
def pieces() -> Exploration:
    return objectscape.explore(FIRST, "data.count=6")


def settled(page: Any) -> None:
    page.locator("#tiles .tile").first.wait_for()
    page.wait_for_load_state("networkidle")


def drawn(page: Any, name: str = "drawing") -> np.ndarray:
    """The pixels of a canvas."""
    url = page.evaluate(f"document.getElementById('{name}').toDataURL()")
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)


def piece(page: Any) -> int:
    """The number of a tile that holds a piece, not the background."""
    shares = [float(re.search(r"([\d.]+) %", text)[1]) for text in page.locator("#tiles .tile").all_text_contents()]  # type: ignore[index]
    return max((share, i) for i, share in enumerate(shares) if share < 40)[1]


def test_drag_remove_undo_and_reload(page: Any, pieces: Exploration) -> None:
    page.goto(pieces.url)
    settled(page)
    before = drawn(page)
    number = piece(page)
    box = page.locator("#drawing").bounding_box()
    owners = pieces.session.see({"split": "test", "index": 0}).output.segments[0]
    row, column = (owners == number).nonzero()[0].tolist()
    x, y = (box["x"] + (column + 0.5) * box["width"] / 35, box["y"] + (row + 0.5) * box["height"] / 35)
    page.mouse.move(x, y)
    page.wait_for_timeout(50)
    assert np.abs(drawn(page) - before).max() > 50, "an object lights up under the mouse"
    page.mouse.down()
    page.mouse.move(x + box["width"] * 4 / 35, y, steps=4)
    page.mouse.up()
    page.locator("#how", has_text="Drawn by the model from edited latents").wait_for()
    page.locator(f"#tiles .tile:nth-child({number + 1})", has_text="moved 4, 0").wait_for()
    page.keyboard.press("Escape")
    page.mouse.move(2, 2)
    page.wait_for_timeout(100)
    moved = drawn(page)
    assert np.abs(moved - before).mean() > 0.5
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    settled(page)
    page.locator("#how", has_text="Drawn by the model").wait_for()
    assert np.array_equal(drawn(page), moved), "an address gives the same picture"
    page.keyboard.press(str(number + 1))
    page.keyboard.press("Delete")
    page.locator(".tile.gone").wait_for()
    page.keyboard.press("z")
    page.locator(".tile.gone").wait_for(state="detached")
    page.keyboard.press("r")
    page.locator("#how", has_text="Drag an object").wait_for()


def test_keys_alone_and_sliders(page: Any, pieces: Exploration) -> None:
    page.goto(pieces.url)
    settled(page)
    number = piece(page)
    page.keyboard.press(str(number + 1))
    page.locator("#sliders input").first.wait_for()
    page.keyboard.press("Shift+ArrowDown")
    page.locator(".tile", has_text="moved 0, 5").wait_for()
    page.keyboard.press("d")
    page.locator(".tile", has_text="Copy of slot").wait_for()
    page.wait_for_timeout(300)
    slider = page.locator("#sliders input").first
    pictures = []
    for key in ("Home", "End"):
        slider.press(key)
        page.wait_for_timeout(400)
        pictures.append(drawn(page))
    assert np.abs(pictures[1] - pictures[0]).max() > 3
    page.keyboard.press("n")
    page.locator("#say", has_text="Scene 1").wait_for()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    assert page.locator(":focus").count() == 1
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_own_pictures_and_broken_ones(page: Any, pieces: Exploration, tmp_path: Path) -> None:
    good, bad = tmp_path / "mine.png", tmp_path / "broken.png"
    Image.fromarray(np.full((50, 80, 3), [200, 30, 30], np.uint8)).save(good)
    bad.write_bytes(good.read_bytes()[:40])
    page.goto(pieces.url)
    settled(page)
    page.locator("#file").set_input_files(good)
    page.locator("#say", has_text="cropped and resized from 80 x 50").wait_for()
    page.locator("#file").set_input_files(bad)
    page.locator("#say.wrong", has_text="no picture that can be read").wait_for()


def test_two_models_side_by_side(page: Any) -> None:
    two = objectscape.explore(FIRST, FIRST, "data.count=4")
    two.sessions[1].name = "another"
    page.goto(two.url)
    page.locator("figure.beside canvas").wait_for()
    settled(page)
    assert page.locator("#scores tbody tr").count() >= 3
    assert "another" in page.locator("#scores thead").text_content()
    page.keyboard.press("m")
    page.locator("#about", has_text="another").wait_for()
    settled(page)
    page.reload()
    page.locator("#about", has_text="another").wait_for()


def test_actions_by_arrows(page: Any) -> None:
    torch.manual_seed(0)
    acting = FramedSlots(image_size=20, patch=5, slots=3, width=8, hidden=8, action_size=4)
    clips = Session(
        acting, dataset=lambda split: MovingSprites(split=split, count=3, image_size=20, frames=5, actions=True)
    )
    shown = Exploration([clips])
    shown.serve()
    page.goto(shown.url)
    settled(page)
    page.keyboard.press("a")
    page.keyboard.press("ArrowRight")
    page.locator("#moment", has_text="1 of 1: action 1").wait_for()
    page.keyboard.press("ArrowUp")
    page.locator("#moment", has_text="2 of 2: action 2").wait_for()
    assert "Actions after frame 1" in page.locator("#acted").text_content()
    after = drawn(page)
    page.reload()
    page.locator("#moment", has_text="2 of 2: action 2").wait_for()
    page.wait_for_timeout(100)
    assert np.array_equal(drawn(page), after)
    page.locator("#take-back").click()
    page.locator("#moment", has_text="1 of 1").wait_for()


def test_words(page: Any) -> None:
    shown = Exploration([WordsSession(workspace_of_words(), name="words")])
    shown.serve()
    page.goto(shown.url)
    page.locator("#told-images img").first.wait_for()
    page.locator("#sentence").fill("a small red egg at the top left pointing up")
    page.keyboard.press("Enter")
    page.locator("#say", has_text="From a sentence").wait_for()
    page.reload()
    page.locator("#say", has_text="From a sentence").wait_for()
    assert page.locator("#sentence").input_value().startswith("a small red egg")
    page.locator("#attribute-size").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#say", has_text="From").wait_for()
    page.locator("#sentence").fill("a zebra")
    page.keyboard.press("Enter")
    page.locator("#say.wrong", has_text="zebra").wait_for()


def test_an_exported_page_opens_from_a_file(page: Any, pieces: Exploration, tmp_path: Path) -> None:
    page.goto(pieces.export(tmp_path / "page.html", scenes=2).as_uri())
    settled(page)
    page.keyboard.press(str(piece(page) + 1))
    page.keyboard.press("Shift+ArrowLeft")
    page.locator("#how", has_text="no latent was changed").wait_for()
    page.keyboard.press("n")
    page.locator("#say", has_text="Scene 1").wait_for()
