"""The types that travel between the rooms."""

from __future__ import annotations

import pytest
import torch

from objectscape.scene import Decomposition, Scene, Spec


def scene(n: int = 3) -> Scene:
    segments = torch.zeros(n, 8, 8, dtype=torch.int64)
    segments[:, :2], segments[0, 4:] = 1, 2
    return Scene(
        image=torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 8, 8),
        segments=segments,
        factors={"x": torch.arange(n).float()},
    )


def test_it_slices_and_collates_as_one_thing() -> None:
    whole = scene(4)
    again = Scene.cat([whole[:1], whole[1:]])
    assert torch.equal(again.image, whole.image)
    assert torch.equal(again.factors["x"], whole.factors["x"])
    items = [whole[i] for i in range(4)]
    assert items[0].image.shape == (3, 8, 8)
    assert torch.equal(Scene.stack(items).segments, whole.segments)
    assert whole[torch.tensor([2, 0])].factors["x"].tolist() == [2, 0]


def test_pixels_are_float_in_zero_one_whatever_is_stored() -> None:
    stored = Scene(image=torch.full((1, 3, 4, 4), 255, dtype=torch.uint8))
    assert stored.pixels.dtype == torch.float32
    assert stored.pixels.max() == 1
    assert torch.equal(Scene(image=stored.pixels).pixels, stored.pixels)


def test_objects_are_counted_from_present_or_segments() -> None:
    assert scene().objects.tolist() == [2, 1, 1]
    assert Scene(image=torch.zeros(2, 3, 4, 4), present=torch.tensor([[True, False]] * 2)).objects.tolist() == [1, 1]
    assert Scene(image=torch.zeros(2, 3, 4, 4)).objects is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": torch.zeros(2, 1, 8, 8)}, "Repeat a gray image"),
        ({"image": torch.zeros(2, 3, 8, 8, dtype=torch.int64)}, "uint8"),
        ({"image": torch.zeros(2, 3, 8, 8), "segments": torch.zeros(2, 4, 4)}, "nearest for segments"),
    ],
)
def test_what_is_no_scene_is_refused(fields: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scene(**fields)


def test_scenes_that_differ_in_kind_do_not_merge() -> None:
    with pytest.raises(ValueError, match="segments is set in some"):
        Scene.cat([scene(), Scene(image=torch.zeros(1, 3, 8, 8, dtype=torch.uint8))])


def test_segments_of_a_decomposition_are_the_largest_mask_and_ties_go_to_the_lowest_slot() -> None:
    masks = torch.tensor([[0.5, 0.2], [0.5, 0.8]]).view(1, 2, 1, 1, 2)
    output = Decomposition(
        recon=torch.zeros(1, 3, 1, 2), masks=masks, components=torch.zeros(1, 2, 3, 1, 2), slots=torch.zeros(1, 2, 4)
    )
    assert output.segments.tolist() == [[[0, 1]]]


def test_a_spec_survives_json() -> None:
    import json

    spec = Spec(name="x", image_size=(4, 6), splits={"train": None}, fields={"image": "pixels"}, max_objects=3)
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
