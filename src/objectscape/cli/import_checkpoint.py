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

NOT_IMPORTERS = ("native", "run_folder", "upstream")


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
    try:
        config, weights = module.read(options.file)
        given = OmegaConf.to_container(OmegaConf.from_dotlist(options.settings))
        config = {**config, **given}  # type: ignore[dict-item]
        model = module.build(config)
        converted = {name: value.detach() for name, value in module.convert(weights, config).items()}
    except Exception as error:  # of entries that are missing, or of another type or shape than upstream's
        if isinstance(error, FileNotFoundError) or (isinstance(error, ValueError) and str(options.file) in str(error)):
            raise
        what = f"it has no entry {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{options.file} is no checkpoint of {options.family} as its authors saved it: {what}"
        ) from error
    load_weights(model, converted, source=str(options.file))
    bad = [name for name, value in converted.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise ValueError(f"{options.file}: {len(bad)} weights hold NaN or infinity, such as {bad[0]}")
    run = RunFolder.create(options.out.parent, options.out.name, path=options.out)
    save_model(model, run.model_folder)
    note(f"{type(model).__name__} with {sum(p.numel() for p in model.parameters()):,} parameters")
    print(run.path)
    return 0
