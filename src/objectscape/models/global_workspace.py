"""The global workspace (Devillers, Maytié & VanRullen, 2023, arXiv 2306.15711): one space that several domains share.

Each domain d has a latent u_d from a frozen module of its own. The workspace adds an encoder e_d and a decoder d_d:

    state of one domain   s_d = tanh(e_d(u_d))
    state of several      s = tanh(sum_d a_d e_d(u_d))         weights a_d: see `objectscape.nn.selection`

and learns from four losses between latents, L_d being the loss of domain d:

    demi-cycle    d -> state -> d                      no pairs needed
    cycle         d -> state -> d' -> state -> d       no pairs needed
    translation   d -> state -> d'                     rows that have both
    contrastive   s_d and s_d' of a row are alike      rows that have both

Design decisions:
- `forward` encodes every domain once and decodes every state once; the four losses are functions of what it returns.
- Supervised terms are trained first (`cycles_from`): with all four from the start each domain settles in a code of its
  own, with good losses and wrong shapes (measured). The published schedules are recipes.
- Frozen domains stay in eval mode whatever is called. A saved workspace holds its domains: its folder is all it needs.
- Scenes with several objects come as sets, (B, N, D) in each domain; `pairing` makes rows of one object each of them.
- `reduction="bimgw"` takes unsupervised losses over every row that has the domain and contrasts tanh states; "shimmer"
  takes them over rows that have only that domain and contrasts encodings before tanh; "broadcast" is shimmer's fusion:
  states of every subset of a group are decoded into every domain.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from objectscape.building import build_part, model_folder
from objectscape.contract import Model
from objectscape.files import sha256_of
from objectscape.models.domains.domain import Domain
from objectscape.models.pairing import pair_up
from objectscape.nn.contrastive import LOG_SCALE, clip_loss, vse_loss
from objectscape.nn.frozen import Frozen
from objectscape.nn.selection import (
    AttentionSelection,
    EqualSelection,
    PrecisionSelection,
    RandomSelection,
    SingleSelection,
    SumSelection,
    fuse,
)
from objectscape.scene import Losses, Multimodal, Tensors, record

PerDomain = int | Mapping[str, int]
TERMS = ("translation", "contrastive", "demi_cycle", "cycle", "fused")


@record
class WorkspaceOutput(Tensors):
    """What a workspace makes of a batch. Names of several domains are joined by "+", sources and targets by ">"."""

    latents: dict[str, Tensor]
    """{d: (B, D_d)}."""
    encodings: dict[str, Tensor]
    """{d: (B, k)} before tanh."""
    states: dict[str, Tensor]
    """{sources: (B, k)}."""
    decoded: dict[str, Tensor]
    """{"sources>d": (B, D_d)} latents decoded from states."""
    cycled: dict[str, Tensor]
    """{"sources>through>d": (B, D_d)} decoded, encoded and decoded again."""
    present: dict[str, Tensor] = field(default_factory=dict)
    """{d: (B,) bool} rows that have the domain."""


class GlobalWorkspace(Model[Multimodal, WorkspaceOutput]):
    """Joins domains in one space.

    Args:
        domains: {name: domain}: a `Domain`, the folder of a trained one, or its description (`_target_` and arguments),
            which builds it without weights.
        state_size: k, width of the workspace.
        hidden_size: of encoders and decoders, one number or {domain: number}.
        decoder_hidden_size: of the decoders; None for `hidden_size`.
        encoder_layers, decoder_layers: further hidden layers.
        head_layers: hidden layers of each part of a domain's latent, after the decoder's own; None for one linear layer
            for all parts together.
        activation: "relu" or "silu".
        dropout: after each hidden layer.
        selection: weights of fused states: "sum", "equal", "single", "random", "attention" or "precision".
        temperature: of "random".
        weights: {term: weight} of translation, contrastive, demi_cycle, cycle and fused. The last, 0 unless given,
            decodes states of every two domains of a row; what learns the selection. Part of "broadcast" in any case.
        total: "sum" of the weighted terms (bimGW) or their "mean" (shimmer).
        reduction: see the module's docstring.
        learned_scale: learn the logit scale of the contrastive loss.
        contrastive: "clip" or "vse".
        cycles_from: steps after which demi-cycles and cycles are trained; before, only in batches without any pair.
        corruption: noise in training on one of the two domains of a fused state, of a size drawn for each row between 0
            and this many standard deviations of the latent: the selection learns whom to trust.
        freeze: keep the domains as they are.
        released_overwrite: with "broadcast", let a later group's loss replace an earlier one's of the same sources and
            target, as shimmer does.

    Raises:
        ValueError: for fewer than two domains, an unknown option, or an unknown term.
    """

    def __init__(
        self,
        *,
        domains: Mapping[str, Any],
        state_size: int = 12,
        hidden_size: PerDomain = 128,
        decoder_hidden_size: PerDomain | None = None,
        encoder_layers: PerDomain = 1,
        decoder_layers: PerDomain = 1,
        head_layers: PerDomain | None = None,
        activation: Literal["relu", "silu"] = "relu",
        dropout: float = 0.0,
        selection: str = "equal",
        temperature: float = 0.2,
        weights: Mapping[str, float] | None = None,
        total: Literal["sum", "mean"] = "sum",
        reduction: Literal["bimgw", "shimmer", "broadcast"] = "bimgw",
        learned_scale: bool = False,
        contrastive: Literal["clip", "vse"] = "clip",
        cycles_from: int = 0,
        corruption: float = 0.0,
        freeze: bool = True,
        released_overwrite: bool = False,
    ) -> None:
        super().__init__()
        if len(domains) < 2:
            raise ValueError(f"domains={list(domains)}; a workspace joins at least two")
        for name, value, known in (
            ("activation", activation, ("relu", "silu")),
            ("total", total, ("sum", "mean")),
            ("reduction", reduction, ("bimgw", "shimmer", "broadcast")),
            ("contrastive", contrastive, ("clip", "vse")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r}; choose one of {', '.join(known)}")
        self.weights = dict.fromkeys(TERMS[:4], 1.0) | dict(weights or {})
        if unknown := set(self.weights) - set(TERMS):
            raise ValueError(f"weights: there is no term {', '.join(sorted(unknown))}; terms are {', '.join(TERMS)}")
        built = {name: build_domain(name, given) for name, given in domains.items()}
        self.parts = nn.ModuleDict({n: Frozen(d) if freeze else d for n, d in built.items()})
        self.state_size, self.total, self.reduction = state_size, total, reduction
        self.contrastive, self.cycles_from, self.overwrite = contrastive, cycles_from, released_overwrite
        self.corruption, self.step = corruption, 0

        def of(option: PerDomain, name: str) -> int:
            return option if isinstance(option, int) else option[name]

        nonlinear: Callable[[], nn.Module] = nn.ReLU if activation == "relu" else nn.SiLU
        self.encoders, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        for name, domain in built.items():
            hidden = of(hidden_size, name)
            self.encoders[name] = nn.Sequential(
                *_layers(domain.latent_size, hidden, of(encoder_layers, name), nonlinear, dropout),
                nn.Linear(hidden, state_size),
            )
            wide = of(decoder_hidden_size if decoder_hidden_size is not None else hidden_size, name)
            self.decoders[name] = _Decoder(
                trunk=_layers(state_size, wide, of(decoder_layers, name), nonlinear, dropout),
                heads=[
                    [
                        *(_layers(wide, wide, of(head_layers, name) - 1, nonlinear, dropout) if head_layers else []),
                        nn.Linear(wide, width),
                    ]
                    for width in (domain.parts.values() if head_layers is not None else [domain.latent_size])
                ],
            )
        names = list(built)
        selections: dict[str, Callable[[], nn.Module]] = {
            "sum": SumSelection,
            "equal": EqualSelection,
            "single": SingleSelection,
            "random": lambda: RandomSelection(temperature=temperature),
            "attention": lambda: AttentionSelection(domains=names, size=state_size, head_size=state_size),
            "precision": lambda: PrecisionSelection(domains=names, state_size=state_size),
        }
        if selection not in selections:
            raise ValueError(f"selection={selection!r}; choose one of {', '.join(selections)}")
        self.selection = selections[selection]()
        scale = torch.tensor(LOG_SCALE)
        self.log_scale = nn.Parameter(scale) if learned_scale else None

    @property
    def config(self) -> dict[str, Any]:
        """Every constructor argument; domains as descriptions, so that a saved workspace needs no other folder."""
        described = {
            n: {**self.domain(n).description, "weights_hash": self.domain(n).weights_hash} for n in self.domains
        }
        return {**super().config, "domains": described}

    # --- the ability to translate ---

    @property
    def domains(self) -> Sequence[str]:
        """Names of the domains."""
        return list(self.encoders)

    def domain(self, name: str) -> Domain:
        """The module of a domain.

        Raises:
            ValueError: if the workspace does not have it.
        """
        if name not in self.parts:
            raise ValueError(f"this workspace has no domain {name!r}; it joins {', '.join(self.domains)}")
        part = self.parts[name]
        found: Any = part.module if isinstance(part, Frozen) else part
        return found

    def latent(self, batch: Multimodal, name: str) -> Tensor:
        """(B, D) the domain's latent: saved (entry "<name>_latent" of the batch) or encoded now; of sets (B, N, D)."""
        saved = batch.domains.get(f"{name}_latent")
        domain = self.domain(name)
        if saved is not None:
            return saved
        if name not in batch.domains:
            raise ValueError(f"the batch has no {name!r}, nor its saved latents; it has {', '.join(batch.domains)}")
        raw = batch.domains[name]
        if any(key.endswith("_latent") and u.ndim == 3 for key, u in batch.domains.items()):  # sets
            return domain.encode(raw.flatten(0, 1)).unflatten(0, raw.shape[:2])
        return domain.encode(raw)

    def encode(self, batch: Multimodal, *names: str) -> Tensor:
        """(B, k) state of one domain or of several fused; of all without names."""
        latents = {name: self.latent(batch, name) for name in names or self.domains}
        return self.fused(latents, {name: self.encoders[name](u) for name, u in latents.items()})

    def decode(self, state: Tensor, name: str) -> Tensor:
        """(B, k) state -> (B, ...) what the domain shows: pictures, attribute rows, tokens."""
        domain = self.domain(name)
        return domain.decode(domain.adapt(self.decode_latent(state, name)))

    def decode_latent(self, state: Tensor, name: str) -> Tensor:
        """(B, k) state -> (B, D) latent of a domain."""
        return self.domain(name).activate(self.decoders[name](state))

    def fused(self, latents: Mapping[str, Tensor], encodings: Mapping[str, Tensor]) -> Tensor:
        """(B, k) state of the domains given."""
        if len(encodings) == 1:
            return next(iter(encodings.values())).tanh()
        return fuse(encodings, self.selection(latents, encodings)).tanh()

    def cycle(self, latent: Tensor, name: str) -> Tensor:
        """(B, k) state of a predicted latent."""
        return self.encoders[name](self.domain(name).adapt(latent)).tanh()

    @property
    def latents_from(self) -> dict[str, str]:
        """{entry of saved latents: hash of the weights they must come from}, for domains that were trained before."""
        return {f"{n}_latent": h for n in self.domains if (h := self.domain(n).weights_hash) is not None}

    # --- training ---

    def set_step(self, step: int) -> None:
        """Called before each training step: cycles begin at `cycles_from`."""
        self.step = step

    def cycles(self, present: Mapping[str, Tensor]) -> bool:
        """Whether unsupervised losses are computed now; always outside training, and where nothing is matched."""
        if not self.training or self.step >= self.cycles_from:
            return True
        return not bool((torch.stack(list(present.values())).sum(0) > 1).any())

    def forward(self, batch: Multimodal) -> WorkspaceOutput:
        present = {name: _present(batch, name) for name in self.domains}
        latents = {name: self.latent(batch, name) for name in self.domains}
        if any(u.ndim == 3 for u in latents.values()):
            latents, present = pair_up(self, latents, {name: _objects(batch, name) for name in self.domains})
        encodings = {name: self.encoders[name](u) for name, u in latents.items()}
        states: dict[str, Tensor] = {}
        decoded: dict[str, Tensor] = {}
        cycled: dict[str, Tensor] = {}
        names, cycles = self.domains, self.cycles(present)
        largest = len(names) if self.reduction == "broadcast" else 1
        for size in range(1, largest + 1):
            for sources in itertools.combinations(names, size):
                key = "+".join(sources)
                states[key] = self.fused({n: latents[n] for n in sources}, {n: encodings[n] for n in sources})
                for to in names:
                    if cycles or to not in sources or size > 1:
                        decoded[f"{key}>{to}"] = self.decode_latent(states[key], to)
        if cycles and self.reduction != "broadcast":
            for d, through in itertools.permutations(names, 2):
                state = self.cycle(decoded[f"{d}>{through}"], through)
                cycled[f"{d}>{through}>{d}"] = self.decode_latent(state, d)
        elif cycles:
            for key in states:
                rest = [name for name in names if name not in key.split("+")]
                if rest:
                    again = {n: self.domain(n).adapt(decoded[f"{key}>{n}"]) for n in rest}
                    state = self.fused(again, {n: self.encoders[n](u) for n, u in again.items()})
                    for to in key.split("+"):
                        cycled[f"{key}>{'+'.join(rest)}>{to}"] = self.decode_latent(state, to)
        if self.weights.get("fused") and self.reduction != "broadcast":
            for pair in itertools.combinations(names, 2):
                given = self._corrupted({name: latents[name] for name in pair})
                state = self.fused(given, {name: self.encoders[name](u) for name, u in given.items()})
                decoded |= {f"{'+'.join(pair)}>{to}": self.decode_latent(state, to) for to in names}
        return WorkspaceOutput(
            latents=latents, encodings=encodings, states=states, decoded=decoded, cycled=cycled, present=present
        )

    def _corrupted(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training, with noise on one of the domains of each row; see `corruption`."""
        if not self.training or not self.corruption:
            return dict(latents)
        first = next(iter(latents.values()))
        bad = torch.randint(len(latents), (len(first), 1), device=first.device)
        size = self.corruption * torch.rand(len(first), 1, device=first.device)
        return {
            name: u + size * (bad == place) * u.std(0, correction=0) * torch.randn_like(u)
            for place, (name, u) in enumerate(latents.items())
        }

    def loss(self, batch: Multimodal, output: WorkspaceOutput, step: int) -> Losses:
        """The weighted terms that are trained at `step`; every term and every pair is named in `terms`."""
        parts = self.terms(output)
        means = {name: torch.stack(list(values.values())).mean() for name, values in parts.items() if values}
        active = [self.weights.get(name, 0.0) * value for name, value in means.items() if self.weights.get(name)]
        if not active:
            raise ValueError("no loss has a weight and rows to be computed on; check weights and the pairs of the data")
        stacked = torch.stack(active)
        total = stacked.sum() if self.total == "sum" else stacked.mean()
        named = {f"{term}/{key}": value for term, values in parts.items() for key, value in values.items()}
        return Losses(total=total, terms={name: v.detach() for name, v in {**means, **named}.items()})

    def terms(self, output: WorkspaceOutput) -> dict[str, dict[str, Tensor]]:
        """{term: {pair: scalar}} of every term that has rows."""
        losses = {name: self.domain(name).latent_loss for name in self.domains}
        if self.reduction == "broadcast":
            found = broadcast_losses(output, losses, overwrite=self.overwrite)
        else:
            alone = self.reduction == "shimmer"
            found = {
                "translation": translation_losses(output, losses),
                "demi_cycle": demi_cycle_losses(output, losses, alone=alone),
                "cycle": cycle_losses(output, losses, alone=alone),
                "fused": fused_losses(output, losses),
            }
        vectors = output.states if self.reduction == "bimgw" else output.encodings
        scale = LOG_SCALE if self.log_scale is None else self.log_scale
        present = output.present
        if self.reduction != "bimgw":  # shimmer contrasts rows that have exactly two domains
            two = torch.stack(list(present.values())).sum(0) == 2
            present = {name: rows & two for name, rows in present.items()}
        found["contrastive"] = contrastive_losses(vectors, present, kind=self.contrastive, log_scale=scale)
        return found


# --- the losses ---

LatentLosses = Mapping[str, Callable[[Tensor, Tensor], Tensor]]


def translation_losses(output: WorkspaceOutput, losses: LatentLosses) -> dict[str, Tensor]:
    """{"d>d'": scalar} over rows that have both domains."""
    found: dict[str, Tensor] = {}
    for key, predicted in output.decoded.items():
        source, to = key.split(">")
        if source != to and "+" not in source:
            rows = output.present[source] & output.present[to]
            _add(found, key, rows, losses[to](predicted, output.latents[to]))
    return found


def fused_losses(output: WorkspaceOutput, losses: LatentLosses) -> dict[str, Tensor]:
    """{"d+d'>to": scalar} of states of several domains, over rows that have all of these domains."""
    found: dict[str, Tensor] = {}
    for key, predicted in output.decoded.items():
        source, to = key.split(">")
        if "+" in source:
            rows = torch.stack([output.present[name] for name in (*source.split("+"), to)]).all(0)
            _add(found, key, rows, losses[to](predicted, output.latents[to]))
    return found


def demi_cycle_losses(output: WorkspaceOutput, losses: LatentLosses, *, alone: bool = False) -> dict[str, Tensor]:
    """{"d>d": scalar} over rows that have the domain, or have it `alone`."""
    found: dict[str, Tensor] = {}
    for d in output.latents:
        if f"{d}>{d}" in output.decoded:
            value = losses[d](output.decoded[f"{d}>{d}"], output.latents[d])
            _add(found, f"{d}>{d}", _rows(output, d, alone), value)
    return found


def cycle_losses(output: WorkspaceOutput, losses: LatentLosses, *, alone: bool = False) -> dict[str, Tensor]:
    """{"d>d'>d": scalar} over rows that have the domain, or have it `alone`."""
    found: dict[str, Tensor] = {}
    for key, predicted in output.cycled.items():
        d = key.split(">")[0]
        _add(found, key, _rows(output, d, alone), losses[d](predicted, output.latents[d]))
    return found


def contrastive_losses(
    vectors: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    *,
    kind: Literal["clip", "vse"] = "clip",
    log_scale: Tensor | float = LOG_SCALE,
) -> dict[str, Tensor]:
    """{"d=d'": scalar} over rows that have both; each unordered pair once."""
    found = {}
    for one, other in itertools.combinations([name for name in vectors if name in present], 2):
        rows = present[one] & present[other]
        if rows.any():
            x, y = vectors[one][rows], vectors[other][rows]
            found[f"{one}={other}"] = clip_loss(x, y, log_scale).mean() if kind == "clip" else vse_loss(x, y)
    return found


def broadcast_losses(
    output: WorkspaceOutput, losses: LatentLosses, *, overwrite: bool = False
) -> dict[str, dict[str, Tensor]]:
    """shimmer's fusion: for each group of rows with the same domains, every subset of them decoded into every one.

    Args:
        output: of a workspace with reduction "broadcast".
        losses: of the domains.
        overwrite: see `GlobalWorkspace`.
    """
    found: dict[str, dict[str, Tensor]] = {"demi_cycle": {}, "translation": {}, "fused": {}, "cycle": {}}
    names = list(output.latents)
    have = torch.stack([output.present[name] for name in names], 1)  # (B, domains)
    for pattern in _groups(have):
        rows = (have == pattern).all(1)
        group = [name for name, there in zip(names, pattern.tolist(), strict=True) if there]
        label = "+".join(group)
        for sources in output.states:
            inside = sources.split("+")
            if not set(inside) <= set(group):
                continue
            for to in group:
                term = "translation" if to not in inside else "demi_cycle" if inside == [to] else "fused"
                value = losses[to](output.decoded[f"{sources}>{to}"], output.latents[to])[rows].mean()
                if overwrite:
                    for key in [k for k in found[term] if k.startswith(f"{sources}>{to}@")]:
                        found[term][key] = value
                found[term][f"{sources}>{to}@{label}"] = value
            for key, predicted in output.cycled.items():
                start, _, to = key.split(">")
                if start == sources:
                    found["cycle"][f"{key}@{label}"] = losses[to](predicted, output.latents[to])[rows].mean()
    return found


def _groups(have: Tensor) -> list[Tensor]:
    """The distinct rows of `have` in the order in which they come, without the empty one."""
    patterns, inverse = have.unique(dim=0, return_inverse=True)
    first = [int((inverse == i).nonzero()[0]) for i in range(len(patterns))]
    ordered = [pattern for _, pattern in sorted(zip(first, patterns, strict=True), key=lambda item: item[0])]
    return [pattern for pattern in ordered if bool(pattern.any())]


def _rows(output: WorkspaceOutput, domain: str, alone: bool) -> Tensor:
    rows = output.present[domain]
    if alone:
        for name, other in output.present.items():
            if name != domain:
                rows = rows & ~other
    return rows


def _add(found: dict[str, Tensor], key: str, rows: Tensor, values: Tensor) -> None:
    """The mean of `values` over `rows`, if there are any."""
    count = rows.sum()
    if count:
        found[key] = torch.where(rows, values, 0).sum() / count


def _objects(batch: Multimodal, name: str) -> Tensor:
    """(B, N) bool: which entries of a set are objects; the others are zero."""
    shown = batch.domains[f"{name}_latent" if f"{name}_latent" in batch.domains else name]
    return shown.flatten(2).any(2) & _present(batch, name).unsqueeze(1)


def _present(batch: Multimodal, name: str) -> Tensor:
    return batch.present[name] if name in batch.present else batch.present[f"{name}_latent"]


# --- networks ---


class _Decoder(nn.Module):
    """A trunk, and a head for each part of the latent."""

    def __init__(self, *, trunk: Sequence[nn.Module], heads: Sequence[Sequence[nn.Module]]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*trunk)
        self.heads = nn.ModuleList(nn.Sequential(*head) for head in heads)

    def forward(self, state: Tensor) -> Tensor:
        hidden = self.trunk(state)
        return torch.cat([head(hidden) for head in self.heads], 1)


def _layers(inside: int, hidden: int, more: int, nonlinear: Callable[[], nn.Module], dropout: float) -> list[nn.Module]:
    """A hidden layer, and `more` of them; none at all for more=-1."""
    found: list[nn.Module] = []
    for number in range(more + 1):
        found += [nn.Linear(inside if number == 0 else hidden, hidden), nonlinear()]
        if dropout:
            found.append(nn.Dropout(dropout))
    return found


# --- domains ---


def build_domain(name: str, given: Any) -> Domain:
    """A domain from a module, the folder of a trained one, or a description.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if what is given is no domain.
    """
    domain = build_part(given, f"domains.{name}")
    if not isinstance(domain, Domain):
        raise ValueError(f"domains.{name} is a {type(domain).__name__}; domains are in objectscape.models.domains")
    if isinstance(given, Mapping):
        domain.weights_hash = given.get("weights_hash", domain.weights_hash)
    elif isinstance(given, str | Path):
        weights = model_folder(given, f"domains.{name}") / "model.safetensors"
        domain.weights_hash = sha256_of(weights)
    if domain.domain != name:
        raise ValueError(f"domains.{name}: this model reads {domain.domain!r}; call the domain {domain.domain}")
    return domain
