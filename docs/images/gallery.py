"""Makes the pictures of the page "Gallery": `python docs/images/gallery.py`.

They are those of `objectscape show data=NAME data.quality=high`, with fewer dots.
"""

from pathlib import Path

import torch

from objectscape.data.synthetic.clevr_like import ClevrLike
from objectscape.data.synthetic.clevrtex_like import ClevrTexLike
from objectscape.data.synthetic.objects_room_like import ObjectsRoomLike
from objectscape.data.synthetic.rooms_ring_camera_like import RoomsRingCameraLike
from objectscape.data.synthetic.shapestacks_like import ShapeStacksLike
from objectscape.scene import Scene
from objectscape.viz import dataset_figure, samples_figure, save_figure

HERE = Path(__file__).parent


def save(scene: Scene, name: str, *, columns: int = 8, dpi: int = 100) -> None:
    """Draws `scene` to gallery-`name`.png."""
    save_figure(dataset_figure(scene, count=len(scene), columns=columns), HERE / f"gallery-{name}.png", dpi=dpi)


for family in (ClevrLike, ClevrTexLike, ObjectsRoomLike, ShapeStacksLike):
    save(family(split="test", image_size=96, quality="high").batch(range(8)), family.NAME)  # type: ignore[call-arg]
rooms = RoomsRingCameraLike(split="test", frames=6, quality="high").batch(range(2))
save(rooms.map(lambda t: t.flatten(0, 1)), RoomsRingCameraLike.NAME, columns=6)

rows, names = [], list(ClevrLike.VARIANTS)
for variant in names:
    data = ClevrLike(split="test", variant=variant, max_objects=6, image_size=64, quality="high")
    rows.append(data.batch(range(5)).pixels)
labels = [name.replace("_", " ") for name in names]
save_figure(samples_figure(torch.cat(rows), columns=5, row_labels=labels), HERE / "gallery-shifts.png", dpi=80)
