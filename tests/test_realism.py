"""Frechet distances of clips, the networks behind FVD and LPIPS, and the file of imagined clips."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.checkpoints.native import save_model
from objectscape.cli import main
from objectscape.data.synthetic.moving_sprites import MovingSprites
from objectscape.evaluation.asking import evaluate
from objectscape.evaluation.questions.predict import Predict
from objectscape.evaluation.questions.realism import Realism, continued
from objectscape.metrics.video import frechet_clips, fvd, lpips
from objectscape.models.framed_slots import FramedSlots
from objectscape.models.instance_coloring import ColoringAutoencoder
from objectscape.nn.i3d import I3D, I3DFeatures, Mixed, load_i3d, max_pool, pad_same, resize
from objectscape.nn.lpips import AlexNetFeatures
from objectscape.scene import Decomposition, Scene

# --- networks ---


def test_padding_is_that_of_tensorflow() -> None:
    assert pad_same(torch.ones(1, 1, 10, 7, 8), (7, 7, 7), (2, 2, 2)).shape[2:] == (15, 13, 13)
    row = pad_same(torch.ones(1, 1, 1, 1, 8), (1, 1, 7), (1, 1, 2)).flatten()
    assert row.tolist() == [0, 0, *[1] * 8, 0, 0, 0], "the odd one goes behind"
    assert max_pool(torch.rand(1, 1, 5, 7, 9), (3, 3, 3), (2, 2, 2)).shape[2:] == (3, 4, 5)


def test_frames_are_resized_without_half_pixel_centers() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert resize(ramp, 8)[0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert resize(ramp, 2)[0, 0, 0].tolist() == [0, 2], "no antialiasing"
    assert resize(ramp.transpose(2, 3), 8)[0, 0, :, 3].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]


def test_a_block_is_four_paths_over_one_input() -> None:
    torch.manual_seed(0)
    block, x = Mixed(4, 2, 3, 5, 2, 3, 4).eval(), torch.randn(1, 4, 3, 6, 6)

    def unit(name: str, x: Tensor) -> Tensor:
        layer = block.get_submodule(name)
        x = F.conv3d(x, layer.conv3d.weight, padding=layer.conv3d.weight.shape[-1] // 2)
        return F.batch_norm(
            x, layer.bn.running_mean, layer.bn.running_var, layer.bn.weight, layer.bn.bias, eps=0.001
        ).relu()

    x = x.relu()
    expected = [unit("b0", x), unit("b1b", unit("b1a", x)), unit("b2b", unit("b2a", x))]
    expected.append(unit("b3b", F.max_pool3d(x, 3, 1, 1)))
    torch.testing.assert_close(block(x), torch.cat(expected, 1))


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with the public file's keys, which lacks the counts of batches."""
    torch.manual_seed(0)
    network = I3D()
    for name, value in network.state_dict().items():
        if name.endswith("conv3d.weight"):
            nn.init.kaiming_normal_(value)
    file = tmp_path_factory.mktemp("weights") / "rgb_imagenet.pt"
    torch.save({k: v for k, v in network.state_dict().items() if "num_batches" not in k}, file)
    return file


