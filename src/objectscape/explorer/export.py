"""The page as one file that works without a server: everything it shows is computed before and stands inside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import Any

from objectscape.contract import Generates
from objectscape.explorer.session import SAMPLES, Session
from objectscape.explorer.words import WordsSession

MODULES = ("source.js", "address.js", "picture.js", "words.js", "main.js")
"""In the order in which they need each other."""
SCENES = 8


def page_of(session: Session | WordsSession, *, scenes: int = SCENES) -> str:
    """The page with the first scenes of the first split (and imagined ones), as HTML without any other file.

    Objects light up, are moved, removed, copied and exchanged by cutting and pasting; latents need the server.

    Raises:
        ValueError: for a workspace, which has nothing to show without the model.
    """
    if isinstance(session, WordsSession):
        raise ValueError("a page of words needs the model, so it cannot be one file; show it with objectscape explore")
    data = json.dumps(answers(session, scenes), separators=(",", ":")).replace("<", "\\u003c")
    page = {file.name: file.read_text() for file in (files("objectscape.explorer") / "page").iterdir()}
    script, style = bundle({name: page[name] for name in MODULES}), page["page.css"]
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    html = page["index.html"]
    for old, new in (
        (
            '<meta charset="utf-8">',
            f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
        ),
        ('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>"),
        (
            '<script type="module" src="main.js"></script>',
            f'<script type="application/json" id="data">{data}</script>\n<script type="module">{script}</script>',
        ),
    ):
        if old not in html:
            raise AssertionError(f"index.html has no {old}")
        html = html.replace(old, new)
    return html


def bundle(modules: dict[str, str]) -> str:
    """Our modules as one: imports and `export` are left out, as every name is there."""
    joined = "\n".join(modules.values())
    joined = re.sub(r"^import .*?;\n", "", joined, flags=re.MULTILINE)
    return re.sub(r"^export (?=const|function|async)", "", joined, flags=re.MULTILINE)


def answers(session: Session, scenes: int) -> dict[str, Any]:
    """What the page may ask, with the answers."""
    about = session.about()
    splits = {split: min(count, scenes) for split, count in list(about["splits"].items())[:1]}
    refs: list[dict[str, Any]] = [{"split": split, "index": i} for split, count in splits.items() for i in range(count)]
    if isinstance(session.model, Generates):
        refs += [{"sample": 0, "index": i} for i in range(min(SAMPLES, scenes))]
    views, stages = {}, {}
    for ref in refs:
        frames = session.see(ref).frames or 1
        for frame in range(frames):
            views[_key(ref, frame)] = session.view(ref, frame)
        if about["stages"]:
            stages[_key(ref, 0)] = session.stages(ref)
    about |= {"splits": splits, "latent": [], "predicts": False, "actions": None}
    return {"about": {"models": [about]}, "view": views, "stages": stages}


def _key(ref: dict[str, Any], frame: int) -> str:
    """As `keyOf` in source.js."""
    pairs = [[name, value] for name, value in sorted(ref.items())]
    return json.dumps(pairs, separators=(",", ":")) + (f"@{frame}" if frame else "")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
