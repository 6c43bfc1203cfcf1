"""Sentences by a pretrained encoder: the commands, with a stand-in for sentence-transformers."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from objectscape.cli import main
from objectscape.data.synthetic import captions


class SentenceTransformer:
    """Counts of words, with the interface of the package."""

    def __init__(self, model: str, device: str) -> None:
        assert (model, device) == ("small-model", "cpu")

    def encode(self, sentences: Sequence[str], *, normalize_embeddings: bool, show_progress_bar: bool) -> np.ndarray:
        words = captions.vocabulary()
        counts = np.array([[1.0 + sentence.split().count(word) for word in words[1:51]] for sentence in sentences])
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_from_sentences_to_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["batch_size=8", "trainer.max_steps=2", "every.log=1", "every.validate=0"]
    assert main(["train", "recipe=workspace/visual_vae", "data.count=16", *quick, "model.width=16", "run_dir=v"]) == 0
    data = ["data=simple_shapes", "data.count=30", "data.domains=[v,attr,t,grammar]"]
    assert main(["latents", "v", *data, "out=v.h5"]) == 0
    said = ["latents", "sentences=small-model", "data=latents", "data.path=v.h5", "out=said.h5"]
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # not installed
    assert main(said) == 1
    assert "objectscape[sentences]" in capsys.readouterr().err
    package: Any = types.ModuleType("sentence_transformers")
    package.SentenceTransformer = SentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    assert main(["latents", "sentences=small-model", "data=simple_shapes", "data.count=3", "out=no.h5"]) == 1
    assert "add t to data.domains" in capsys.readouterr().err
    assert main(said) == 0
    with h5py.File("said.h5") as file:
        vectors = file["train/bert"][...]
    assert vectors.shape == (30, 50)
    np.testing.assert_allclose((vectors**2).mean(1), 1, rtol=1e-5)
    text = ["train", "recipe=workspace/text_sentences", "data.path=said.h5", *quick, "model.input_size=50"]
    assert main([*text, "run_dir=t"]) == 0
    assert main(["latents", "t", "data=latents", "data.path=said.h5", "out=all.h5"]) == 0
    joined = ["train", "recipe=workspace/bimgw_v_t", "model.domains.v=v", "model.domains.bert=t", "data.path=all.h5"]
    assert main([*joined, *quick, "data.matched=0", "model.cycles_from=9", "run_dir=w"]) == 0  # without any pair
    capsys.readouterr()
    ask = ["translate", "w", "--from", "text", "a small red egg", "--to"]
    assert main([*ask, "egg.png"]) == 1
    assert "--sentences MODEL" in capsys.readouterr().err
    assert main([*ask, "egg.png", "--sentences", "small-model"]) == 0
    assert main(["translate", "w", "--from", "image", str(picture()), "--to", "text"]) == 0
    assert len(capsys.readouterr().out.split()) > 5
    assert main([*ask, "attributes", "--sentences", "small-model"]) == 1
    assert "has no domain 'attributes'" in capsys.readouterr().err


def picture() -> Path:
    path = Path("see.png")
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(path)
    return path
