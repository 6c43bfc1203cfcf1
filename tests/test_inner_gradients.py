"""The gradient that is taken at once against the one that is taken afterwards."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from benchmarks.measure import kept_for_backward
from objectscape.models import efficientmorl
from objectscape.models.efficientmorl import EfficientMORL
from objectscape.nn.inner_gradients import gradient_at_once
from objectscape.scene import Scene


def plainly(compute: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, module: nn.Module) -> tuple[Tensor, ...]:
    return compute(*inputs)


def tiny(**changes: object) -> EfficientMORL:
    torch.manual_seed(0)
    options = {"image_size": 8, "slots": 3, "slot_size": 8, "refinement_steps": 2, "decoder_channels": 4}
    model = EfficientMORL(**{**options, "initialization": "sharp", **changes}).double()  # type: ignore[arg-type]
    model.reconstruction_weight = torch.tensor(1.7, dtype=torch.float64)
    return model


def images() -> Scene:
    return Scene(image=torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double())


def gradients(model: EfficientMORL, total: Callable[[efficientmorl.EfficientMORLOutput], Tensor]) -> list[Tensor]:
    torch.manual_seed(2)
    found = torch.autograd.grad(total(model(images())), list(model.parameters()), allow_unused=True)
    return [p.new_zeros(p.shape) if g is None else g for g, p in zip(found, model.parameters(), strict=True)]


LOSSES: dict[str, Callable[[EfficientMORL], Callable[[efficientmorl.EfficientMORLOutput], Tensor]]] = {
    "loss": lambda model: lambda output: model.loss(images(), output, 0).total,
    "images weighed unequally": lambda model: lambda output: output.step_nll[0, 1] + 2 * output.step_nll[1].sum(),
    "pictures": lambda model: lambda output: output.recon.square().sum() + output.step_masks[:, 0].square().sum(),
    "pictures and loss": lambda model: lambda output: output.recon.square().sum() + output.nll.mean(),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "changes", [{"decoder": "small", "likelihood": "gaussian"}, {"decoder": "iodine", "prior": "bottom_up"}]
)
def test_efficientmorl_learns_by_the_gradient_of_the_plain_path(name: str, changes: dict[str, object]) -> None:
    model = tiny(**changes)
    total = LOSSES[name](model)
    with torch.backends.mkldnn.flags(enabled=False):
        ours = gradients(model, total)
        with mock.patch.object(efficientmorl, "gradient_at_once", plainly):
            expected = gradients(model, total)
    assert any(g.abs().max() > 1e-3 for g in expected)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


class Rows(nn.Module):
    """A cost per row, and something besides."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.calls = nn.Linear(3, 2), nn.Linear(3, 2), 0

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        drawn = self.used(x).tanh()
        return (drawn - y).square().sum(1), drawn


def test_equal_weights_need_no_second_call_and_others_do() -> None:
    rows = Rows().double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    weights = list(rows.parameters())
    expected = {}
    for calls, read in {
        1: lambda cost, drawn: 3 * cost.mean(),
        2: lambda cost, drawn: (cost * torch.arange(4)).sum() + drawn.sum(),
    }.items():
        expected = torch.autograd.grad(read(*rows(x, y)), [x, y, *weights], allow_unused=True)
        rows.calls = 0
        cost, drawn = gradient_at_once(rows, x, y, module=rows)
        ours = torch.autograd.grad(read(cost, drawn), [x, y, *weights], allow_unused=True)
        torch.testing.assert_close(ours[:4], expected[:4])
        assert rows.calls == calls
        assert [g is None for g in ours] == [g is None for g in expected] == [False] * 4 + [True] * 2


def test_what_needs_no_gradient_gets_none() -> None:
    rows = Rows().requires_grad_(False)
    x, y = torch.randn(2, 3, requires_grad=True), torch.randn(2, 2)
    gradient_at_once(rows, x, y, module=rows)[0].sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in rows.parameters())
    assert not gradient_at_once(rows, x.detach(), y, module=rows)[0].requires_grad
    with torch.no_grad():
        assert not gradient_at_once(rows, x, y, module=rows)[0].requires_grad


def test_a_second_call_with_other_parameters_is_refused() -> None:
    rows = Rows()
    x, y = torch.randn(2, 3), torch.randn(2, 2)

    class Costs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = rows

        def forward(self) -> Tensor:
            return gradient_at_once(rows, x, y, module=rows)[0]

    others = {name: value.detach().clone().requires_grad_() for name, value in Costs().named_parameters()}
    cost = torch.func.functional_call(Costs(), others, ())
    (slope,) = torch.autograd.grad(cost.mean(), others["rows.used.bias"], retain_graph=True)
    assert slope.any()
    with pytest.raises(RuntimeError, match="functional_call"):
        torch.autograd.grad(cost[0], others["rows.used.bias"])


def test_drawings_do_not_live_on() -> None:
    """Activations that wait for a backward pass: with every refinement a drawing's more, or nearly none."""
    kept: dict[str, list[float]] = {}
    scene = Scene(image=torch.rand(2, 3, 32, 32).double())
    for name, way in (("ours", gradient_at_once), ("plain", plainly)):
        for steps in (1, 4):
            model = tiny(image_size=32, decoder="iodine", encoder_channels=2, refinement_steps=steps)

            def step(model: EfficientMORL = model) -> None:
                model.loss(scene, model(scene), 0).total.backward()

            with mock.patch.object(efficientmorl, "gradient_at_once", way):
                kept.setdefault(name, []).append(kept_for_backward(step, without=model.parameters()))
    ours, plain = kept["ours"], kept["plain"]
    assert ours[0] < 0.7 * plain[0]
    assert ours[1] - ours[0] < 0.2 * (plain[1] - plain[0])
