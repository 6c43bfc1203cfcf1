"""The README and the site tell the truth: their code runs, their commands exist, their links lead somewhere.

Blocks of a page run in their order, in one empty folder: ```python in one namespace (a block with a title is written to
that file instead), ```bash through the real command line. What ```console shows would take too long: its commands and
settings are checked without being run.
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import pytest
import torch
import yaml
from mkdocs.config import load_config
from mkdocs.structure.files import Files

from benchmarks.result_tables import MARKED, RESULTS, collect, table, with_tables
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import VERBS, main
from objectscape.cli import config as configs
from objectscape.cli.data import MAKERS
from objectscape.explorer.export import MODULES, bundle
from tests.conftest import SHARED, SMALL
from tests.parity.count import count

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = runpy.run_path(str(DOCS / "hooks.py"))["PAGE"]  # by mkdocs, when it builds the site
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```\s*$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    content = page.read_text()
    for match in FENCE.finditer(content):
        title = re.search(r'title="(.+?)"', match[3])
        text = INCLUDE.sub(lambda include: (ROOT / include[1]).read_text(), textwrap.dedent(match[4]))
        yield Block(match[2], title and title[1], text, content[: match.start()].count("\n") + 2)


def commands(block: Block) -> Iterator[list[str]]:
    """Words of each command of a block, without prompts, comments and continuations."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            yield words


