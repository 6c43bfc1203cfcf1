"""objectscape import-config: the YAML of an original code base as commands of ours, and what has no counterpart.

Nothing in the files is executed: interpolations of one key by another are followed, everything else that a file would
compute (environment variables, other files) is named instead.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from objectscape.files import expanded
from objectscape.names import unknown

POOL = 500_000
"""Rows of the half of the published training split that bimGW trains on."""
SIGMA = {"beta": "one", "sigma": "learned", "optimal_sigma": "optimal"}
RECIPES = {"v,attr": "bimgw_v_attr", "v,t": "bimgw_v_t", "v,attr,t": "bimgw_v_attr_t"}
OURS = {"t": "bert"}
"""Domains that are called otherwise here: "t" are words, "bert" their vectors."""
PER_DOMAIN = {
    "hidden_size.encoder": "hidden_size",
    "hidden_size.decoder": "decoder_hidden_size",
    "n_layers.encoder": "encoder_layers",
    "n_layers.decoder": "decoder_layers",
    "n_layers.decoder_head": "head_layers",
}
WITHOUT = {
    "debug": "no debug mode: give smaller values on the command line",
    "fast_dev_run": "trainer.max_steps=2 does it",
    "max_epochs": "steps count here: trainer.max_steps",
    "distributed_backend": "Lightning chooses: trainer.strategy",
    "accelerator": "trainer.accelerator=auto finds it",
    "slurm": "objectscape train --multirun ... hydra/launcher=submitit_slurm",
    "loggers": "TensorBoard is on; loggers.wandb and loggers.mlflow on request",
    "visualization": "objectscape evaluate, benchmark and compare read run folders, not W&B",
    "checkpoint": "every.checkpoint, in steps",
    "checkpoints_dir": "run_dir=FOLDER or runs=FOLDER",
    "resume_from_checkpoint": "resume=RUN",
    "simple_shapes_path": "pictures are drawn (data=simple_shapes); a folder: data=simple_shapes_folder data.path=...",
    "n_validation_examples": "validation.pictures",
    "dataloader": "latents stay in memory",
    "domain_loader": "sentence vectors: data=simple_shapes_folder",
    "fetchers": "sentence vectors: data=simple_shapes_folder",
    "odd_image": "objectscape evaluate asks for the odd one out",
    "downstream": "objectscape evaluate",
    "losses.schedules": "had no effect in bimGW",
    "losses.coefs.cosine": "had no effect in bimGW",
    "vae.n_fid_samples": "had no effect in bimGW",
    "vae.n_FID_samples": "had no effect in bimGW",
    "vae.data_augmentation": "was never switched on",
    "vae.early_stopping_patience": "training ends at trainer.max_steps",
    "lm.early_stopping_patience": "training ends at trainer.max_steps",
    "lm.hidden_size": "had no effect in bimGW",
    "global_workspace.early_stopping_patience": "training ends at trainer.max_steps",
    "global_workspace.monitor_grad_norms": "dead code in bimGW",
    "global_workspace.data_augmentation": "was never switched on",
    "global_workspace.optim.lr.supervised_multiplier": "had no effect in bimGW",
    "global_workspace.optim.lr.unsupervised_multiplier": "had no effect in bimGW",
    "global_workspace.load_pre_saved_latents": "objectscape latents RUN out=FILE, then data.path=FILE",
    "global_workspace.use_pre_saved": "objectscape latents RUN out=FILE, then data.path=FILE",
    "global_workspace.bert_path": "no sentence encoder is loaded here",
    "global_workspace.vae_checkpoint": "objectscape import-checkpoint bimgw FILE --out RUN, then model.domains.v=RUN",
    "global_workspace.lm_checkpoint": "objectscape import-checkpoint bimgw FILE --out RUN, then model.domains.t=RUN",
    "global_workspace.split_ood": "data.hole={attribute:[low,high]} when the latents are made",
    "global_workspace.scheduler.mode": "adaptive read attributes that no longer exist",
    "global_workspace.scheduler.interval": "schedules count steps",
    "global_workspace.remove_sync_domains": "no counterpart: every pair of domains is translated",
}
"""{key or section: why there is nothing for it, and what to do}."""


@dataclass
class Settings:
    """The merged files. Whatever `take` did not read is left over."""

    config: dict[str, Any]
    used: set[str] = field(default_factory=set)
    computed: dict[str, str] = field(default_factory=dict)
    """{key: expression} that are not followed."""

    def take(self, *keys: str, default: Any = None) -> Any:
        """The value of the first of some names of a key that is there."""
        for key in keys:
            value = self._plain(key)
            if value is not None:
                return value
        return default

    def _plain(self, key: str) -> Any:
        """What a key holds, references to other keys followed; None if it is not there, null, or computed."""
        seen: list[str] = []
        while True:
            self.used.add(key)
            value: Any = self.config
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if not (isinstance(value, str) and "${" in value):
                return None if value == "???" else value
            reference = re.fullmatch(r"\$\{([\w.]+)\}", value)
            if reference is None or reference[1] in seen:
                self.computed[key] = value
                return None
            key = reference[1]
            seen.append(key)

    def left(self) -> list[str]:
        """Keys that nothing has read, sections without their contents where a whole section has no counterpart."""
        found: list[str] = []

        def walk(node: Any, path: str) -> None:
            if path in self.used:
                return
            if isinstance(node, dict) and node and path not in WITHOUT:
                for key, value in node.items():
                    walk(value, f"{path}.{key}" if path else str(key))
            elif node not in (None, "???", {}, []) and not path.startswith("_"):
                found.append(path)

        walk(self.config, "")
        return found


def main(words: list[str]) -> int:
    """Parse the command line, read, translate and print."""
    parser = argparse.ArgumentParser(
        prog="objectscape import-config",
        description="Read the YAML files of an original code base (bimgw) and print the commands that train the same "
        "here; every key without a counterpart is named. Later files and key=value words win, as in the original.",
        epilog="example: objectscape import-config bimgw config/main.yaml config/local.yaml losses.coefs.cycles=0",
    )
    parser.add_argument("family", metavar="FAMILY", help="bimgw")
    parser.add_argument("words", nargs="+", metavar="FILE | key=value")
    options = parser.parse_intermixed_args(words)
    if options.family != "bimgw":
        raise ValueError(unknown("family", options.family, ["bimgw"]))
    settings = Settings(read_files(options.words))
    commands = [command(settings) for command in (visual_vae, text, workspace)]
    for line in (line for command in commands for line in command):
        print(line)
    notes = [f"{key}: {WITHOUT.get(key) or _reason(key)}" for key in settings.left()]
    notes += [f"{key}: computed when bimGW starts; give it as {key}=VALUE" for key in settings.computed]
    if notes:
        print("\n# without counterpart")
        for note in notes:
            print(f"# {note}")
    return 0


def read_files(words: list[str]) -> dict[str, Any]:
    """Files and `key=value` words merged in their order, without executing anything."""
    parts: list[Any] = []
    for word in words:
        if "=" in word and not Path(word).exists():
            parts.append(OmegaConf.from_dotlist([word]))
            continue
        path = expanded(word)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no YAML file: {error}") from error
        if not isinstance(loaded, dict):
            raise ValueError(f"{path} holds no settings, but a {type(loaded).__name__}")
        parts.append(OmegaConf.create(loaded))
    merged: Any = OmegaConf.to_container(OmegaConf.merge(*parts), resolve=False)
    if not {"vae", "lm", "global_workspace"} & set(merged):
        raise ValueError(f"{words[0]} has none of bimGW's sections vae, lm and global_workspace")
    return merged


def visual_vae(settings: Settings) -> list[str]:
    """The command that trains the visual VAE."""
    if "vae" not in settings.config:
        return []
    take, batch = settings.take, int(settings.take("vae.batch_size", default=512))
    epoch = math.ceil(POOL / batch)
    kind = str(take("vae.vae_type", "vae.type", default="beta"))
    if kind not in SIGMA:
        raise ValueError(unknown("vae_type", kind, SIGMA))
    given = {
        "seed": take("seed", default=0),
        "trainer.max_steps": _steps(settings, epoch),
        "batch_size": batch,
        "data.image_size": take("img_size", default=32),
        "model.image_size": take("img_size", default=32),
        "model.latent_size": take("vae.z_size", default=12),
        "model.width": take("vae.ae_size", default=512),
        "model.beta": take("vae.beta", default=0.1),
        "model.sigma": SIGMA[kind],
        "optimizer.lr": take("vae.optim.lr", default=3e-4),
        # its loss is a sum over the batch, ours a mean: under Adam only the weight decay can tell
        "optimizer.weight_decay": float(take("vae.optim.weight_decay", default=1e-5)) / batch,
        "schedule.every": int(take("vae.scheduler.step", default=100)) * epoch,
        "schedule.factor": take("vae.scheduler.gamma", default=0.9),
    }
    return ["# visual VAE", _command("workspace/bimgw_visual_vae", given)]


def text(settings: Settings) -> list[str]:
    """The command that trains the text module."""
    if "lm" not in settings.config:
        return []
    take, batch = settings.take, int(settings.take("lm.batch_size", default=1024))
    epoch = math.ceil(POOL / batch)
    given = {
        "seed": take("seed", default=0),
        "trainer.max_steps": _steps(settings, epoch),
        "batch_size": batch,
        "model.latent_size": take("lm.z_size", default=24),
        "model.beta": take("lm.beta", default=0.1),
        "model.attribute_weight": take("lm.coef_attr_loss", default=100_000),
        "model.vae_weight": take("lm.coef_vae_loss", default=1),
        "model.attributes_train_encoder": take("lm.optimize_vae_with_attr_regression", default=False),
        "optimizer.lr": take("lm.optim.lr", default=1e-4),
        "optimizer.weight_decay": take("lm.optim.weight_decay", default=3e-5),
        "schedule.every": int(take("lm.scheduler.step", default=200)) * epoch,
        "schedule.factor": take("lm.scheduler.gamma", default=0.0),
        "data.path": take("simple_shapes_path", default="FOLDER"),
    }
    return ["", "# text (vectors of BERT from the published folder)", _command("workspace/bimgw_text", given)]


def workspace(settings: Settings) -> list[str]:
    """The command that trains the workspace."""
    if "global_workspace" not in settings.config:
        return []
    gw = "global_workspace"
    take, batch = settings.take, int(settings.take(f"{gw}.batch_size", default=128))
    chosen = take(f"{gw}.selected_domains", default=["v", "attr"]) or ["v", "attr"]
    kinds = list(chosen.values()) if isinstance(chosen, dict) else list(chosen)
    domains = [name for name in ("v", "attr", "t") if name in kinds]
    recipe = RECIPES.get(",".join(domains))
    if recipe is None or set(kinds) - set(domains):
        raise ValueError(f"selected_domains={chosen}; expected v with attr, t, or both")
    rows = 2 * POOL if take(f"{gw}.sync_uses_whole_dataset", default=False) else POOL
    epoch = math.ceil(2 * len(domains) * rows / batch)  # the matched rows repeated, then each domain's rows
    share = float(take(f"{gw}.prop_labelled_images", default=1.0))
    available = float(take(f"{gw}.prop_available_images", default=1.0))
    later = int(take("losses.unsupervised_losses_after_n_epochs", default=-1))
    given: dict[str, Any] = {
        "seed": take("seed", default=0),
        "trainer.max_steps": _steps(settings, epoch),
        "batch_size": batch,
        "data.matched": share if share == 1 else int(share * rows),
        "model.state_size": take(f"{gw}.z_size", default=12),
        "model.dropout": take(f"{gw}.dropout", default=0),
        "model.cycles_from": (later + 1) * epoch,  # its epochs are compared by <=: one more than it says
        "optimizer.lr": take(f"{gw}.optim.lr.encoders", default=1e-4),
        "groups.decoders.lr": take(f"{gw}.optim.lr.decoders", default=3e-4),
        "optimizer.weight_decay": take(f"{gw}.optim.weight_decay", default=5e-5),
        "schedule.every": int(take(f"{gw}.scheduler.step", default=300)) * epoch,
        "schedule.factor": take(f"{gw}.scheduler.gamma", default=0.5),
    }
    coefficients = {
        "translation": take("losses.coefs.supervision", "losses.coefs.translation", default=1),
        **{
            ours: take(f"losses.coefs.{theirs}", default=1)
            for theirs, ours in (("contrastive", "contrastive"), ("demi_cycles", "demi_cycle"), ("cycles", "cycle"))
        },
    }
    given |= {f"model.weights.{name}": value for name, value in coefficients.items()}
    for theirs, ours in PER_DOMAIN.items():
        value = take(f"{gw}.{theirs}", f"{gw}.{theirs.partition('.')[0]}")
        if value is not None:
            sizes = value if isinstance(value, dict) else dict.fromkeys(domains, value)
            given[f"model.{ours}"] = {OURS.get(name, name): sizes[name] for name in domains if name in sizes}
    given |= {f"model.domains.{OURS.get(name, name)}": "RUN" for name in domains if name != "attr"}
    given["data.path"] = "LATENTS"
    count = int(rows * available)
    head = f"# workspace; its latents: objectscape latents RUN data=simple_shapes data.count={count} out=LATENTS"
    return ["", head, _command(f"workspace/{recipe}", given)]


def _steps(settings: Settings, epoch: int) -> int:
    epochs = settings.take("max_epochs", default=-1)
    steps = int(settings.take("max_steps", default=100_000))
    return int(epochs) * epoch if isinstance(epochs, int) and epochs > 0 else steps


def _command(recipe: str, given: dict[str, Any]) -> str:
    """A line that a shell takes, with the settings that differ from the recipe."""
    from objectscape.cli import config as configs

    base = configs.load([f"recipe={recipe}"])
    words = []
    for key, value in given.items():
        plain = _number(value)
        same = OmegaConf.select(base, key)
        same = OmegaConf.to_container(same) if OmegaConf.is_config(same) else same
        if plain != same:
            shown = "{" + ",".join(f"{k}:{v}" for k, v in plain.items()) + "}" if isinstance(plain, dict) else plain
            words.append(shlex.quote(f"{key}={shown:g}" if isinstance(shown, float) else f"{key}={shown}"))
    return " ".join(["objectscape", "train", f"recipe={recipe}", *words])


def _number(value: Any) -> Any:
    """YAML reads 1e-4 as text; a number is meant."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _reason(key: str) -> str:
    """Why there is nothing for a key below a section, or that it is not known."""
    parts = key.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if reason := WITHOUT.get(".".join(parts[:end])):
            return reason
    return "no key that we know of bimGW"
