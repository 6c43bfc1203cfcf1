"""A new model begins with the weights of a trained one: an image model's, for instance, inside a model of clips."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from objectscape.checkpoints.native import WEIGHTS
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.files import expanded, sha256_of


def warm_start(model: nn.Module, folder: str | Path) -> str:
    """Give `model` the weights of a run that fit it; the others stay as they are.

    The run's model is looked for in `model`: among `model` itself and its parts, the one with most names of weights in
    common. There, a weight fits if it has the same shape.

    Args:
        model: changed in place.
        folder: a run folder.

    Returns:
        What was taken from where, for the run's record.

    Raises:
        FileNotFoundError, ValueError: if it is no run, or less than half of its weights fit.
    """
    run = RunFolder.open(expanded(folder))
    source = run.load_model()
    weights, own = source.state_dict(), model.state_dict()
    names = ["", *(f"{name}." for name, _ in model.named_modules() if name)]
    place = max(names, key=lambda name: sum(name + key in own for key in weights))
    known = [key for key in weights if place + key in own]
    fitting = {place + key: weights[key] for key in known if weights[key].shape == own[place + key].shape}
    where = f"part {place.rstrip('.')} of {type(model).__name__}" if place else type(model).__name__
    if 2 * len(fitting) < len(weights):
        other = [
            f"{key} is {tuple(weights[key].shape)} there, {tuple(own[place + key].shape)} here"
            for key in known
            if place + key not in fitting
        ]
        remedy = "give both models the same widths" if other else "they have hardly a name in common"
        raise ValueError(
            f"warm_start={folder}: {len(fitting)} of the {len(weights)} weights of its {type(source).__name__} fit "
            f"{where}, at least half are needed{''.join(f'; {text}' for text in other[:2])}: {remedy}."
        )
    model.load_state_dict({**own, **fitting})
    file = run.model_folder / WEIGHTS
    file = file if file.is_file() else run.checkpoint
    rest = len(own) - len(fitting)
    return (
        f"{len(fitting)} of the {len(weights)} weights of {type(source).__name__} in {run.path} (SHA-256 of "
        f"{file.name} {sha256_of(file)[:12]}) were taken into {where}; its {rest} other weights began as always"
    )
