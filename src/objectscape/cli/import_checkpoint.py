"""objectscape import-checkpoint: the original authors' weights become a model of ours."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path

from omegaconf import OmegaConf

from objectscape import checkpoints
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import note
from objectscape.names import unknown

NOT_IMPORTERS = ("native", "run_folder")


def importers() -> list[str]:
    """Upstream code bases whose checkpoints can be read."""
    return sorted(
        module.name for module in pkgutil.iter_modules(checkpoints.__path__)
        if not module.ispkg and module.name not in NOT_IMPORTERS
    )  # fmt: skip


def main(words: list[str]) -> int:
    """Parse the command line, read, convert and save."""
    parser = argparse.ArgumentParser(
        prog="objectscape import-checkpoint",
        description=f"Read a checkpoint of an original code base ({', '.join(importers())}) and save it as a model "
        "that every other command takes.",
        epilog="example: objectscape import-checkpoint slot_attention tetrominoes.pth K=4 --out runs/imported",
    )
    parser.add_argument("family", metavar="FAMILY", help=", ".join(importers()))
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "settings", nargs="*", default=[], metavar="key=value", help="upstream hyperparameters the file does not tell"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder for the model")
    options = parser.parse_intermixed_args(words)
    if options.family not in importers():
        raise ValueError(unknown("family", options.family, importers()))
    if not options.file.is_file():
        raise FileNotFoundError(f"there is no file {options.file}")
    from objectscape.checkpoints.native import load_weights, save_model

    module = importlib.import_module(f"objectscape.checkpoints.{options.family}")
    config, weights = module.read(options.file)
    config = {**config, **OmegaConf.to_container(OmegaConf.from_dotlist(options.settings))}  # type: ignore[dict-item]
    model = module.build(config)
    load_weights(
        model,
        {name: value.detach() for name, value in module.convert(weights, config).items()},
        source=str(options.file),
    )
    run = RunFolder.create(options.out.parent, options.out.name, path=options.out)
    save_model(model, run.model_folder)
    note(f"{type(model).__name__} with {sum(p.numel() for p in model.parameters()):,} parameters")
    print(run.path)
    return 0
