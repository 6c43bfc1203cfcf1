import pytest
import torch
from sklearn.cluster import KMeans

from objectscape.evaluation.baselines import chromaticity, kmeans_segments


def blocks() -> torch.Tensor:
    """(2, 3, 12, 12) uint8: black with two red squares and a green one; the second image is mirrored."""
    image = torch.zeros(3, 12, 12, dtype=torch.uint8)
    image[0, 1:5, 1:5] = image[0, 7:11, 7:11] = image[1, 1:5, 7:11] = 255
    return torch.stack([image, image.flip(-1)])


def test_color_alone_merges_equal_colors() -> None:
    segments = kmeans_segments(blocks(), 3, 0.0)[0]
    assert segments[2, 2] == segments[8, 8]  # the two red squares
    assert len({int(segments[i, j]) for i, j in ((0, 0), (2, 2), (2, 8))}) == 3


def test_position_splits_what_color_cannot() -> None:
    segments = kmeans_segments(torch.zeros(1, 3, 8, 8), 2, 1.0)[0]
    assert sorted(segments.flatten().bincount().tolist()) == [32, 32]


def test_chromaticity_removes_shading() -> None:
    shade = torch.linspace(0.2, 1, 16).view(1, 1, 4, 4)
    color = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(chromaticity(shade * color), color.expand(1, 3, 4, 4))
    assert chromaticity(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).eq(0).all()


def test_more_clusters_than_distinct_pixels() -> None:
    segments = kmeans_segments(torch.zeros(1, 3, 4, 4), 3, 0.0)
    assert segments.shape == (1, 4, 4)
    assert segments.unique().numel() == 1


def test_as_good_as_scikit_learn() -> None:
    image = torch.rand(3, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    segments = kmeans_segments(image, 4, 0.0, restarts=10, iterations=50)
    for one, found in zip(image, segments, strict=True):
        points = one.flatten(1).T.numpy()
        ours = sum(
            ((points[mask] - points[mask].mean(0)) ** 2).sum()
            for mask in (found.flatten().numpy() == k for k in range(4))
            if mask.any()
        )
        assert ours <= 1.02 * KMeans(4, n_init=10, random_state=0).fit(points).inertia_


def test_same_seed_same_segments_and_batch_parts_agree_in_shape() -> None:
    image = torch.rand(70, 3, 5, 5, generator=torch.Generator().manual_seed(1))  # two chunks
    first, second = (kmeans_segments(image, 3, seed=4) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (70, 5, 5)
    assert first.dtype == torch.int64


@pytest.mark.parametrize(
    ("image", "clusters"), [(torch.zeros(1, 3, 4, 4), 0), (torch.zeros(3, 4, 4), 2), (torch.zeros(1, 1, 4, 4), 2)]
)
def test_bad_arguments(image: torch.Tensor, clusters: int) -> None:
    with pytest.raises(ValueError, match=r"clusters=0|shape"):
        kmeans_segments(image, clusters)
