"""The state of a model without what training wrapped around it: nested dictionaries, DataParallel, torch.compile."""

from __future__ import annotations

import re
from typing import Any

NESTED = ("model_state_dict", "state_dict", "model")
COMPILED = re.compile(r"(?:^|(?<=\.))_orig_mod\.")
PARALLEL = re.compile(r"^(?:module\.)+")


def unwrapped(stored: Any) -> dict[str, Any]:
    """The entries of a stored state, nested ones taken out, with their names as the model has them; {} for no state."""
    for name in NESTED:
        if isinstance(stored, dict) and isinstance(stored.get(name), dict):
            stored = stored[name]
    if not isinstance(stored, dict):
        return {}
    return {PARALLEL.sub("", COMPILED.sub("", str(key))): value for key, value in stored.items()}
