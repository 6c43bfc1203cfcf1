"""Who is paired with whom: which rows of a data set are known in several domains at once.

Semi-supervised models of several domains (text, images, attributes) learn from few rows that are matched and many that
are not. Two published codes choose them differently:

- `align`: nested groups with exact sizes (Simple Shapes package, shimmer): `{("attr", "v"): rows, ("v",): rows, ...}`;
- `repeat_matched`: one list of (row, domains) in which the matched rows are repeated until they are as many as the rest
  (bimGW).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

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
