"""Which floats a run computes in: bfloat16 where the device computes it fast, float32 elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from objectscape.training.settings import precision_of

WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA under which oneDNN has no bf16 products."""


@dataclass(frozen=True)
class Precision:
    """What `trainer.precision` became, and why."""

    setting: str
    """For Lightning: "32-true", "bf16-mixed" or another of `settings.PRECISIONS`."""
    reason: str
    """The rest of a sentence that begins with the setting."""

    def __str__(self) -> str:
        return f"{self.setting}, {self.reason}"


def choose_precision(setting: str | int | None, accelerator: str = "auto") -> Precision:
    """Lightning's setting for `trainer.precision`, "auto" resolved for the device at hand.

    Raises:
        ValueError: for a setting that is unknown, or that the device cannot compute.
    """
    text = precision_of(setting)
    device = device_type(accelerator)
    fast, why = fast_bf16(device)
    if text == "auto":
        return Precision("bf16-mixed" if fast else "32-true", f"chosen by trainer.precision=auto: {why}")
    if text == "16-mixed" and device == "cpu":
        raise ValueError(f"trainer.precision={setting} needs a GPU; on a CPU choose auto, 32-true or bf16-mixed")
    slow = text == "bf16-mixed" and not fast
    return Precision(text, f"as set, but slow here: {why}; trainer.precision=auto avoids that" if slow else "as set")


def device_type(accelerator: str) -> str:
    """The kind of device that Lightning takes for `trainer.accelerator`: "cpu", "cuda", "mps" or what was said."""
    if accelerator in ("auto", "gpu"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return accelerator


def fast_bf16(device: str) -> tuple[bool, str]:
    """Whether a device of this kind multiplies bfloat16 faster than float32, and the reason in words."""
    if device == "cuda":
        versions = [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]
        name, version = torch.cuda.get_device_name(), ".".join(map(str, min(versions)))
        return min(versions) >= (8, 0), f"{name} has compute capability {version} and bf16 needs 8.0"
    if device != "cpu":
        return False, f"bf16 is not known to be fast on the device {device}"
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        limit = os.environ.get(variable, "")
        if limit.upper() in WITHOUT_BF16:
            return False, f"{variable}={limit} leaves out the CPU's bf16 instructions"
    limit = os.environ.get("ATEN_CPU_CAPABILITY", "")
    if limit in ("default", "avx2"):
        return False, f"ATEN_CPU_CAPABILITY={limit} leaves out the CPU's bf16 instructions"
    names = {"AMX": torch.cpu._is_amx_tile_supported(), "AVX512_BF16": torch.cpu._is_avx512_bf16_supported()}
    found = [name for name, there in names.items() if there]
    return bool(found), f"this CPU has {' and '.join(found)}" if found else "this CPU has neither AVX512_BF16 nor AMX"
