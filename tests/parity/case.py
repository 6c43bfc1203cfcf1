"""One recorded case of an original implementation: `NAME.json` says what was run, `NAME.npz` holds the numbers.

Layout (see the fixtures' README): npz keys `weights/<upstream key>`, `inputs/<name>`, `outputs/<name>`,
`grad_norms/<upstream key>`; some kinds hold other arrays, which `Case.arrays` gives as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class Case:
    """A recorded case. What `compare` and `compare_gradients` saw is remembered; `finish` fails on the rest."""

    path: Path
    """The JSON file."""
    info: dict[str, Any]
    compared: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Case:
        return cls(path, json.loads(path.read_text()))

    @property
    def kind(self) -> str:
        return self.info["kind"]

    @property
    def config(self) -> dict[str, Any]:
        return self.info["config"]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Everything in the npz; {} if the case has none."""
        file = self.path.with_suffix(".npz")
        if not file.exists():
            return {}
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def group(self, name: str) -> dict[str, np.ndarray]:
        """The arrays below `name/`, by the rest of their key."""
        return {key[len(name) + 1 :]: value for key, value in self.arrays.items() if key.startswith(name + "/")}

    def weights(self, *, requires_grad: bool = False) -> dict[str, Tensor]:
        """Upstream state dict; floating-point entries are leaves that collect gradients if `requires_grad`."""
        leaves = {key: torch.tensor(value) for key, value in self.group("weights").items()}
        for leaf in leaves.values():
            leaf.requires_grad_(requires_grad and leaf.is_floating_point())
        return leaves

    def inputs(self) -> dict[str, Tensor]:
        return {key: torch.tensor(value) for key, value in self.group("inputs").items()}

    @property
    def tolerance(self) -> dict[str, float]:
        return {
            key: self.info.get("tolerance", {}).get(key, default) for key, default in (("rtol", 1e-4), ("atol", 1e-5))
        }

    def compare(self, name: str, actual: Tensor | np.ndarray | float, **tolerance: float) -> None:
        """Assert that `actual` equals the recorded `outputs/name` within the case's tolerance."""
        self.compared.add(name)
        self._assert_close(f"outputs/{name}", actual, self.arrays[f"outputs/{name}"], **{**self.tolerance, **tolerance})

    def compare_gradients(self, loss: Tensor, leaves: Mapping[str, Tensor], *, skip: tuple[str, ...] = ()) -> None:
        """Assert the L2 norm of d loss / d leaf for every recorded gradient; 0 for a leaf the loss does not reach."""
        recorded = self.group("grad_norms")
        rule = self.info.get("grad_tolerance", self.info.get("tolerance", {}))
        rtol = rule.get("grad_rtol", rule.get("rtol", 1e-3))
        skipped = {*rule.get("skip", ()), *skip}
        names = [key for key in recorded if key not in skipped]
        missing = [key for key in names if key not in leaves]
        assert not missing, f"{self.path.stem}: gradients recorded for unknown weights {missing}"
        grads = torch.autograd.grad(loss, [leaves[key] for key in names], allow_unused=True)
        for key, grad in zip(names, grads, strict=True):
            norm = 0.0 if grad is None else float(grad.double().norm())
            self._assert_close(f"grad_norms/{key}", norm, recorded[key], rtol=rtol, atol=rule.get("atol", 1e-5))

    def finish(self, *, ignore: tuple[str, ...] = ()) -> None:
        """Fail if a recorded output was never compared; `ignore` names outputs that the runner has a reason to skip."""
        left = set(self.group("outputs")) - self.compared - set(ignore)
        assert not left, f"{self.path.stem}: recorded outputs never compared: {sorted(left)}"

    def _assert_close(self, name: str, actual: Any, expected: np.ndarray, *, rtol: float, atol: float) -> None:
        actual = actual.detach().cpu().numpy() if isinstance(actual, Tensor) else np.asarray(actual)
        expected = np.asarray(expected)
        assert actual.shape == expected.shape, (
            f"{self.path.stem}: {name} has shape {actual.shape}, expected {expected.shape}"
        )
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, err_msg=f"{self.path.stem}: {name}")
