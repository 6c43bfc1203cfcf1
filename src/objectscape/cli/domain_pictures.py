"""Pictures of workspaces and of their domains: what they draw from what, and a map of their states."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import note
from objectscape.contract import Embeds, Translates
from objectscape.evaluation.pictures import about
from objectscape.scene import Multimodal
from objectscape.viz import caption_figure, latent_map_figure, save_figure
from objectscape.viz.files import save_image
from objectscape.viz.selection import selection_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOISE = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Standard deviations."""
PICTURES, STATES = 8, 64
"""Rows of a batch that are drawn without -n."""


def show_domains(
    run: RunFolder,
    model: nn.Module,
    batch: Multimodal,
    kinds: list[str],
    options: argparse.Namespace,
    place: Callable[[str], Path],
) -> int:
    """Pictures of a workspace or of one of its domains: what it draws, and a map of its states.

    `place` says where a picture goes that is called so.
    """
    for kind in kinds:
        if kind == "decomposition":
            rows = redrawn(model, batch[: options.n or PICTURES])
            stem = "reconstruction" if isinstance(model, Embeds) else "translation"
            pictures = torch.cat([torch.cat(list(images), 2) for images in rows.values()], 1).permute(1, 2, 0)
            print(save_image(pictures.numpy().repeat(4, 0).repeat(4, 1), place(stem)))
            note(f"rows from the top: {', '.join(rows)}")
        elif kind == "objects" and isinstance(model, Translates) and _seen(model, batch):
            figure = caption_figure(states_figure(model, batch, options), about(run, model, f"split {options.split}"))
            print(save_figure(figure, place("states")))
        elif kind == "weights" and hasattr(model, "selection"):
            figure = caption_figure(weights_figure(model, batch, options), about(run, model, f"split {options.split}"))
            print(save_figure(figure, place("weights")))
        elif len(kinds) == 1:
            raise ValueError(
                f"--{kind} is for models of scenes; of a workspace there are translations, --objects and --weights"
            )
    return 0


def redrawn(model: nn.Module, batch: Multimodal) -> dict[str, torch.Tensor]:
    """{what: (B, 3, H, W) uint8}: pictures, what a workspace draws from each domain, and from each there and back.

    Of a lone domain of pictures: the pictures and their reconstructions.
    """
    joined: Any = model
    with torch.no_grad():
        if isinstance(model, Embeds) and model.domain == "v" and "v" in batch.domains:
            return {"v": batch.domains["v"], "its latent": joined.decode(joined.encode(batch.domains["v"]))}
        seen = _seen(model, batch) if isinstance(model, Translates) else None
        if seen is None:
            raise ValueError(
                f"{type(model).__name__} has no pictures here; show draws visual domains and the workspaces that join "
                "one, on data with pictures (of `objectscape latents`: --split val or test)"
            )
        states = {name: joined.encode(batch, name) for name in joined.domains}
        rows = {seen: batch.domains[seen]} | {f"from {n}": joined.decode(s, seen) for n, s in states.items()}
        for name in (n for n in states if n != seen and hasattr(model, "cycle")):
            back = joined.cycle(joined.decode_latent(states[seen], name), name)
            rows[f"{seen} to {name} and back"] = joined.decode(back, seen)
    return rows


def _seen(model: nn.Module, batch: Multimodal) -> str | None:
    """The workspace's domain of pictures, if the batch has it."""
    joined: Any = model
    return next((name for name in joined.domains if name in batch.domains and batch.domains[name].ndim == 4), None)


def weights_figure(model: nn.Module, batch: Multimodal, options: argparse.Namespace) -> Figure:
    """Shares of two domains in their fused state, while one of them is covered by more and more noise."""
    joined: Any = model
    torch.manual_seed(options.seed)
    panels: dict[str, dict[str, list[float]]] = {}
    with torch.no_grad():
        latents = {name: joined.latent(batch, name).float() for name in joined.domains}
        for pair in itertools.combinations(joined.domains, 2):
            for bad in pair:
                lines = panels.setdefault(f"{' + '.join(pair)}, noise on {bad}", {name: [] for name in pair})
                for level in NOISE:
                    u = latents[bad]
                    noisy = u + level * u.std(0, correction=0) * torch.randn_like(u)
                    given = {name: latents[name] for name in pair} | {bad: noisy}
                    shares = joined.selection(given, {name: joined.encoders[name](z) for name, z in given.items()})
                    for name in pair:
                        lines[name].append(float(shares[name].mean()))
    return selection_figure(NOISE, panels)


def states_figure(model: nn.Module, batch: Multimodal, options: argparse.Namespace) -> Figure:
    """States of all domains on one map: where two domains agree, their points lie together."""
    joined: Any = model
    some = batch[: options.n or STATES]
    with torch.no_grad():
        states = {name: joined.encode(some, name) for name in joined.domains}
    labels = torch.arange(len(states)).repeat_interleave(len(some))
    glimpses = some.domains[str(_seen(model, batch))].float().div(255).repeat(len(states), 1, 1, 1)
    names = dict(enumerate(states))
    method, seed = options.map, options.seed
    return latent_map_figure(torch.cat(list(states.values())), labels, glimpses, names, method=method, seed=seed)
