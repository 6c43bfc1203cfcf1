"""The model card: what a saved model is, for whoever finds its folder or its page on a hub."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

from objectscape.contract import abilities

_CARD = """---
library_name: objectscape
license: apache-2.0
tags: [{tags}]
---

# {name}

{about}

| | |
| --- | --- |
| abilities | {abilities} |
| parameters | {parameters:,} |
| trained on | {data} |
| steps | {steps} |
| objectscape | {version} |

## Use

```python
import objectscape
from objectscape import Scene

model = objectscape.load("FOLDER")         # this folder, or "hf://owner/name"
output = model(Scene(image=images))        # images (B, 3, H, W), uint8 or float in [0, 1]{size}
```

## Hyperparameters

```json
{options}
```

What it reached, and what it fails at, is in the evaluation files of its run (`objectscape evaluate RUN`) and on the
page of its model in the documentation. The weights are under the license of the library; the data keep their own
({data_license}).
"""


def model_card(model: nn.Module, description: Mapping[str, Any]) -> str:
    """README.md of a saved model, from its class and its `config.json`.

    Args:
        model: what was saved.
        description: the content of config.json: the constructor's arguments, `data` (a Spec's dictionary or None),
            `step` and `objectscape`, the version that wrote it.
    """
    data = description.get("data") or {}
    about = inspect.getdoc(sys.modules[type(model).__module__]) or inspect.getdoc(type(model)) or ""
    meta = ("_target_", "format", "objectscape", "step", "data", "sha256")
    size = getattr(model, "image_size", None)
    found = abilities(model)
    return _CARD.format(
        tags=", ".join(["object-centric", *found]),
        name=type(model).__name__,
        about=about.split("\n\n")[0],
        abilities=", ".join(found) or "none",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        data=f"{data['name']} (version {data['version']})" if data else "not recorded",
        steps=description.get("step") or "not recorded",
        version=description.get("objectscape", "unknown"),
        size=f"; the model takes sides of {size}" if size else "",
        options=json.dumps({k: v for k, v in description.items() if k not in meta}, indent=2, default=str),
        data_license=data.get("license", "unknown"),
    )
