import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objectscape.contract import Decomposes, Generates
from objectscape.models.instance_coloring import ColoringAutoencoder, FourierCode, is_own
from objectscape.nn.distributions import posterior_means
from objectscape.nn.instance_coloring import KERNELS, LOG_ABSENT, InstanceColoring, SemiConvolution
from objectscape.scene import Scene

kernels = st.sampled_from(KERNELS)
seeds = st.integers(0, 2**31)


def embeddings(seed: int, batch: int = 3, height: int = 5, width: int = 4, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(batch, 6, height, width, generator=torch.Generator().manual_seed(seed))


def scores(seed: int, batch: int = 3, height: int = 5, width: int = 4) -> torch.Tensor:
    return torch.rand(batch, height, width, generator=torch.Generator().manual_seed(seed + 1))


def small(**changes: float | None) -> ColoringAutoencoder:
    torch.manual_seed(0)
    model = ColoringAutoencoder(**{"slots": 3, "width": 16, "hidden": 24, **changes})
    with torch.no_grad():  # at zero, its start, the colors are bare positions, and the densest token is a tie
        model.embed.gate.fill_(0.5)
    return model


def scene(batch: int = 2, height: int = 35, width: int = 35) -> Scene:
    return Scene(image=torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0)))


# The block


@settings(max_examples=30, deadline=None)
@given(
    seed=seeds, kernel=kernels, slots=st.integers(1, 7), densest=st.booleans(), min_pixels=st.sampled_from([0, 2, 6])
)
def test_masks_sum_to_one(seed: int, kernel: str, slots: int, densest: bool, min_pixels: int) -> None:
    result = InstanceColoring(slots=slots, kernel=kernel)(embeddings(seed), densest=densest, min_pixels=min_pixels)
    assert result.log_masks.shape == result.log_scopes.shape == (3, slots, 5, 4)
    assert result.seeds.shape == (3, slots - 1)
    assert result.seed_embeddings.shape == (3, slots - 1, 6)
    assert result.log_masks.max() <= 0
    torch.testing.assert_close(result.log_masks.exp().sum(1), torch.ones(3, 5, 4))
    used = (result.log_masks > LOG_ABSENT / 2).any(-1).any(-1)
    assert torch.equal(used, torch.arange(slots) < result.counts[:, None])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, kernel=kernels, scale=st.sampled_from([0.0, 1e-6, 1.0, 1e3, 1e6]))
def test_logs_and_gradients_stay_finite(seed: int, kernel: str, scale: float) -> None:
    block = InstanceColoring(slots=4, kernel=kernel)
    x = embeddings(seed, scale=scale).requires_grad_()
    result = block(x, noise=scores(seed))
    weights = torch.randn(result.log_masks.shape, generator=torch.Generator().manual_seed(seed))
    (result.log_masks * weights).sum().backward()
    assert result.log_masks.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert block.log_sigma.grad is not None
    assert block.log_sigma.grad.isfinite()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, kernel=kernels)
def test_permuted_pixels_give_permuted_masks(seed: int, kernel: str) -> None:
    block, x, u = InstanceColoring(slots=4, kernel=kernel), embeddings(seed), scores(seed)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))

    def permute(t: torch.Tensor) -> torch.Tensor:
        return t.flatten(-2)[..., order].view(t.shape)

    expected, found = block(x, noise=u), block(permute(x), noise=permute(u))
    torch.testing.assert_close(found.log_masks, permute(expected.log_masks), rtol=1e-4, atol=1e-4)
    assert torch.equal(order[found.seeds], expected.seeds)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, kernel=kernels)
def test_dynamic_k_does_not_depend_on_the_batch(seed: int, kernel: str) -> None:
    block, x, u = InstanceColoring(slots=6, kernel=kernel), embeddings(seed, scale=0.5), scores(seed)
    together = block(x, noise=u, min_pixels=2.5)
    for i in range(3):
        alone = block(x[i : i + 1], noise=u[i : i + 1], min_pixels=2.5)
        torch.testing.assert_close(alone.log_masks[0], together.log_masks[i])
        assert torch.equal(alone.seeds[0], together.seeds[i])
        sums = alone.log_masks[0].exp().sum((1, 2))
        assert (sums[: int(alone.counts) - 1] >= 2.5).all()  # only the last slot in use, the rest, may be smaller
        assert (sums[int(alone.counts) :] == 0).all()


