"""What `objectscape plan` can be told, without anything that is slow to import."""

from __future__ import annotations

TASKS = ("stack_blocks", "stack_three", "rearrange_blocks", "move_sprites", "reach_place")
COSTS = ("image", "subimage", "slots", "places")
