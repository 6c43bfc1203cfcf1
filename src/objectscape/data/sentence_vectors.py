"""Sentences as vectors of a pretrained model of the package sentence-transformers (an extra).

A workspace's domain `text_vae.TextVAE` reads such vectors; `objectscape latents sentences=MODEL` writes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class SentenceEncoder:
    """(n, D) float32 vectors of n sentences, each of mean square 1.

    Args:
        model: folder of a sentence-transformers model, or its name on the Hugging Face hub, from where it is fetched.

    Raises:
        ModuleNotFoundError: without sentence-transformers.
    """

    def __init__(self, model: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "vectors of sentences need sentence-transformers: pip install 'objectscape[sentences]'", name=error.name
            ) from error
        self._model = SentenceTransformer(model, device="cpu")

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        found = self._model.encode(list(sentences), normalize_embeddings=True, show_progress_bar=False)
        vectors = np.asarray(found, dtype=np.float32)
        return vectors * np.float32(np.sqrt(vectors.shape[1]))