def test_one_color_stops_after_one_mask() -> None:
    result = InstanceColoring(slots=5)(torch.zeros(1, 6, 4, 4), min_pixels=2.0)
    assert result.counts.tolist() == [2]  # a mask of 0.99 everywhere and the rest
    assert result.seeds.tolist()[0][2:] == [-1, -1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_membership_is_half_at_squared_distance_one_over_k(kernel: str) -> None:
    block = InstanceColoring(slots=5, kernel=kernel)
    x = torch.zeros(1, 2, 1, 2)
    x[0, 0, 0, 1] = math.sqrt(1 / 5)
    result = block(x, noise=torch.tensor([[[0.9, 0.1]]]))
    assert result.log_masks[0, 0, 0, 1].exp().item() == pytest.approx(0.5, abs=1e-5)


def test_densest_seed_is_in_the_largest_group() -> None:
    x = torch.zeros(1, 2, 1, 7)
    x[0, 0, 0, :2], x[0, 0, 0, 2] = 5.0, 10.0  # groups of 2, 1 and 4 pixels
    result = InstanceColoring(slots=4)(x, noise=torch.ones(1, 1, 7), densest=True)
    assert result.seeds[0].tolist() == [3, 0, 2]


def test_seeds_follow_the_noise_and_posterior_means() -> None:
    block, x = InstanceColoring(slots=2), embeddings(0, batch=1)
    noise = torch.zeros(1, 5, 4)
    noise[0, 3, 2] = 0.7
    assert block(x, noise=noise).seeds.tolist() == [[14]]
    assert block(x, noise=noise[:, None]).seeds.tolist() == [[14]]
    with posterior_means():
        assert block(x).seeds.tolist() == [[0]]


def test_semi_convolution_starts_as_pure_position() -> None:
    embedding, offset = SemiConvolution(inputs=4, outputs=5)(torch.randn(2, 4, 3, 3))
    assert (offset == 0).all()
    assert (embedding[:, :3] == 0).all()
    assert embedding[1, 3].tolist() == [[-1] * 3, [0] * 3, [1] * 3]
    assert embedding[1, 4].tolist() == [[-1, 0, 1]] * 3


def test_block_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"gaussian, laplacian, epanechnikov"):
        InstanceColoring(slots=3, kernel="box")
    with pytest.raises(ValueError, match="slots=0"):
        InstanceColoring(slots=0)
    with pytest.raises(ValueError, match="outputs=1"):
        SemiConvolution(inputs=3, outputs=1)
    with pytest.raises(ValueError, match="slots=0"):
        InstanceColoring(slots=3)(embeddings(0), slots=0)


# The model


@pytest.mark.parametrize(("patch", "height", "width"), [(5, 35, 35), (4, 32, 32), (4, 64, 48), (1, 6, 6)])
@pytest.mark.parametrize("training", [False, True])
def test_decomposition(patch: int, height: int, width: int, training: bool) -> None:
    model = small(patch=patch).train(training)
    output = model(scene(2, height, width))
    assert output.recon.shape == (2, 3, height, width)
    assert output.masks.shape == (2, 3, 1, height, width)
    assert output.components.shape == (2, 3, 3, height, width)
    assert output.slots.shape == (2, 3, 16)
    assert output.attention.shape == (2, 3, height // patch, width // patch)
    torch.testing.assert_close(output.masks.sum(1), torch.ones(2, 1, height, width))
    torch.testing.assert_close(output.attention.sum(1), torch.ones_like(output.attention[:, 0]))
    assert isinstance(model, Decomposes)
    assert not isinstance(model, Generates)


def test_ties_between_slots_go_to_the_one_with_most_tokens() -> None:
    model = small()
    with torch.no_grad():
        model.draw[-1].weight.zero_()
        model.draw[-1].bias.zero_()
    output = model(scene())
    sizes = output.attention.sum((2, 3))  # (B, K)
    assert torch.equal(output.segments.flatten(1).long(), sizes.argmax(1, keepdim=True).expand(-1, 35 * 35))
    shares = (sizes / sizes.sum(1, keepdim=True))[..., None, None, None].expand_as(output.masks)
    torch.testing.assert_close(output.masks, shares)  # weight 1: a mask is the slot's share of the tokens
    model.size_prior = 0.0
    torch.testing.assert_close(model(scene()).masks, torch.full_like(output.masks, 1 / 3))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, sharpness=st.sampled_from([0.1, 1.0, 5.0]))
