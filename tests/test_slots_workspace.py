"""Workspaces of scenes with several objects: sets that are paired by what they mean, and the commands for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from objectscape.cli import main
from objectscape.data.latents import Latents, write_latents
from objectscape.data.synthetic.simple_shapes_scenes import SimpleShapesScenes
from objectscape.models.domains.latents import SavedLatents
from objectscape.models.domains.slots import Slots
from objectscape.models.global_workspace import GlobalWorkspace
from objectscape.models.instance_coloring import ColoringAutoencoder
from objectscape.scene import Multimodal


def test_what_is_said_of_an_object_is_true_of_it() -> None:
    data = SimpleShapesScenes(count=60, image_size=48)
    scenes, told = data.batch(range(60)), data.described(range(60)).domains
    assert scenes.present is not None
    assert scenes.factors is not None
    rows, there = told["attr"], scenes.present
    torch.testing.assert_close(rows[..., 1] * 1.5, scenes.factors["x"] * there)
    torch.testing.assert_close(rows[..., 2] * 1.5, (48 - scenes.factors["y"]) * there)
    assert not rows[~there].any()
    assert not told["t"][~there].any()
    assert told["t"][there].any(1).all()
    one = there.sum(1) == 1  # alone in the scene is the scene
    assert torch.equal(scenes.image[one], told["alone"][one, 0])
    union = (told["alone"].amax(1) > 0).any(1)
    assert ((scenes.segments > 0) <= union).all()
    assert (
        len(SimpleShapesScenes(count=3, image_size=32, max_objects=6).batch(range(3))) == 3
    )  # ends where there is no room


def test_sets_are_paired_by_what_they_mean() -> None:
    torch.manual_seed(0)
    domains = {"a": SavedLatents(domain="a", latent_size=4), "b": SavedLatents(domain="b", latent_size=6)}
    weights = {"translation": 1.0, "contrastive": 0.1, "demi_cycle": 0.0, "cycle": 0.0}
    model = GlobalWorkspace(domains=domains, state_size=6, hidden_size=32, weights=weights, cycles_from=1000)
    turn = torch.linalg.qr(torch.randn(6, 6))[0][:4]

    def scenes(n: int) -> tuple[Multimodal, torch.Tensor]:
        """Up to three objects: as sets of five places in a and of three in b, shuffled; zeros elsewhere."""
        objects = torch.randn(n, 3, 4)
        there = torch.arange(3) < torch.randint(1, 4, (n, 1))
        mixed = torch.stack([torch.randperm(5) for _ in range(n)])  # where object i comes in a
        a = torch.zeros(n, 5, 4).scatter(1, mixed[:, :3, None].expand(-1, -1, 4), objects * there.unsqueeze(2))
        b = (objects @ turn) * there.unsqueeze(2)
        everyone = torch.ones(n, dtype=torch.bool)
        sets = {"a_latent": a, "b_latent": b}
        return Multimodal(domains=sets, present=dict.fromkeys(sets, everyone)), there

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for step in range(250):
        batch, _ = scenes(32)
        model.set_step(step)
        loss = model.loss(batch, model(batch), step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    batch, there = scenes(100)
    found = model(batch)
    both = found.present["a"] & found.present["b"]
    assert both.sum() == there.sum()  # every object has its partner
    assert not (found.present["a"] ^ found.present["b"]).any()
    right = ((found.latents["a"] @ turn - found.latents["b"]).norm(dim=1) < 1e-4)[both].float().mean()
    assert right > 0.95  # by chance: half of them


def test_a_domain_missing_in_some_scenes_leaves_lone_rows() -> None:
    domains = {"a": SavedLatents(domain="a", latent_size=4), "b": SavedLatents(domain="b", latent_size=6)}
    model = GlobalWorkspace(domains=domains, state_size=6, hidden_size=8)
    sets = {"a_latent": torch.randn(2, 3, 4), "b_latent": torch.randn(2, 2, 6)}
    present = {"a_latent": torch.tensor([True, False]), "b_latent": torch.tensor([True, True])}
    rows = model(Multimodal(domains=sets, present=present)).present
    assert rows["a"].sum() == 3
    assert rows["b"].sum() == 4
    assert (rows["a"] & rows["b"]).sum() == 2


def test_slots_are_drawn_over_an_empty_picture() -> None:
    torch.manual_seed(0)
    finder = ColoringAutoencoder(slots=4, patch=4, width=16, hidden=16)
    domain = Slots(model=finder, image_size=48)
    data = SimpleShapesScenes(count=4, image_size=48).batch(range(4))
    latents, objects, owner = domain.encode_scene(data.image)
    assert latents.shape == (4, 4, domain.latent_size)
    assert objects.shape == (4, 4)
    assert owner.shape == (4, 48, 48)
    assert domain.paint(latents).shape == domain.decode(latents[:, 0]).shape == (4, 3, 48, 48)
    again = type(domain)(**{**domain.config})
    again.load_state_dict(domain.state_dict())
    torch.testing.assert_close(again.encode(data.image), domain.encode(data.image))
    with pytest.raises(ValueError, match="does not find objects"):
        Slots(model=SavedLatents(domain="a", latent_size=4))


def test_from_scenes_to_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["data.count=24", "batch_size=8", "trainer.max_steps=2", "every.log=1", "every.validate=0"]
    scenes = ["train", "recipe=workspace/scenes", *small, "model.width=16", "model.hidden=16", "run_dir=sc"]
    assert main(scenes) == 0
    assert main(["train", "recipe=workspace/text", *small, "model.width=8", "run_dir=txt"]) == 0
    monkeypatch.setattr("objectscape.models.domains.slots.VISIBLE", 2.0)
    assert main(["latents", "sc", "data=simple_shapes_scenes", "data.count=24", "out=none.h5"]) == 1
    assert "finds no object" in capsys.readouterr().err
    monkeypatch.setattr("objectscape.models.domains.slots.VISIBLE", -1.0)  # any slot is an object of a model that
    monkeypatch.setattr("objectscape.models.domains.slots.BORDER", 2.0)  # has learned nothing
    monkeypatch.setattr("objectscape.cli.latents.OVERLAP", 0.0)
    assert main(["latents", "sc", "data=simple_shapes_scenes", "data.count=24", "out=s.h5"]) == 0
    assert main(["latents", "txt", "data=latents", "data.path=s.h5", "out=st.h5"]) == 0
    with h5py.File("st.h5") as file:
        assert file["train/slots_latent"].shape[:2] == (24, 5)
        assert set(file["train"]) == {"slots_latent", "slots_partner", "attr", "t", "t_latent", "said", "grammar"}
        assert file["test/slots"].shape[1:] == (3, 3, 40, 40)
        partner, rows, latents = (file[f"train/{n}"][...] for n in ("slots_partner", "attr", "slots_latent"))
    objects = Latents(path="st.h5")
    assert len(objects) == (partner >= 0).sum() > 3
    scene, place = np.argwhere(partner >= 0)[3]
    item: Any = objects.batch([3])
    assert item.domains["attr"][0].tolist() == rows[scene, place].tolist()
    assert item.domains["slots_latent"][0].tolist() == latents[scene, partner[scene, place]].tolist()
    train = [
        "train",
        "recipe=workspace/slots",
        "model.domains.slots.model=sc",
        "+model.domains.t=txt",
        "data.path=st.h5",
    ]
    train += ["data.domains=[slots_latent,attr,t_latent]", "model.hidden_size=16", *small[1:]]
    assert main([*train, "run_dir=w"]) == 0
    assert main(["evaluate", "w", "ask.translate.probe_steps=5", "ask.translate.probe_rows=40"]) == 0
    answers = next(Path("w/evaluation").glob("*.json")).read_text()
    for score in ("slots_to_attr_class", "attr_to_slots_mse", "slots_own_mse", "slots_to_t_word_shape"):
        assert f'"{score}"' in answers
    assert main(["show", "w", "-n", "2", "--out", "grid.png"]) == 0
    assert Image.open("grid.png").size == (2 * 40 * 4, (1 + 3 + 2) * 40 * 4)
    said = ["--from", "text", "a red egg at the top", "--from", "text", "a blue triangle"]
    assert main(["translate", "w", *said, "--to", "scene.png", "-n", "2"]) == 0
    assert Image.open("scene.png").size == ((2 * 40 + 1) * 8, 40 * 8)
    Image.fromarray(SimpleShapesScenes(count=1).batch([0]).image[0].permute(1, 2, 0).numpy()).save("see.png")
    capsys.readouterr()
    assert main(["translate", "w", "--from", "image", "see.png", "--to", "text"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 5  # a sentence for each slot
    assert main(["translate", "w", *said[:3], "--from", "attributes", "egg", "--to", "text"]) == 1
    assert "one domain at a time" in capsys.readouterr().err
    assert main(["latents", "sc", "data=simple_shapes", "out=x.h5"]) == 1
    assert "simple_shapes has domains, not scenes" in capsys.readouterr().err
    one = {"train": {"slots_latent": latents[0], "attr": rows[0].repeat(2, 0)[:5]}}
    write_latents("rows.h5", one, origin={}, fields={}, name="objects")
    assert main([*train, "data.path=rows.h5", "data.domains=[slots_latent,attr]", "run_dir=x"]) == 1
    assert "holds single objects" in capsys.readouterr().err