def test_weights_of_i3d_are_read_and_others_refused(i3d_file: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(i3d_file.read_bytes()).hexdigest()
    network = load_i3d(i3d_file, sha256=digest)
    assert sum(p.numel() for p in network.parameters()) == 12_697_264  # of the published network with 400 classes
    keys = network.state_dict().keys()
    assert {"Conv3d_1a_7x7.conv3d.weight", "Mixed_4f.b2b.bn.running_var", "logits.conv3d.bias"} <= keys
    with pytest.raises(ValueError, match=f"SHA-256 {digest}, expected 00"):
        load_i3d(i3d_file, sha256="00")
    with pytest.raises(FileNotFoundError, match="does not fetch"):
        load_i3d(tmp_path / "none.pt")
    torch.save({"logits.conv3d.bias": torch.zeros(600)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="400 classes"):
        load_i3d(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ValueError, match="no plain file of weights"):
        load_i3d(tmp_path / "text.pt")


def test_clips_are_seen_as_the_distance_prescribes(i3d_file: Path) -> None:
    features = I3DFeatures(load_i3d(i3d_file), batch_size=1)
    clips = torch.rand(2, 9, 3, 8, 8)
    found = features(clips)
    assert found.shape == (2, 400)
    assert found[0].ne(found[1]).all()
    frames = torch.stack([2 * resize(clips[1, t][None], 224)[0] - 1 for t in range(9)], 1)  # (3, T, 224, 224)
    torch.testing.assert_close(features.network(frames[None])[0], found[1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="at least 9 frames, these have 8"):
        features(clips[:, :8])
    assert fvd(i3d_file).dim == 400


@pytest.fixture(scope="module")
def alexnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "alexnet-owt-7be5be79.pth"
    torch.save({**AlexNetFeatures().state_dict(), "classifier.1.bias": torch.zeros(3)}, file)
    return file


def test_lpips_is_a_weighed_distance_of_normalized_features(alexnet_file: Path) -> None:
    with pytest.raises(ValueError, match="expected one that begins with 7be5be79 or"):
        lpips(alexnet_file)
    distance = lpips(alexnet_file, check=False)
    one, other = torch.rand(2, 3, 40, 40), torch.rand(2, 3, 40, 40)
    assert distance(one, one).tolist() == [0, 0]
    torch.testing.assert_close(distance(one, other), distance(other, one))
    mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    scaled = [((2 * x - 1).movedim(1, -1) - mean) / std for x in (one, other)]
    layers = [distance.network(x.movedim(-1, 1)) for x in scaled]
    total = torch.zeros(2)
    for a, b, weight in zip(*layers, distance.weights, strict=True):
        assert weight.min() >= 0
        away = F.normalize(a, dim=1) - F.normalize(b, dim=1)
        total += torch.einsum("bchw,c->bhw", away**2, weight).mean((1, 2))
    torch.testing.assert_close(distance(one, other), total, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="at least 31"):
        distance(one[..., :30], other[..., :30])


# --- the question ---


def sprites(count: int, **options: object) -> Scene:
    return MovingSprites(count=count, image_size=32, split="test", **options).all()  # type: ignore[arg-type]


class Told(nn.Module):
    """Predicts what it has been told, as reconstructions of its first frames too."""

    reads_clips = True

    def __init__(self, clips: Tensor) -> None:
        super().__init__()
        self.clips = clips

    def forward(self, scene: Scene) -> Decomposition:
        return self.cut(self.clips[: len(scene), : scene.image.shape[1]])

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        found = self.clips[: len(context), context.image.shape[1] :][:, :steps]
        return self.cut(found[:, None].expand(-1, samples, -1, -1, -1, -1))

    def cut(self, clips: Tensor) -> Decomposition:
        masks = torch.ones_like(clips[..., None, :1, :, :])
        return Decomposition(recon=clips, masks=masks, components=clips.unsqueeze(-4), slots=masks.flatten(-3))


def test_a_perfect_model_is_at_the_real_clips_distance_and_others_further(
    i3d_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = sprites(96)
    clips = scene.pixels
    order = torch.cat([torch.arange(0, 10, 2), torch.arange(1, 10, 2)])
    changed = {
        "perfect": clips,
        "frames in another order": clips[:, order],
        "blurred": F.avg_pool2d(clips.flatten(0, 1), 5, 1, 2).unflatten(0, clips.shape[:2]),
        "empty": clips[:, :, :, :1, :1].expand_as(clips),
    }
    found = {name: evaluate(Told(told), [scene], ask=[Realism()]) for name, told in changed.items()}
    real = found["perfect"]["frechet_clips_real"].mean
    assert found["perfect"]["frechet_clips"].mean == pytest.approx(real)
    assert found["perfect"]["frechet_clips"].n == 48
    values = {name: result["frechet_clips"].mean for name, result in found.items()}
    assert values["frames in another order"] > 1.3 * real
    assert values["blurred"] > 1.5 * real
    assert values["empty"] > 5 * real
    assert found["perfect"].baseline["frechet_clips"].mean > 1.2 * real, "the last frame again is told from a film"
    ours = frechet_clips()
    ours.update(clips[48:], real=True)
    ours.update(clips[:48], real=False)
    assert float(ours.compute()) == pytest.approx(real)

    monkeypatch.setattr("objectscape.nn.i3d.SIDE", 112)  # a quarter of the work
    monkeypatch.setattr("objectscape.nn.i3d.F.avg_pool3d", lambda x, *_: x.mean((2, 3, 4), keepdim=True))
    few = evaluate(Told(clips), [scene[:4]], ask=[Realism(i3d=i3d_file, frames=9)])
    assert few["fvd"].mean == pytest.approx(few["fvd_real"].mean)
    assert few.details["realism"]["fvd"]["sha256"] == hashlib.sha256(i3d_file.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="at least 9 frames, these have 6"):
        evaluate(Told(clips), [scene[:6]], ask=[Realism(i3d=i3d_file, frames=6)])
    with pytest.raises(ValueError, match=r"ask\.realism\.frames"):
        evaluate(Told(clips), [scene[:6]], ask=[Realism(frames=11)])


def test_lpips_is_asked_where_its_weights_are_given(alexnet_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(alexnet_file.read_bytes()).hexdigest()
    monkeypatch.setattr("objectscape.metrics.video.ALEXNET_FILES", {digest[:8]: "alexnet.pth"})
    scene = sprites(2)
    found = evaluate(Told(scene.pixels), [scene], ask=[Predict(alexnet=alexnet_file, samples=2)])
    assert found["lpips_best"].mean == pytest.approx(0, abs=1e-7)
    assert found.baseline["lpips_sample"].mean > 0
    assert "lpips_best" not in evaluate(Told(scene.pixels), [scene], ask=[Predict(samples=2)]).scores


def test_a_future_is_told_the_actions_that_lead_to_it() -> None:
    asked = {}

    class Listening(Told):
        def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None):
            asked.update(context=context.actions, actions=actions)
            return super().predict(context, steps=steps, samples=samples)

    clips = torch.rand(2, 6, 3, 8, 8)
    numbers = torch.arange(6.0).view(1, 6, 1).expand(2, -1, -1)
    found = continued(Listening(clips), Scene(image=clips, actions=numbers), context=2, frames=5, futures=3)
    torch.testing.assert_close(found, clips[:, :5].repeat_interleave(3, 0))
    assert asked["actions"][0, :, 0].tolist() == [1, 2, 3], "action t leads to frame t + 1"


# --- the file ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "framed"
    data = MovingSprites(count=4, image_size=16)
    torch.manual_seed(0)
    model = FramedSlots(image_size=16, slots=4, width=8, hidden=8)
    with torch.no_grad():
        for parameter in model.dynamics.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # at first, everything flies straight on
    save_model(model, folder / "model", data=data.spec)
    return folder


DATA = ["data=moving_sprites", "data.image_size=16", "data.count=7"]


def test_clips_are_written_as_the_originals_script_writes_them(run: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("imagined.h5", "real.h5", "again.h5", "other.h5")]
    words = ["sample", str(run), *DATA, "--frames", "9", "-n", "5"]
    assert main([*words, "--videos", str(files[0]), "--real", str(files[1]), "--rollouts", "2"]) == 0
    assert main([*words, "--videos", str(files[2]), "--rollouts", "2"]) == 0
    assert main([*words, "--videos", str(files[3]), "--seed", "1"]) == 0
    with h5py.File(files[0]) as one, h5py.File(files[1]) as real, h5py.File(files[2]) as again:
        videos, chosen = one["videos"][:], one["clips"][:]
        assert videos.shape == (10, 9, 16, 16, 3)
        assert videos.dtype == np.float32
        assert 1 < videos.max() <= 255
        np.testing.assert_array_equal(videos, again["videos"][:])
        np.testing.assert_array_equal(videos[0, :2], videos[1, :2])  # the context is common
        assert (videos[0, 2:] != videos[1, 2:]).any()
        assert len(set(chosen.tolist())) == 5
        truth = MovingSprites(count=7, image_size=16, split="test").batch(chosen.tolist()).image[:, :9]
        np.testing.assert_array_equal(real["videos"][:], truth.permute(0, 1, 3, 4, 2).numpy())
        assert one.attrs["context"] == 2
    with h5py.File(files[3]) as other:
        assert other["clips"][:].tolist() != chosen.tolist(), "another seed, another population"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--videos", "out.txt"], "name.h5"),
        (["--videos", "out.h5", "-n", "8"], "has 7 clips"),
        (["--videos", "out.h5", "--context", "10"], "have 10 frames, which cannot be 10 of --context"),
        (["--videos", "out.h5", "--frames", "11"], "and 11 in all"),
        (["--videos", "out.h5", "--out", "x"], "--out is for pictures"),
        (["--real", "out.h5"], "goes with --videos"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(
    words: list[str], message: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(run), *DATA, *words]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.h5"))


def test_nothing_is_overwritten_and_images_are_not_continued(run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "out.h5").write_text("mine")
    assert main(["sample", str(run), *DATA, "--videos", str(tmp_path / "out.h5")]) == 1
    assert "not overwritten" in capsys.readouterr().err
    save_model(ColoringAutoencoder(patch=4, width=8, hidden=8), tmp_path / "image" / "model")
    assert main(["sample", str(tmp_path / "image"), *DATA, "--videos", str(tmp_path / "a.h5")]) == 1
    assert "cannot continue clips" in capsys.readouterr().err


def test_a_film_shows_futures_beside_what_is_seen(run: Path, tmp_path: Path, capsys) -> None:
    assert main(["show", str(run), *DATA, "--video", "-n", "1"]) == 0
    written = [Path(line).name for line in capsys.readouterr().out.split()]
    assert sorted(name.split("-")[0] for name in written) == ["futures", "video"]
    assert (
        main(["show", str(run), *DATA, "--video", "-n", "1", "--context", "4", "--out", str(tmp_path / "a.gif")]) == 0
    )
    assert capsys.readouterr().out.split() == [str(tmp_path / "a.gif")]
    assert main(["show", str(run), *DATA, "--video", "--context", "10"]) == 1
    assert "leave nothing to imagine" in capsys.readouterr().err