def test_the_largest_slot_always_has_pixels_of_its_own(seed: int, sharpness: float) -> None:
    logits = sharpness * torch.randn(3, 5, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    masks = logits.softmax(1)
    own, norm = is_own(masks), masks.flatten(2).norm(dim=2)
    assert own.gather(1, norm.argmax(1, keepdim=True)).all()
    for image, slot in (~own).nonzero().tolist():  # and what is left out is shared with a larger one
        shared = (masks[image] * masks[image, slot]).flatten(1).sum(1)
        assert norm[image][shared > shared[slot]].gt(norm[image, slot]).all()


def test_slots_that_share_pixels_are_left_out() -> None:
    masks = torch.zeros(1, 4, 1, 1, 6)
    masks[0, 0, 0, 0, :2] = 1.0  # a piece
    masks[0, 1, 0, 0, 2:] = 0.55  # the background, in two slots
    masks[0, 2, 0, 0, 2:] = 0.43
    masks[0, 3, 0, 0, 2:] = 0.02  # a slot that nobody needs
    assert is_own(masks).tolist() == [[True, True, False, False]]
    hard = torch.eye(4)[torch.tensor([0, 1, 2, 3, 3, 1])].T[None, :, None, None]
    assert is_own(hard).all()


@pytest.mark.parametrize("weight", [None, 0.0, 0.5])
def test_sizes_may_count_less_in_evaluation(weight: float | None) -> None:
    model = small(evaluation_size_prior=weight).eval()
    with torch.no_grad():
        model.draw[-1].weight.mul_(30)  # so that slots differ, and several have pixels of their own
    output = model(scene())
    logits = model.decode(output.slots, output.centers, 7, 7)[1]  # (B, K, 1, H, W)
    sizes = output.attention.sum((2, 3)).log()[..., None, None, None]
    kept = output.masks.amax((2, 3, 4), keepdim=True) > 0
    assert (kept.sum(1) > 1).any()  # or nothing is shared
    expected = (logits + (1.0 if weight is None else weight) * sizes).masked_fill(~kept, -torch.inf).softmax(1)
    torch.testing.assert_close(output.masks, expected)


def test_only_evaluation_leaves_slots_out() -> None:
    """In training all slots must learn; the same logits give other masks in evaluation."""
    model = small()
    with torch.no_grad():
        model.draw[-1].weight.zero_()
        model.draw[-1].bias.zero_()
    assert (model(scene()).masks > 0).all()
    output = model.eval()(scene())
    assert output.masks.amax((2, 3, 4)).sort(1).values.tolist() == [[0, 0, 1]] * 2
    torch.testing.assert_close(output.recon, (output.masks * output.components).sum(1))


def test_sizes_decide_but_do_not_teach_the_coloring() -> None:
    """Else the masks of the image would reach the coloring, and painting by color would suffice (see the module)."""
    model = small()
    with torch.no_grad():  # all slots draw alike, whatever they hold
        model.draw[-1].weight.zero_()
    model.loss(scene(), model(scene()), 0).total.backward()
    assert model.draw[-1].bias.grad.abs().max() > 0
    assert model.embed.gate.grad.abs().max() == 0


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of patch=5"):
        small()(scene(1, 35, 34))
    with pytest.raises(ValueError, match="multiples of patch=5"):
        small()(Scene(image=torch.zeros(1, 2, 3, 35, 35)))
    with pytest.raises(ValueError, match="patch=0"):
        ColoringAutoencoder(patch=0)
    with pytest.raises(ValueError, match="noise=-1"):
        ColoringAutoencoder(noise=-1)
    with pytest.raises(ValueError, match="size_prior=-1"):
        ColoringAutoencoder(size_prior=-1)


def test_any_number_of_slots_at_test_time() -> None:
    model = small().eval()
    for slots in (1, 2, 6):
        model.slots = slots
        output = model(scene())
        assert output.masks.shape[1] == slots
        torch.testing.assert_close(output.masks.sum(1), torch.ones(2, 1, 35, 35))


def test_gradients_reach_every_parameter() -> None:
    model = small()
    model.loss(scene(), model(scene()), 0).total.backward()
    # the bias of the embedding cancels in every difference of colors
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-9}
    assert silent <= {"embed.conv.bias"}


