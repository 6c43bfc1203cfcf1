"""The explorer: start to first picture, edit to picture, and the weight of its page, against what is aimed at

"theirs" is the aim: 50 ms from an edit to its picture, 150 kB of page. Start: `objectscape explore` as a process until
the first scene has been answered, against `import torch` alone.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import urllib.request
from importlib.resources import files

import torch

from benchmarks.measure import Row, row, seconds
from objectscape import pretrained
from objectscape.cli.explore import open_session
from objectscape.explorer.export import page_of
from objectscape.explorer.session import Session

AIM = 50.0
WEIGHT = 150.0


def run(*, quick: bool = False) -> list[Row]:
    """Milliseconds, seconds and kB."""
    rows = [] if quick else [start()]
    torch.set_num_threads(1)
    for name in pretrained.names():
        session = open_session(pretrained.PREFIX + name, [])
        if isinstance(session, Session) and session.splits:
            rows += edits(name, session, 5 if quick else 200)
    page = sum(len(file.read_bytes()) for file in (files("objectscape.explorer") / "page").iterdir())
    rows.append(row("page without data", page / 1000, WEIGHT, "kB"))
    first = open_session(pretrained.PREFIX + pretrained.FIRST, [])
    rows.append(
        row("exported page, 8 scenes", len(page_of(first, scenes=1 if quick else 8).encode()) / 1000, None, "kB")
    )
    return rows


def start() -> Row:
    """From the command to the first scene."""

    def wait() -> None:
        command = [sys.executable, "-m", "objectscape", "explore", "--port", "0", "--no-browser"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            urllib.request.urlopen(url + "api/about", timeout=60).read()
            body = json.dumps({"ref": {"split": "test", "index": 0}}).encode()
            urllib.request.urlopen(urllib.request.Request(url + "api/view", body), timeout=60).read()
            process.terminate()

    torch_alone = [sys.executable, "-c", "import torch"]
    ours = [seconds(wait) for _ in range(3)]
    theirs = [seconds(lambda: subprocess.run(torch_alone, check=True)) for _ in range(3)]
    return row("start to first picture", statistics.median(ours), statistics.median(theirs), "s")


def edits(name: str, session: Session, count: int) -> list[Row]:
    """From an edit to its picture, without the way to the browser."""
    ref = {"split": "test", "index": 0}
    slots = session.view(ref)["slots"]
    can = session.about()["latent"]
    value = float(session.see(ref).output.slots.flatten()[0])

    def change(number: int) -> dict[str, object]:
        return {"dx": number % 9} if "move" in can else {"set": {"0": value + 0.01 * number}}

    times = sorted(
        1000 * seconds(lambda n=n: session.edit(ref, [{"slot": slots[0], **change(n)}]))  # type: ignore[misc]
        for n in range(count)
    )
    at = {"median": times[len(times) // 2], "95 %": times[int(0.95 * (len(times) - 1))]}
    return [row(f"edit to picture, {name}, {which}", found, AIM, "ms") for which, found in at.items()]
