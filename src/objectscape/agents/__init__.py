"""A model at work: games and robots seen as objects, for Gymnasium's agents.

    from objectscape.agents import ObjectObservation
    env = ObjectObservation(gymnasium.make("ALE/Pong-v5"), objectscape.load("my_model"))

The names below are imported when they are used, so that nothing here needs Gymnasium before.
"""

from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "ObjectObservation": "wrapper",
    "VectorObjectObservation": "wrapper",
    "ObjectTable": "observation",
    "MaskObjects": "adapters",
    "MotionObjects": "adapters",
    "OCAtariObjects": "adapters",
    "RamObjects": "adapters",
    "from_named": "adapters",
    "SolverModel": "stable_worldmodel",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
