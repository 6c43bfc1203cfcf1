"""The run folder's README: what was trained, on what, how fast, the numbers, the pictures."""

from __future__ import annotations

import platform
from typing import Any

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.evaluation.results import number, read_results
from objectscape.files import write_text


def write_readme(run: RunFolder) -> None:
    """Write README.md from what is in the run folder; call it again after every change."""
    import torch

    config, status = run.config(), run.status()
    name = config.get("name", run.path.name)
    lines = [f"# {name}", ""]
    if "model" in config:
        lines += [
            f"`{config.model._target_}` on `{config.data._target_}`, seed {config.seed}, "
            f"batch size {config.batch_size} x {config.trainer.get('devices', 1)} device(s).",
            "",
            f"State: **{status['state']}** after {status.get('step', '?')} of {config.trainer.max_steps} steps"
            + (f", {status['seconds']:.0f} s of training" if "seconds" in status else "")
            + f" (torch {torch.__version__}, {_machine()}).",
            "",
            *([f"Warm start: {status['warm_start']}.", ""] if "warm_start" in status else []),
            *([f"Precision: {status['precision']}.", ""] if "precision" in status else []),
            f"Repeat it: `objectscape train config={run.path}/config.yaml`. "
            f"Continue it: `objectscape train resume={run.name} trainer.max_steps=N`.",
            "",
        ]
    for stem, content in read_results(run).items():
        lines += [
            f"## {stem}",
            "",
            _describe(content),
            "",
            "| metric | mean | sd | n |",
            "|---|---|---|---|",
        ]
        for metric, score in content["scores"].items():
            lines.append(f"| {metric} | {number(score['mean'])} | {number(score['sd'])} | {score['n']} |")
        lines.append("")
    figures = sorted(run.figures.glob("*.png")) + sorted(run.figures.glob("*.gif"))
    for figure in figures:
        lines += [f"![{figure.stem}]({figure.relative_to(run.home).as_posix()})", ""]
    lines += [
        "Use it:",
        "",
        "```python",
        "import objectscape",
        "from objectscape.scene import Scene",
        "",
        f'model = objectscape.load("{run.name}")',
        "output = model(Scene(image=images))  # images: (B, 3, H, W), uint8 or float in [0, 1]",
        "```",
        "",
    ]
    write_text(run.home / "README.md", "\n".join(lines))


def _describe(content: dict[str, Any]) -> str:
    images = f", {content['images']} images" if "images" in content else ""
    step = "" if content.get("step") is None else f", step {content['step']}"
    about = f"{images}{step}, {content['time']}, seed {content.get('seed', '?')}"
    return f"{content['data']['name']} ({content['split']}){about}."


def _machine() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
