"""The command line: what a new user types, and what a hurried user mistypes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import torch
from PIL import Image

import objectscape
from objectscape.building import build
from objectscape.check import check_fit
from objectscape.cli import VERBS, main
from objectscape.cli.config import load, options, prepare
from objectscape.data.synthetic.tetrominoes import Tetrominoes
from objectscape.files import read_json
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.scene import Scene

TINY = """
    data.count=64 batch_size=8 model.width=16 model.hidden=16 every.log=2 every.validate=4 every.picture=4
    every.checkpoint=4 validation.images=8 trainer.max_steps=8 trainer.accelerator=cpu
""".split()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "recipe=quickstart", *TINY, f"run_dir={folder}"]) == 0
    return folder


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a failing command says; it must not be a traceback."""
    assert main(list(words)) == 1
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["recipe=slot_atention/tetrominoes"], "Did you mean 'slot_attention/tetrominoes'"),
        (["recipe=quickstart", "model.sltos=3"], "Did you mean 'slots'"),
        (["recipe=quickstart", "sed=3"], "Did you mean 'seed'"),
        (["recipe=quickstart", "trainer.max_step=3"], "Did you mean 'max_steps'"),
        (["recipe=quickstart", "optimizr.lr=3"], "Did you mean 'optimizer'"),
        (["recipe=quickstart", "data=tetromino"], "Did you mean 'tetrominoes'"),
        (["recipe=quickstart", "lr=3"], "Did you mean 'optimizer.lr'"),
        (["recipe=quickstart", "data.batch_size=3"], "Did you mean 'batch_size' or 'validation.batch_size'"),
        (["recipe=quickstart", "workers.x=3"], "without parts"),
        (["recipe=quickstart", "trainer.num_nodes=2"], "srun or torchrun"),
        (["recipe=quickstart", "trainer=null"], "the configuration has no trainer.max_steps"),
        (["recipe=quickstart", "every=null"], "the configuration has no every.log"),
        (["recipe=quickstart", "optimizer.betas=[0.9]"], "cannot be made with"),
        (["recipe=quickstart", "optimizer.lr=-1"], "Invalid learning rate: -1"),
        (["recipe=quickstart", "trainer.gradient_clip_val=abc"], "Got abc"),
        (["recipe=quickstart", "seed=abc"], "expected an integer"),
        (["recipe=quickstart", "compile=maybe"], "expected true or false"),
        (["recipe=quickstart", "seed"], "expected key=value"),
        (["recipe=quickstart", "--sed=3"], "key=value"),
        (["model.slots=3"], "name a recipe, or model=NAME first"),
        (["recipe=monet/multi_object", "data.name=objects_room"], "data info objects_room"),
        ([], "name a recipe"),
        (["recipe=quickstart", "data=folder"], "data.path"),
        (["recipe=quickstart", "data=folder", "data.path=/no/such/folder"], "/no/such/folder"),
        (["recipe=quickstart", "model=slot_attention", "model.decoder=unet"], "'deconvolution'"),
        (["recipe=quickstart", "model=slot_attention"], "128x128 pixels, but tetrominoes has 35x35"),
        (["recipe=quickstart", "storage=disk"], "auto, ram, device, workers, stream"),
        (["recipe=quickstart", "batch_size=100", "data.count=10"], "Lower batch_size"),
        (["recipe=quickstart", "trainer.precision=bf17"], "bf16-mixed"),
        (["resume=nowhere"], "no run folder nowhere"),
        (["config=nowhere.yaml"], "no configuration nowhere.yaml"),
        (["quickstart"], "e.g. recipe=quickstart"),
        (["--resume", "runs/a"], "as in resume=..."),
        (["recipe=quickstart", "batch_size=0"], "batch_size=0: expected a whole number, at least 1"),
        (["recipe=quickstart", "every.log=0"], "every.log=0: expected a whole number, at least 1"),
        (["recipe=quickstart", "validation.pictures=0"], "validation.pictures=0: expected a whole number"),
        (["recipe=quickstart", "trainer.max_steps=0"], "trainer.max_steps=0: expected a whole number"),
        (["recipe=quickstart", "optimizer.lr=inf"], "optimizer.lr=inf: expected a finite number"),
        (["recipe=quickstart", "schedule.warmup=-3"], "schedule.warmup=-3: expected a whole number, at least 0"),
        (["recipe=quickstart", "trainer.max_epochs=0"], "trainer.max_epochs=0: no step would be made"),
        (["recipe=quickstart", "trainer.limit_train_batches=-3"], "invalid value -3 for limit_train_batches"),
        (["recipe=quickstart", "ema=slow"], "ema=slow: expected a decay between 0 and 1"),
        (["recipe=quickstart", "model.slots=1.5"], "model.slots=1.5: expected an integer"),
        (["recipe=quickstart", "optimizer=adam"], "optimizer.KEY=VALUE"),
        (["recipe=quickstart", "geco.goal=0.5"], "+geco.goal=..."),
        (["config=."], "no configuration config.yaml"),
        (["recipe=quickstart", "data=folder", "data.path=Über uns/Fotos"], "Über uns/Fotos: no such folder"),
        (["recipe=quickstart", "model.noise=[1"], "cannot read 'model.noise=[1'"),
        (["recipe=quickstart", "run_dir=/dev/null/run"], "the run folder /dev/null/run cannot be made"),
        (["recipe=monet/multi_dsprites", "model.first_pixel_std=wide"], "first_pixel_std='wide'; expected a number"),
    ],
)
def test_a_mistake_is_answered_in_words(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert answer in fails(capsys, "train", *words)
    assert not list(tmp_path.rglob("config.yaml")), "nothing is left behind"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["data", "make", "folder", "n=8"], "use `objectscape data convert folder`"),
        (["data", "make", "tetrominoes", "path=x.zip"], "x.zip: the name must end in .h5, .hdf5"),
        (["data", "make", "tetrominoes", "n=many"], "n=many: expected a number of scenes"),
        (["data", "make", "tetrominoes", "train=-8"], "train=-8: expected a number of scenes"),
        (["data", "convert", "tetrominoes", "source=x"], "use `objectscape data make tetrominoes`"),
        (["data", "check", "damaged.h5"], "damaged.h5 is not an HDF5 file"),
    ],
)
def test_a_mistake_with_data_is_answered_in_words(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.h5").write_text("not found")
    assert answer in fails(capsys, *words)
    assert len(list(tmp_path.iterdir())) == 1, "nothing is left behind"


def test_data_info_says_what_is_still_open(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", "multi_object", "path=a.h5"]) == 0
    assert "objectscape data info multi_object path=a.h5 name=..." in capsys.readouterr().out


def test_a_split_of_no_scenes_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "make", "tetrominoes", "n=4", "val=0", "test=0"]
    assert main([*words, f"path={tmp_path / 't.h5'}"]) == 0
    assert "train: 4 " in capsys.readouterr().out


def test_a_run_interrupted_before_it_begins_leaves_its_folder_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("objectscape.training.run.build_data", interrupt)
    assert main(["train", "recipe=quickstart", f"run_dir={tmp_path / 'run'}"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unknown_command_suggests_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "Did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "slow"),
    [
        (["--help"], "torch"),
        (["list", "recipes"], "torch"),
        *(([verb, "--help"], "torch") for verb in VERBS),
        (["plan", "nowhere", "task=stack_blocks"], "torch"),
        (["plan", "nowhere", "task=stack"], "torch"),
        (["explore", "nowhere"], "torch"),
        (["show", "tetrominoes", "--out", "x.jpg"], "torch"),
        (["evaluate", "RUN", "data=tetromino"], "torch"),
        (["data", "info", "tetromino"], "torch"),
        (["train", "recipe=slot_atention/tetrominoes"], "torch"),
        (["train", "recipe=quickstart", "data=folder"], "torch"),
        (["train", "recipe=iodine/tiny", "model.sltos=3"], "torch"),
        (["train", "recipe=quickstart", "data.cont=3"], "torch"),
        (["train", "recipe=quickstart", "optimizer.rate=3"], "torch"),
        (["train", "recipe=quickstart", "trainer.max_step=3"], "torch"),
        (["train", "recipe=quickstart", "trainer.precision=half"], "torch"),
        (["train", "recipe=quickstart", "trainer.log_every_n_steps=3"], "torch"),
        (["data", "make", "folder", "path=x.h5"], "torch"),
        (["sample", "nowhere"], "torch"),
        (["compare", "nowhere"], "torch"),
        (["data", "info", "tetrominoes"], "lightning"),
        (["data", "info", "tetrominoes"], "torchmetrics"),
    ],
)
def test_looking_around_is_quick_and_imports_nothing_slow(words: list[str], slow: str, tmp_path: Path) -> None:
    if "RUN" in words:
        (tmp_path / "config.yaml").write_text(
            "name: r\ndata: {_target_: objectscape.data.synthetic.shapes.ColoredShapes}\n"
        )
        words = [word.replace("RUN", str(tmp_path)) for word in words]
    code = f"""if True:
        import sys
        from objectscape.cli import main
        try:
            main({words})
        finally:
            print(sorted(name for name in sys.modules if name == {slow!r}))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", options("recipe"))
def test_every_recipe_composes_and_builds_its_model(name: str) -> None:
    from hydra.utils import instantiate

    config = load([f"recipe={name}"])
    assert config.name == name
    domains = config.model.get("domains") or {}
    parts = [part if isinstance(part, str | None) else part.get("model", "") for part in domains.values()]
    if config.model.get("base", "") is None or None in parts:  # trained parts, which only the user has
        with pytest.raises(ValueError, match="RUN"):
            build(config.model, "model")
    else:
        instantiate(config.model)
    instantiate(config.schedule)
    instantiate(config.geco)


def test_options_a_yaml_does_not_mention_are_accepted() -> None:
    config = load(
        ["recipe=quickstart", "model.embedding=6", "trainer.deterministic=true", "optimizer.weight_decay=0.1"]
    )
    assert (config.model.embedding, config.trainer.deterministic, config.optimizer.weight_decay) == (6, True, 0.1)
    assert prepare(["recipe=quickstart", "model.embedding=6,8"])[1] == "++model.embedding=6,8"


def test_the_type_of_an_option_is_that_of_the_argument_not_of_its_present_value() -> None:
    words = ["recipe=slot_attention/tetrominoes", "model.image_size=[35,40]", "trainer.devices=auto"]
    config = load(words)
    assert (list(config.model.image_size), config.trainer.devices) == ([35, 40], "auto")
    assert load(["recipe=efficientmorl/clevr10", "geco.acceleration=2.5"]).geco.acceleration == 2.5


def test_a_model_of_another_size_is_told_the_size_of_the_data() -> None:
    dataset = Tetrominoes(count=1)
    dataset.spec = replace(dataset.spec, image_size=(24, 40))
    with pytest.raises(ValueError, match=r"Set model.image_size=\[24,40\]"):
        check_fit(SlotAttentionModel(image_size=32, decoder="broadcast"), dataset)


def test_a_model_that_cannot_have_the_size_of_the_data_is_told_to_resize_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "model=genesis", "model.slots=3", "data=tetrominoes", "data.count=8", "batch_size=2",
             "trainer.max_steps=2", "trainer.accelerator=cpu", "every.validate=0", "every.picture=0"]  # fmt: skip
    told = fails(capsys, *words, f"run_dir={tmp_path / 'a'}")
    remedy = "data.image_size=64"
    assert f"set {remedy} to resize the data" in told
    assert "cannot be built for theirs" in told
    assert main([*words, remedy, f"run_dir={tmp_path / 'b'}"]) == 0


def test_slots_below_the_number_of_objects_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["train", "recipe=quickstart", *TINY, "model.slots=2", f"run_dir={tmp_path / 'few'}"]) == 0
    assert "slots=2 but scenes of tetrominoes have up to 3 objects" in caplog.text


def test_a_run_folder_has_everything(run: Path) -> None:
    for name in ("config.yaml", "metrics.csv", "README.md", "checkpoints/last.ckpt", "model/model.safetensors"):
        assert (run / name).is_file(), name
    assert len(list((run / "figures" / "training").glob("*.png"))) == 2
    assert list((run / "tensorboard").glob("events.*"))


def test_evaluate_compare_show(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--images", "16"]) == 0
    result = json.loads((run / "evaluation" / "tetrominoes-test.json").read_text())
    assert result["scores"]["ari_fg"]["n"] == 16
    assert "ari_fg" in capsys.readouterr().out
    assert main(["compare", str(run), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["metric"] for row in rows} >= {"ari_fg", "mse", "matched_objects"}
    assert "| matched_objects |" in (run / "README.md").read_text()
    assert main(["evaluate", str(run), "--images", "4", "--no-latents", "--tag", "plain"]) == 0
    assert "matched_objects" not in json.loads((run / "evaluation" / "plain-test.json").read_text())["scores"]
    capsys.readouterr()
    assert main(["compare", str(run), "--metrics", "ari_fg", "--format", "markdown"]) == 0
    assert "| quickstart | tetrominoes-test | 16 | 8 | ari_fg |" in capsys.readouterr().out
    assert main(["compare", str(run), "--metrics", "ari_fg", "mse", "--wide", "--format", "markdown"]) == 0
    assert "| name | evaluation | runs | ari_fg | mse |" in capsys.readouterr().out
    assert main(["compare", str(run), "--metrics", "ari_fg", "mse", "--format", "latex"]) == 0
    assert r"name & evaluation & runs & ari\_fg & mse \\" in capsys.readouterr().out
    assert main(["show", str(run), "-n", "2"]) == 0
    for line in capsys.readouterr().out.split():
        assert Path(line).stat().st_size > 1000
    assert "![training](figures/training.gif)" in (run / "README.md").read_text()


def test_a_mistaken_evaluation_keeps_what_was_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--images", "4", "--no-latents", "--tag", "kept"]) == 0
    before = (run / "evaluation" / "kept-test.json").read_text()
    for words, answer in (
        (["--images", "-3"], "-3: expected a whole number, at least 0"),
        (["--batch-size", "0"], "0: expected a whole number, at least 1"),
        (["--device", "gpu"], "cannot compute on 'gpu'; this machine has cpu"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["evaluate", str(run), "--tag", "kept", *words])
        assert answer in capsys.readouterr().err
    assert "without slashes" in fails(capsys, "evaluate", str(run), "--tag", "kept/test")
    assert "model.slots=many" in fails(capsys, "evaluate", str(run), "--tag", "kept", "model.slots=many")
    assert (run / "evaluation" / "kept-test.json").read_text() == before


@pytest.mark.parametrize(
    ("file", "content", "words", "answer"),
    [
        ("config.yaml", "model: [1,", ["evaluate", "RUN"], "config.yaml is not valid YAML"),
        ("config.yaml", "- model", ["show", "RUN"], "config.yaml is damaged"),
        ("config.yaml", "", ["train", "resume=RUN"], "config.yaml has no model and no data and no trainer"),
        ("evaluation/a-test.json", "{", ["compare", "RUN"], "a-test.json is damaged"),
        ("model/config.json", "[]", ["sample", "RUN"], "config.json is damaged"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    file: str, content: str, words: list[str], answer: str, run: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / file).parent.mkdir(exist_ok=True)
    (broken / file).write_text(content)
    assert answer in fails(capsys, *(word.replace("RUN", str(broken)) for word in words))


def test_a_damaged_run_does_not_hide_the_others(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "bad"):
        shutil.copytree(run, tmp_path / name)
    (tmp_path / "bad" / "status.json").write_text('{"state": ')
    assert main(["list", "runs", "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "done" in shown.out
    assert "damaged" in shown.out
    assert "status.json is damaged" in shown.err


def test_show_takes_any_picture(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "holiday.png"
    Image.new("RGBA", (200, 120), (200, 30, 30, 255)).save(picture)
    out = tmp_path / "out.png"
    assert main(["show", str(run), str(picture), "--out", str(out)]) == 0
    assert Image.open(out).width > 300
    assert "missing.png" in fails(capsys, "show", str(run), str(tmp_path / "missing.png"))


def test_a_figure_stays_unless_the_same_is_asked_again(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "figures", ignore_errors=True)
    (tmp_path / "other").mkdir()
    for i, picture in enumerate((tmp_path / "a.png", tmp_path / "other" / "a.png")):
        Image.new("RGB", (35, 35), (200 * i, 30, 30)).save(picture)
    names = "decomposition-tetrominoes-test", "decomposition-a"
    for words in (
        ["-n", "2"],
        ["-n", "2", "--first", "1"],
        ["-n", "2"],
        [tmp_path / "a.png"],
        [tmp_path / "other/a.png"],
    ):
        before = {file: file.read_bytes() for file in copy.glob("figures/dec*.png")}
        assert main(["show", str(copy), *map(str, words)]) == 0
        assert all(file.read_bytes() == content for file, content in before.items())
    expected = {f"{name}{number}.png" for name in names for number in ("", "-2")}
    assert {file.name for file in copy.glob("figures/dec*.png")} == expected


def test_show_a_data_set(tmp_path: Path) -> None:
    out = tmp_path / "data.png"
    assert main(["show", "data=colored_shapes", "-n", "3", "--out", str(out)]) == 0
    assert out.is_file()


def test_load_gives_the_trained_model(run: Path) -> None:
    model = objectscape.load(run)
    images = torch.randint(0, 256, (2, 3, 35, 35), dtype=torch.uint8)
    output = model(Scene(image=images))
    assert output.masks.shape == (2, 5, 1, 35, 35)
    assert objectscape.load(run, slots=4)(Scene(image=images)).masks.shape[1] == 4
    with pytest.raises(ValueError, match="Did you mean 'slots'"):
        objectscape.load(run, slotz=4)
    assert objectscape.show(images, output).get_size_inches()[0] > 2


def test_a_class_of_the_users_own_is_named_by_its_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJECTSCAPE_TRUST", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    tetrominoes = "objectscape.data.synthetic.tetrominoes.Tetrominoes"
    data = load(["recipe=slot_attention/tiny", f"data={tetrominoes}", "data.count=8"]).data
    assert data == {"_target_": tetrominoes, "count": 8}  # and nothing of the recipe's data
    with pytest.raises(ValueError, match=r"_target_=towers.Towers: No module named 'towers'"):
        load(["model=slot_attention", "data=towers.Towers"])
    with pytest.raises(ValueError, match=r"unknown option 'data.cuont'\. Did you mean 'count'"):
        load([f"data={tetrominoes}", "data.cuont=8"])


def test_own_images_are_a_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(40):
        Image.new("RGB", (50 + i, 60), (6 * i, 100, 50)).save(folder / f"{i:02d}.jpg")
    words = [w for w in TINY if not w.startswith("data.count")]
    words += ["data=folder", f"data.path={folder}", "data.image_size=35", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", "recipe=quickstart", *words]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--images", "0"]) == 0


def test_every_picture_of_a_folder_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"{i:02d}.png")
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "12 pictures, all can be read" in capsys.readouterr().out
    for name in ("03.png", "07.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:50])
    message = fails(capsys, "data", "check", str(tmp_path))
    assert all(text in message for text in ("2 of 12 pictures", "03.png", "07.png"))


def test_data_make_check_and_train_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.h5"
    assert main(["data", "make", "tetrominoes", "train=32", "val=8", "test=8", f"path={file}"]) == 0
    assert main(["data", "check", str(file)]) == 0
    assert "whole" in capsys.readouterr().out
    assert "exists" in fails(capsys, "data", "make", "tetrominoes", "train=32", f"path={file}")
    words = [w for w in TINY if not w.startswith("data.count")]
    words += ["data=hdf5", f"data.path={file}", "storage=workers", "workers=1", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", "recipe=quickstart", *words]) == 0
    changed = tmp_path / "changed.h5"
    shutil.copy(file, changed)
    with h5py.File(changed, "r+") as opened:
        opened["test/image"][0, 0, 0, 0] ^= 1
    assert "Make or convert it again" in fails(capsys, "data", "check", str(changed))


def test_multirun_sweeps_in_parallel(tmp_path: Path) -> None:
    words = ["--multirun", "recipe=quickstart", *TINY, "seed=0,1", f"runs={tmp_path}", "hydra/launcher=joblib"]
    done = subprocess.run(
        [sys.executable, "-m", "objectscape", "train", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    runs = sorted(path.parent for path in tmp_path.rglob("status.json"))
    assert len(runs) == 2
    for run in runs:
        assert main(["evaluate", str(run), "--images", "8"]) == 0
    assert main(["compare", *map(str, runs)]) == 0


def test_a_sweep_goes_on_after_a_run_that_fails_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--multirun", "recipe=quickstart", *TINY, "model.patch=4,5", f"runs={tmp_path}"]  # 4 does not divide 35
    assert main(["train", *words]) == 1
    assert "1 of the runs failed" in capsys.readouterr().err
    states = [json.loads(path.read_text())["state"] for path in tmp_path.rglob("status.json")]
    assert sorted(states) == ["done", "failed"]
    (why,) = tmp_path.rglob("failed.txt")
    assert "patch" in why.read_text()


@pytest.mark.parametrize("kind", ["recipes", "models", "data", "metrics"])
def test_list(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_quickstart_shows_four_scores_beside_the_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("objectscape.cli.quickstart.IMAGES", 8)
    monkeypatch.setattr("objectscape.cli.quickstart.choose_threads", torch.get_num_threads)
    assert main(["quickstart", *TINY, f"run_dir={tmp_path / 'run'}"]) == 0
    printed = capsys.readouterr().out
    scores = read_json(tmp_path / "run" / "evaluation" / "tetrominoes-test.json")["scores"]
    for label, name in {"ARI-FG": "ari_fg", "ARI": "ari", "mIoU": "miou", "MSE": "mse"}.items():
        (row,) = [line.split() for line in printed.splitlines() if line.split()[:1] == [label]]
        assert row[1] == f"{scores[name]['mean']:.4g}"
        if name != "mse":
            assert float(row[2]) > float(row[1])  # eight steps do not beat k-means
    assert len(scores) > 4
    assert "mbo" in scores
    assert "mbo" not in printed, "the other scores are in the file"


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out


def test_sample_asks_for_a_model_that_can(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot imagine" in fails(capsys, "sample", str(run))


@pytest.mark.parametrize("name", ["tetrominoes", "clevr6", "multi_dsprites", "folder"])
def test_data_info(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", name]) == 0
    assert name.split("6")[0][:5] in capsys.readouterr().out.lower()


def test_a_generative_model_is_trained_evaluated_and_sampled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "v2"
    words = ["model=genesis_v2", "training=genesis", "data=colored_shapes", "model.image_size=32", "model.width=8",
             "model.slots=4", "data.count=16", "batch_size=4", "trainer.max_steps=2", "every.log=1", "every.picture=2",
             "trainer.accelerator=cpu", f"run_dir={folder}"]  # fmt: skip
    assert main(["train", *words]) == 0
    assert main(["evaluate", str(folder), "--images", "8"]) == 0
    scores = json.loads((folder / "evaluation" / "colored_shapes-test.json").read_text())["scores"]
    assert {"ari_fg", "mse", "nll", "kl", "negative_elbo", "frechet_small"} <= scores.keys()
    assert scores["negative_elbo"]["mean"] == pytest.approx(scores["nll"]["mean"] + scores["kl"]["mean"], rel=1e-4)
    assert main(["sample", str(folder), "-n", "4"]) == 0
    for line in capsys.readouterr().out.splitlines()[-2:]:
        assert Path(line).stat().st_size > 1000
    assert "6726825d" in fails(
        capsys, "evaluate", str(folder), "--images", "8", "--inception", str(tmp_path / "no.pth")
    )
