"""objectscape doctor: what is installed, what is missing, what the machine has."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform

from rich.table import Table

from objectscape import __version__
from objectscape.cli.common import console

REQUIRED = ("torch", "numpy", "lightning", "hydra-core", "torchmetrics", "huggingface_hub", "safetensors", "h5py",
            "scipy", "scikit-learn", "matplotlib", "pillow", "imageio", "rich", "tensorboard")  # fmt: skip
EXTRAS = {
    "imageio-ffmpeg": "video (MP4)",
    "mujoco": "physics (clips of shapestacks_like)",
    "hydra-joblib-launcher": "joblib (parallel sweeps)",
    "hydra-submitit-launcher": "slurm",
    "hydra-ray-launcher": "ray",
    "wandb": "wandb",
    "mlflow": "mlflow",
}


def main(words: list[str]) -> int:
    """Print the report; the exit status is 1 if something needed is missing."""
    argparse.ArgumentParser(
        prog="objectscape doctor", description="Report versions, devices and what is missing."
    ).parse_args(words)
    import torch

    from objectscape.training.precision import device_type, fast_bf16

    table = Table(title=f"objectscape {__version__}", title_justify="left", show_header=False)
    table.add_row("Python", platform.python_version())
    table.add_row("machine", f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    fast, why = fast_bf16(device_type("auto"))
    table.add_row("trainer.precision=auto", f"{'bf16-mixed' if fast else '32-true'}: {why}")
    table.add_row("GPUs", ", ".join(devices) or "none: training runs on the CPU")
    missing = []
    for name in REQUIRED:
        version = _version(name)
        if version is None:
            missing.append(name)
        table.add_row(name, version or "MISSING")
    for name, extra in EXTRAS.items():
        table.add_row(name, _version(name) or f"not installed; needed for: {extra}")
    console.print(table)
    if missing:
        console.print(f"missing: {', '.join(missing)}. Install with: pip install {' '.join(missing)}")
        return 1
    console.print("everything needed is there")
    return 0


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
