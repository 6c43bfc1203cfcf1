"""One run = one folder, and nothing is ever written into another run's folder.

config.yaml             everything needed to repeat the run
status.json             running, done, interrupted or failed, and why
checkpoints/last.ckpt   everything needed to continue it
model/                  config.json + model.safetensors, everything needed to use the result
metrics.csv             the log; TensorBoard events beside it
figures/  evaluation/   pictures and numbers
README.md               what was done, for a person
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from objectscape import building, pretrained
from objectscape.files import read_json, read_yaml, write_text

if TYPE_CHECKING:  # torch is imported by the functions that need it: `objectscape compare` does not
    from torch import nn


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of one run."""

    path: Path

    @classmethod
    def create(cls, root: Path, name: str, *, path: Path | None = None) -> RunFolder:
        """A new folder `root/name/<time>-<id>`, or exactly `path`.

        Raises:
            FileExistsError: if `path` exists and is not empty.
            OSError: if it cannot be made.
        """
        folder = path or root / name / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            hint = (
                f"Continue it with resume={folder}, or choose another run_dir."
                if cls(folder).is_run()
                else ("Choose another run_dir.")
            )
            raise FileExistsError(f"run_dir={folder} exists and is not empty; a run never writes into it. {hint}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"the run folder {folder} cannot be made ({error.strerror}); choose another place") from error
        return cls(folder)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run, or a model that comes with the package ("pretrained/NAME").

        Raises:
            FileNotFoundError: if `path` is not a run folder.
            ValueError: if no model of that name comes with the package.
        """
        path = pretrained.resolve(path)
        run = cls(path)
        if not path.exists():
            raise FileNotFoundError(f"there is no run folder {path}. `objectscape list runs` shows those below ./runs.")
        if not run.is_run():
            raise FileNotFoundError(f"{path} is not a run folder: it has no config.yaml and no model/")
        return run

    def is_run(self) -> bool:
        return (self.path / "config.yaml").is_file() or (self.path / "model" / "config.json").is_file()

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def model_folder(self) -> Path:
        return self.path / "model"

    @property
    def name(self) -> str:
        """What commands and `objectscape.load` call it."""
        return pretrained.PREFIX + self.path.name if pretrained.is_one(self.path) else self.path.as_posix()

    @property
    def home(self) -> Path:
        """Where pictures and numbers go: this folder, or runs/pretrained/NAME of a packaged model."""
        return Path("runs") / "pretrained" / self.path.name if pretrained.is_one(self.path) else self.path

    @property
    def figures(self) -> Path:
        return self.home / "figures"

    def remove_if_untouched(self) -> None:
        """Remove the folder again if the run ended before it began: nothing but config.yaml was written."""
        if self.path.is_dir() and {file.name for file in self.path.iterdir()} == {"config.yaml"}:
            (self.path / "config.yaml").unlink()
            self.path.rmdir()

    def write_config(self, config: DictConfig) -> None:
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(config))

    def config(self) -> DictConfig:
        """The run's configuration; empty for a folder that holds only an imported model."""
        file = self.path / "config.yaml"
        return read_yaml(file) if file.is_file() else OmegaConf.create({})

    def write_status(self, state: str, **details: Any) -> None:
        if state == "running":
            details |= {"pid": os.getpid(), "host": platform.node(), "began": _began(os.getpid())}
        write_text(
            self.path / "status.json",
            json.dumps({"state": state, "time": time.strftime("%Y-%m-%d %H:%M:%S"), **details}),
        )

    def status(self) -> dict[str, Any]:
        """`state` (running, done, interrupted, failed; died: it says running, but its process has gone) and details.

        Raises:
            ValueError: if the file is damaged.
        """
        file = self.path / "status.json"
        if not file.is_file():
            return {"state": "unknown"}
        status = read_json(file)
        for key, kinds in (("state", str), ("step", int), ("seconds", int | float), ("pid", int), ("host", str)):
            if not isinstance(status.get(key, "" if key == "state" else None), kinds | None):
                raise ValueError(f"{file} is damaged: {key} is {status[key]!r}")
        if "state" not in status:
            raise ValueError(f"{file} is damaged: it has no state")
        here = status.get("host") == platform.node() and "pid" in status
        if status["state"] == "running" and here and _began(status["pid"]) != status.get("began"):
            status["state"] = "died"
        return status

    def weights_step(self) -> int | None:
        """After how many steps the weights were saved that `load_model` gives; None for imported ones."""
        if (self.model_folder / "config.json").is_file():
            step = read_json(self.model_folder / "config.json").get("step")
        else:
            step = read_checkpoint(self.checkpoint)["global_step"]
        return step if isinstance(step, int) else None

    def load_model(self, **overrides: Any) -> nn.Module:
        """The trained model: the final one, or the last checkpoint's if the run has not finished."""
        from objectscape.checkpoints.native import load_model, load_weights

        if (self.model_folder / "config.json").is_file():
            return load_model(self.model_folder, **overrides)
        checkpoint = read_checkpoint(self.checkpoint)
        config = self.config()
        building.check_file(config, str(self.path / "config.yaml"))
        description: Any = OmegaConf.to_container(config.model, resolve=True)
        model = building.build({**description, **overrides}, "model")
        weights = {k.removeprefix("model."): v for k, v in checkpoint["state_dict"].items() if k.startswith("model.")}
        load_weights(model, weights, source=str(self.checkpoint))
        return model.eval()


def _began(pid: int) -> str | None:
    """When a process began, in the system's own count; None if there is no such process. "?" if only that is known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return "?"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training checkpoint, without executing anything in it.

    Raises:
        FileNotFoundError, ValueError: if it is missing, cut short, or not one of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: the run was stopped before its first checkpoint. Begin it again: "
            f"objectscape train config={path.parents[1]}"
        )
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for broken files and for refused pickles
        what = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({what[:120]}). It is damaged, or "
            "objectscape did not write it; files that need unpickling of arbitrary objects are refused."
        ) from error
    parts = {"state_dict": dict, "loops": dict, "callbacks": dict, "global_step": int, "optimizer_states": list}
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), kind) for k, kind in parts.items()):
        raise ValueError(f"{path} is not a training checkpoint of objectscape")
    return checkpoint