def test_evaluation_is_deterministic_and_training_follows_the_seed() -> None:
    model = small().eval()
    assert torch.equal(model(scene()).masks, model(scene()).masks)
    model.train()
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(model(scene()).masks)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_evaluation_does_not_depend_on_the_batch() -> None:
    model = small().eval()
    torch.testing.assert_close(model(scene()[1:]).recon, model(scene())[1:].recon)


def test_bfloat16_is_finite_and_close() -> None:
    """With all slots, as in training: what is left out in evaluation is decided by less than bf16 resolves."""
    model, results = small(noise=0.0), []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results.append(model(scene(), noise=scores(0, 2, 7, 7)))
            evaluated = model.eval()(scene())
            model.train()
        assert evaluated.recon.isfinite().all()
        torch.testing.assert_close(evaluated.masks.sum(1).float(), torch.ones(2, 1, 35, 35), rtol=0, atol=1e-2)
    full, half = results
    assert (half.recon - full.recon).abs().mean() < 0.02
    assert (half.masks - full.masks).abs().mean() < 0.02


def test_decoding_follows_the_slot() -> None:
    """The same slot at a center one token further draws the same picture one patch further."""
    model = small().eval()
    slot = torch.randn(1, 1, 16)
    step = 2 / 6  # tokens are this far apart on a 7 x 7 grid
    here, _ = model.decode(slot, torch.tensor([[[0.0, 0.0]]]), 7, 7)
    there, _ = model.decode(slot, torch.tensor([[[step, 0.0]]]), 7, 7)
    torch.testing.assert_close(there[..., 5:, :], here[..., :-5, :])


def test_fourier_code_is_a_sum_over_axes() -> None:
    code = FourierCode(frequencies=2, outputs=3)
    rows, columns = torch.tensor([0.0, 0.5]), torch.tensor([-0.25, 0.0, 1.0])
    grid = code(rows, columns)
    assert grid.shape == (2, 3, 3)
    torch.testing.assert_close(grid[1, 2], code(rows[1:], columns[2:])[0, 0])


def test_loss_is_summed_over_the_image_and_averaged_over_the_batch() -> None:
    model, images = small().eval(), scene()
    output = model(images)
    losses = model.loss(images, output, 0)
    expected = sum(0.5 * ((images.image[i] - output.recon[i]) ** 2).sum() for i in range(2)) / 2
    torch.testing.assert_close(losses.total, expected)
    assert losses.total.item() == pytest.approx(losses.terms["mse"].item() * 3 * 35 * 35 / 2, rel=1e-5)


def test_saved_and_loaded(tmp_path) -> None:
    model = small(noise=0.1).eval()
    model.save_pretrained(tmp_path)
    loaded = ColoringAutoencoder.from_pretrained(tmp_path).eval()
    assert loaded.config == model.config
    assert (loaded.config["slots"], loaded.config["noise"], loaded.config["patch"]) == (3, 0.1, 5)
    assert torch.equal(loaded(scene()).recon, model(scene()).recon)


def test_learns_four_images() -> None:
    torch.manual_seed(0)
    images = torch.zeros(4, 3, 20, 20)
    for i, (row, column) in enumerate([(2, 2), (2, 12), (11, 3), (10, 12)]):
        images[i, i % 3, row : row + 6, column : column + 6] = 1
    data, model = Scene(image=images), small(noise=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for step in range(250):
        losses = model.loss(data, model(data), step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(losses.terms["mse"].item())
    assert history[-1] < 0.2 * history[0], history[-1]
