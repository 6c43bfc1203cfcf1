"""Masks from a sequence of latents: the attention part that GENESIS and GENESIS-S share.

Source: Engelcke et al., "GENESIS: Generative Scene Inference and Sampling with Object-Centric Latent Representations"
(ICLR 2020), sections 3.1-3.2, and the released code.
"""

from __future__ import annotations

from torch import Tensor, nn

from objectscape.nn.gated_conv import GatedDecoder, GatedEncoder
from objectscape.nn.mixtures import full_precision, stick_breaking_from_logits
from objectscape.nn.recurrent import LSTMCell
from objectscape.nn.validation import check_at_least

FEATURES = 256


class LatentMasks(nn.Module):
    """The networks of q(z_1..K | x), whose recursion stands in the models, and the decoder from latents to masks.

    Args:
        image_size: side H = W: 32, 64, 128 or 256 pixels.
        latent_dim: D of each mask latent.
        encoder_norm: "batch", "instance" or "none".
        decoder_norm: the same.
        channels: of the outer convolutions of both; the inner ones have twice as many.
    """

    def __init__(
        self,
        *,
        image_size: int,
        latent_dim: int,
        encoder_norm: str,
        decoder_norm: str,
        channels: int = 32,
    ) -> None:
        super().__init__()
        check_at_least(1, latent_dim=latent_dim)
        self.encoder = GatedEncoder(image_size=image_size, out_features=FEATURES, norm=encoder_norm, channels=channels)
        self.first = nn.Linear(FEATURES, 2 * latent_dim)
        self.recurrence = LSTMCell(FEATURES + latent_dim, 2 * latent_dim)
        self.next = nn.Linear(2 * latent_dim, 2 * latent_dim)
        self.decoder = GatedDecoder(
            image_size=image_size, latent_dim=latent_dim, out_channels=1, norm=decoder_norm, channels=channels
        )

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log masks and log scopes, both (B, K, 1, H, W), from latents z (B, K, D).

        The last slot takes the whole remaining scope, so its own logit is decoded (it is part of the batch that batch
        normalization sees, as in the released code) but not used.
        """
        logits = full_precision(self.decoder(z.flatten(0, 1))).unflatten(0, z.shape[:2])  # (B, K, 1, H, W)
        return stick_breaking_from_logits(logits[:, :-1])
