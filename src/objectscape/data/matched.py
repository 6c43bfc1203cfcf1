"""Who is paired with whom: which rows of a data set are known in several domains at once.

Semi-supervised models of several domains (text, images, attributes) learn from few rows that are matched and many that
are not. Two published codes choose them differently:

- `align`: nested groups with exact sizes (Simple Shapes package, shimmer): `{("attr", "v"): rows, ("v",): rows, ...}`;
- `repeat_matched`: one list of (row, domains) in which the matched rows are repeated until they are as many as the rest
  (bimGW).

`MatchedOrder` is what training here uses: a given part of every batch is matched rows, none of them twice, and the rest
are rows of which one domain is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from objectscape.scene import Multimodal
from objectscape.seeding import derive_generator

Group = tuple[str, ...]


def align(rows: int, proportions: Sequence[tuple[Sequence[str], float]], seed: int) -> dict[Group, np.ndarray]:
    """Nested groups of rows, as the Simple Shapes package draws them.

    Args:
        rows: of the data set.
        proportions: (domains, share of the rows) for each group; their order is part of the result's definition.
        seed: of the draws.

    Returns:
        {domains in alphabetical order: sorted rows}: int(rows * share) for each group; a group's rows are also in every
        listed group of fewer of its domains.

    Raises:
        ValueError: if a larger group would have more rows than one that it contains.
    """
    groups = [frozenset(domains) for domains, _ in proportions]
    wanted = {group: int(rows * share) for group, (_, share) in zip(groups, proportions, strict=True)}
    streams = np.random.default_rng(seed).spawn(len(groups))
    order = {group: stream.permutation(rows) for group, stream in zip(groups, streams, strict=True)}
    taken: dict[frozenset[str], list[np.ndarray]] = {group: [] for group in groups}
    left = list(groups)
    while left:
        for group in [g for g in left if not any(g < other for other in left)]:
            new = order[group][: wanted[group]]
            for member in (g for g in groups if g <= group):
                fresh = new[np.isin(new, order[member])]  # another group may have brought some of them
                taken[member].append(fresh)
                order[member] = order[member][~np.isin(order[member], fresh)]
                wanted[member] -= len(fresh)
                if wanted[member] < 0:
                    raise ValueError(
                        f"{', '.join(sorted(member))} would have more matched rows than rows; give it a share of at "
                        "least the sum of the groups that contain it."
                    )
            left.remove(group)
    return {tuple(sorted(group)): np.sort(np.concatenate(parts)) for group, parts in taken.items()}


def alignment_name(split: str, proportions: Sequence[tuple[Sequence[str], float]], seed: int, rows: int | None) -> str:
    """The package's file name of an alignment, e.g. train_t:1.0_t,v:0.5_v:1.0_seed:0_ms:500000_domain_split.npy.

    Args:
        split: train, val or test.
        proportions, seed: as for `align`.
        rows: considered; None for the name of the older layout.
    """
    groups = sorted((",".join(sorted(domains)), share) for domains, share in proportions)
    shares = "_".join(f"{name}:{share}" for name, share in groups)
    return f"{split}_{shares}_seed:{seed}{'' if rows is None else f'_ms:{rows}'}_domain_split.npy"


def repeat_matched(
    rows: int,
    domains: Sequence[str],
    *,
    matched: float,
    available: float = 1.0,
    order: np.ndarray,
    extra: Mapping[str, Sequence[int]] | None = None,
) -> tuple[np.ndarray, list[Group]]:
    """bimGW's training list: matched rows repeated, then each domain's rows alone.

    Args:
        rows: of the data set.
        domains: in the order of the result.
        matched: share of the rows that are matched.
        available: share of the rows that are used at all.
        order: a permutation of the rows.
        extra: {domain: rows} that only that domain may see (held-out ones).

    Returns:
        (list of rows, the domains that are available for each).
    """
    sync = order[: int(matched / available * int(rows * available))]
    if len(sync) == 0:
        raise ValueError(f"matched={matched} of {rows} rows is no row; give at least {1 / rows:g}.")
    repeats = -(-len(domains) * rows // len(sync))
    entries = [np.tile(sync, repeats)]
    groups: list[Group] = [tuple(domains)] * len(entries[0])
    for domain in domains:
        more = np.asarray((extra or {}).get(domain, ()), dtype=order.dtype)
        pool = np.concatenate([order[~np.isin(order, sync)], more])
        alone = pool[: int(available * (rows + len(more))) - len(sync)]
        own = np.concatenate([alone, sync])
        entries.append(np.tile(own, -(-rows // len(own))))
        groups += [(domain,)] * len(entries[-1])
    return np.concatenate(entries), groups


class MatchedOrder:
    """Batches of item numbers: item r is row r in all domains, item (d + 1) * rows + r row r in domain d alone.

    Args:
        rows: of the data set.
        pairs: number of matched rows, drawn by `seed`. 0 and 1 are fine.
        domains: number of them; the unmatched part of a batch is split evenly.
        part: share of a batch that is matched; fewer when there are not so many pairs, so that none comes twice.
        batch_size: items of this process.
        seed: of the order.
        start: number of the first batch.
        rank, world: this process and the number of processes.
    """

    def __init__(
        self,
        rows: int,
        *,
        pairs: int,
        domains: int,
        part: float,
        batch_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= part <= 1:
            raise ValueError(f"matched_part={part}; it is a share of the batch, from 0 to 1")
        self.rows, self.domains, self.start, self.seed, self.rank = rows, domains, start, seed, rank
        self.matched = torch.randperm(rows, generator=derive_generator(seed, "pairs"))[:pairs]
        self.of_pairs = min(round(part * batch_size), pairs // world if pairs >= world else 0)
        self.batch_size, self.world = batch_size, world

    def __iter__(self) -> Iterator[list[int]]:
        number = self.start
        while True:
            generator = derive_generator(self.seed, "matched", number, self.rank)
            share = self.matched[self.rank :: self.world]
            if len(share) > 8 * self.of_pairs:  # a few repeats are drawn again, cheaper than a permutation
                chosen = torch.randint(len(share), (2 * self.of_pairs,), generator=generator).unique()
                chosen = chosen[torch.randperm(len(chosen), generator=generator)[: self.of_pairs]]
            else:
                chosen = torch.randperm(len(share), generator=generator)[: self.of_pairs]
            alone = self.batch_size - len(chosen)
            rows = torch.randint(self.rows, (alone,), generator=generator)
            domain = torch.arange(alone) % self.domains
            yield torch.cat([share[chosen], rows + (domain + 1) * self.rows]).tolist()
            number += 1


def reveal(resident: Multimodal, items: Sequence[int] | torch.Tensor, rows: int) -> Multimodal:
    """The batch of `MatchedOrder`'s item numbers: domains that an item does not show are zero and not present."""
    numbers: Any = torch.as_tensor(items)
    batch = resident[numbers % rows]
    alone = numbers // rows - 1  # -1: all domains
    if not (alone >= 0).any():
        return batch
    domains, present = {}, {}
    for place, (name, values) in enumerate(batch.domains.items()):
        shown = (alone < 0) | (alone == place)
        present[name] = batch.present[name] & shown
        domains[name] = values * shown.reshape(-1, *[1] * (values.ndim - 1)).to(values.dtype)
    return Multimodal(domains=domains, present=present)


def pairs_of(matched: float, rows: int, split: str) -> int:
    """Number of matched rows of a split; validation and test are matched throughout."""
    if split != "train":
        return rows
    pairs = round(matched) if matched > 1 else round(matched * rows)
    if not 0 <= pairs <= rows:
        raise ValueError(f"matched={matched:g}, but the training split has {rows} rows; give at most as many")
    return pairs