def objectscape_words(words: list[str]) -> list[str] | None:
    """The arguments of an objectscape command; None for another command."""
    for start in (["objectscape"], ["python", "-m", "objectscape"]):
        if words[: len(start)] == start:
            return words[len(start) :]
    if words[0] in ("torchrun", "srun") and "objectscape" in words:
        return words[words.index("objectscape") + 1 :]
    return None


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to run in, as a user would: its modules can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["python"])
    monkeypatch.setenv("OBJECTSCAPE_TRUST", "")
    known, threads = set(sys.modules), torch.get_num_threads()
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield tmp_path
    torch.set_num_threads(threads)
    matplotlib.use(backend)
    for module in set(sys.modules) - known:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.language in ("python", "bash") for b in blocks(p))], ids=name
)
def test_the_code_of_a_page_runs(page: Path, workplace: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.title:
            (workplace / block.title).write_text(block.text)
        elif block.language == "python":
            code = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
            exec(compile(code, str(page), "exec"), namespace)
        elif block.language == "bash":
            for words in commands(block):
                arguments = objectscape_words(words)
                assert arguments is not None, (
                    f"{name(page)}:{block.line}: {words[0]} is not objectscape; use ```console"
                )
                assert main(arguments) == 0, f"{name(page)}:{block.line}: {shlex.join(words)}"


def console_commands() -> list[Any]:
    found = [
        pytest.param(words, id=f"{name(page)}:{shlex.join(words)}")
        for page in PAGES
        for block in blocks(page)
        if block.language == "console"
        for words in commands(block)
    ]
    inline = [
        pytest.param(shlex.split(text), id=f"{name(page)}:`{text}`")
        for page in PAGES
        for text in dict.fromkeys(re.findall(r"`(objectscape [^`\n]+)`", FENCE.sub("", page.read_text())))
    ]
    return found + inline


@pytest.mark.parametrize("words", console_commands())
def test_a_command_that_is_not_run_exists(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Verb, options, recipe, model and data names, and every setting; placeholders such as RUN may stand for values."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
        return
    arguments = objectscape_words(words)
    if arguments is None:  # not ours, except for scripts of the repository
        assert all((ROOT / word).exists() for word in words if word.startswith(("benchmarks/", "examples/", "tests/")))
        return
    verb, *rest = (
        word.lstrip("[") if word.count("[") == word.count("]") == 1 and word[0] != "[" else word.strip("[]")
        for word in arguments
    )  # [optional] words, but lists as they are
    if verb in ("VERB", "--help"):
        return
    assert verb in VERBS
    options = [word for word in rest if word.startswith("-") and word != "--trust"]  # of every verb
    if options:
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        printed = capsys.readouterr().out
        assert all(re.search(rf"(?<![\w-]){option}\b", printed) for option in options), options
    placeholder = re.compile(r"^\w+=[A-Z]+$")  # recipe=NAME
    settings = [word for word in rest if "=" in word and not placeholder.match(word)]
    if verb in ("train", "quickstart"):
        start = ["recipe=quickstart"] if verb == "quickstart" else []
        check_settings(start + [word for word in settings if not word.startswith(("resume=", "config="))])
    elif verb in ("evaluate", "show"):
        data = [word for word in settings if word.startswith(("data=", "data."))]
        if any(word.startswith("data=") for word in data):
            check_settings(data)
    elif verb == "data" and len(rest) > 1 and rest[0] in ("info", "make", "convert") and rest[1].islower():
        own = {"train", "val", "test", "n", "size", "source", "path"}
        keys = [word for word in settings if word.partition("=")[0] not in own]
        made = MAKERS.get(rest[1], rest[1]) if rest[0] == "make" else rest[1]
        check_settings([f"data={made}", *(f"data.{word}" for word in keys)])


def check_settings(words: list[str]) -> None:
    """Settings that name no recipe (a resumed run's, say) are checked against the defaults alone."""
    words = configs.sweep_words(words)
    prepared = configs.prepare(words)
    if any(override.is_sweep_override() for override in configs.parse(prepared)):
        return  # Hydra composes one of the values at a time, in the sweep itself
    configs.load([word for word in words if not word.startswith("hydra")])


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_links_and_pictures_exist(page: Path) -> None:
    content = FENCE.sub("", page.read_text())
    targets = re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", content)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file == DOCS / GENERATED:
            continue
        assert file.exists(), f"{name(page)} links to {target}, which does not exist"
        if anchor:
            assert anchor in anchors(file), f"{name(page)} links to {target}; {name(file)} has {sorted(anchors(file))}"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+?)\s*$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_every_page_is_in_the_navigation() -> None:
    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values() if isinstance(entry, dict) else entry:
                yield from files(part)

    listed = list(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_every_command_model_and_data_set_is_listed() -> None:
    assert set(VERBS) <= set(re.findall(r"^## (.+)$", (DOCS / "cli.md").read_text(), re.MULTILINE))
    text = (ROOT / "README.md").read_text()
    assert all(f"`objectscape {verb}" in text for verb in VERBS)
    for page in DOCS.glob("models/*.md"):
        assert f"(docs/models/{page.name})" in text
    for data in configs.options("data"):
        assert f"`{data}`" in text


def test_the_numbers_of_parity_cases_are_those_that_are_there() -> None:
    """README's table: a row for each group of recorded cases, with its number and whose code was run."""
    text = (ROOT / "README.md").read_text()
    table = re.findall(r"^\| ([^|]+) \|[^|]*\| ([^|]*) \| (\d+) \|$", text, re.MULTILINE)
    rows = {row[0]: (int(row[2]), set(re.findall(r"github\.com/[\w.-]+/([\w.-]+)", row[1]))) for row in table}
    assert set(rows) == set(CASES.values())
    total = sum(number for number, _ in rows.values())
    assert f"{total} recorded cases" in text
    for root in (SHARED, SMALL):  # all of them, where they are; what comes with the repository is some of each
        for group, (number, repositories) in count(root).items() if root.is_dir() else ():
            said, linked = rows[CASES[group]]
            assert said == number if root == SHARED else said >= number, group
            originals = {repository.partition("/")[2] for repository in repositories}
            if group != "metrics":  # of which the row says "all of these"
                assert linked & originals, group
                assert linked >= originals - {"deepmind-research"} if group == "emorl" else linked >= originals, group


CASES = {
    "slot_attention": "Slot Attention", "iodine": "IODINE", "emorl": "EfficientMORL", "monet": "MONet",
    "genesis": "GENESIS, GENESIS-S", "genesisv2": "GENESIS-V2", "vae": "VAE baselines", "space": "SPACE",
    "space_time": "SPACE-Time", "world_models": "SSWM, OP3, VRNN", "global_workspace": "Global workspace",
    "simple_shapes": "data: Simple Shapes",
    "datasets_genesis": "data: files and generators of the GENESIS papers",
    "sprites_video": "data: select-and-move sprites", "metrics": "scores, GECO, schedules",
}  # fmt: skip
"""{folder of recorded cases: its row in the README}"""


def test_recipes_that_a_page_names_exist() -> None:
    known = set(configs.options("recipe"))
    page = (DOCS / "howto" / "which.md").read_text()
    named = set(re.findall(r"`(?:recipe=)?([a-z0-9_]+/[a-z0-9_]+)`", page))
    assert len(named) > 30
    assert named <= known, sorted(named - known)


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_runs(example: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [example.name])
    runpy.run_path(str(example), run_name="__main__")
    assert any(workplace.iterdir()), "an example leaves something to look at"


# Results


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tables_of_results_are_those_of_the_files_beside_them(page: Path) -> None:
    text = page.read_text()
    assert with_tables(text) == text, "run: python -m benchmarks.result_tables"


def test_every_file_of_results_is_shown() -> None:
    shown = {match[2] for page in PAGES for match in MARKED.finditer(page.read_text())}
    assert shown == {file.stem for file in RESULTS.glob("*.json")}


def test_a_table_of_results_has_the_worst_run() -> None:
    run = {"recipe": "a", "scores": {"ari": 0.5, "mse": 0.02}, "baseline": {"ari": 0.1}}
    runs = [{**run, "seed": 0}, {**run, "seed": 1, "scores": {"ari": 0.7, "mse": 0.004}}]
    results = {"labels": {"ari": ("ARI", "higher"), "mse": ("MSE", "lower")}, "rows": runs}
    lines = table(results, ["ari", "mse"], by_recipe=False).splitlines()
    assert lines[0] == "| seed | ARI ↑ | MSE ↓ |"
    assert lines[4:] == [
        "| worst | 0.500 | 0.020 |",
        "| mean ± sd | 0.600 ± 0.14 | 0.012 ± 0.011 |",
        "| baseline | 0.100 | - |",
    ]
    assert table(results, ["ari"], by_recipe=True).splitlines()[2] == "| a | 2 | 0.600 ± 0.14 |"


def test_results_are_collected_from_evaluated_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    words = ["recipe=instance_coloring/tiny", "data.count=8", "batch_size=2", "trainer.max_steps=1", "model.width=8"]
    words += ["every.picture=0", "every.validate=0", "loggers.tensorboard=false", f"run_dir={run}", "seed=7"]
    assert main(["train", *words]) == 0
    assert main(["evaluate", str(run), "--images", "2", "--no-latents"]) == 0
    (row,) = collect([RunFolder.open(run)])["rows"]
    assert (row["recipe"], row["seed"], row["images"], row["step"]) == ("instance_coloring/tiny", 7, 2, 1)
    assert {"ari_fg", "mse"} <= row["scores"].keys() & row["baseline"].keys()
    page = "a\n<!-- results: x (ari_fg; recipes) -->\nold\n<!-- end of results -->\nb"
    monkeypatch.setattr("benchmarks.result_tables.RESULTS", tmp_path)
    (tmp_path / "x.json").write_text(json.dumps(collect([RunFolder.open(run)])))
    assert "| instance_coloring/tiny | 1 |" in with_tables(page)
    assert "old" not in with_tables(page)


def test_the_front_page_shows_the_explorer_as_it_is_now() -> None:
    assert f'src="{GENERATED}"' in (DOCS / "index.md").read_text()
    config = load_config(str(ROOT / "mkdocs.yml"))
    files = config.plugins.on_files(Files([]), config=config)  # as mkdocs calls the hook
    shown = files.src_uris[GENERATED]
    folder = ROOT / "src" / "objectscape" / "explorer" / "page"
    assert bundle({name: (folder / name).read_text() for name in MODULES}) in shown.content_string
    assert len(shown.content_string) < 250_000
