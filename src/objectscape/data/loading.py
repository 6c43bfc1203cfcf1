"""From a data set to training batches: in an order that depends on the seed and the step alone.

Batch number s of a run is a pure function of (data, seed, s), whatever the number of processes, workers or restarts.
So a run that was killed continues with exactly the batches it would have seen.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from objectscape.data.clips import Clips, StoresFrames, Window, cut
from objectscape.data.dataset import SceneDataset
from objectscape.data.synthetic.base import SyntheticScenes
from objectscape.nn.ramps import Stages
from objectscape.scene import Scene
from objectscape.seeding import derive_generator, derive_seed

log = logging.getLogger(__name__)

STORAGES = ("auto", "ram", "device", "workers", "stream")
RESIDENT_SHARE = 0.4  # of the free memory that "auto" lets a resident data set take


def training_part(batch: Scene, keep: Sequence[str] = ()) -> Scene:
    """`batch` without its ground truth, except for the fields `keep`."""
    return replace(batch.inputs(), **{name: getattr(batch, name) for name in keep})


def load_resident(
    dataset: SceneDataset, device: torch.device | str = "cpu", *, keep: Sequence[str] = (), piece: int = 1024
) -> Scene:
    """The unlabeled part of a whole split (and the fields `keep`) as one batch of uint8 images on `device`.

    Of `Clips`: every frame of the data set they are cut from, without time axis, in the order of the episodes.
    """
    if isinstance(dataset, Clips) and not isinstance(dataset.dataset, StoresFrames):
        return load_resident(dataset.dataset, device, keep=keep, piece=piece).fold_time()
    if isinstance(dataset, SyntheticScenes):
        return training_part(dataset.all(device), keep)
    size, read = len(dataset), dataset.batch
    if isinstance(dataset, Clips) and isinstance(dataset.dataset, StoresFrames):
        size, read = int(dataset.lengths.sum()), dataset.dataset.frames  # type: ignore[assignment]
    pieces = [range(start, min(start + piece, size)) for start in range(0, size, piece)]
    found = [training_part(read(list(indices)), keep).to(device) for indices in pieces]
    return type(found[0]).cat(found)


@dataclass(frozen=True, kw_only=True)
class _Stage:
    first: int
    """Number of its first batch."""
    step: int
    size: int
    """Items to choose from."""
    local: int
    """Items of a batch on one process."""
    per_epoch: int


class BatchOrder(Sampler[list[int]]):
    """Index lists for the batches from number `start` on, for ever; process `rank` of `world` gets its share of each.

    Every epoch is a fresh permutation; its last incomplete batch is left out. Where the number of items or the batch
    size changes, a new epoch begins.

    Args:
        size: items of the split; a function of the optimizer step if it changes at `steps`.
        batch_size: items per process and batch.
        seed: of the permutations.
        start: number of the first batch.
        rank, world: this process and the number of processes.
        steps: optimizer steps at which the number of items may change, 0 excepted.
        accumulate: batches per optimizer step.
    """

    def __init__(
        self,
        size: int | Callable[[int], int],
        *,
        batch_size: int | Stages,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        steps: Sequence[int] = (),
        accumulate: int = 1,
    ) -> None:
        self.seed, self.start, self.rank, self.world = seed, start, rank, world
        sizes = batch_size if isinstance(batch_size, Stages) else Stages(batch_size)
        self.stages: list[_Stage] = []
        for step in sorted({*sizes.steps, *steps, 0}):
            items, local = size(step) if callable(size) else size, sizes.at(step)
            if items < local * world:
                raise ValueError(
                    f"batch_size={local} on {world} device(s) needs {local * world} items, but the training split has "
                    f"{items}. Lower batch_size or use more data."
                )
            per_epoch = items // (local * world)
            self.stages.append(_Stage(first=step * accumulate, step=step, size=items, local=local, per_epoch=per_epoch))

    def stage(self, number: int) -> int:
        """Index of the stage that batch `number` belongs to."""
        return sum(stage.first <= number for stage in self.stages) - 1

    def items(self, number: int) -> list[tuple[int, int]]:
        """For every stage: its step, and how many items of it all processes saw before batch `number`."""
        ends = [*(stage.first for stage in self.stages[1:]), number]
        return [
            (s.step, max(0, min(end, number) - s.first) * s.local * self.world)
            for s, end in zip(self.stages, ends, strict=True)
        ]

    def numbered(self) -> Iterator[tuple[int, _Stage, list[int]]]:
        """Number of a batch, its stage, and its indices."""
        number, current, order = self.start, (-1, -1), torch.empty(0)
        while True:
            index = self.stage(number)
            stage = self.stages[index]
            epoch, place = divmod(number - stage.first, stage.per_epoch)
            if (index, epoch) != current:
                current = (index, epoch)
                names = (epoch,) if index == 0 else (index, epoch)  # the first as before there were stages
                order = torch.randperm(stage.size, generator=derive_generator(self.seed, "order", *names))
            first = place * stage.local * self.world + self.rank * stage.local
            yield number, stage, order[first : first + stage.local].tolist()
            number += 1

    def __iter__(self) -> Iterator[list[int]]:
        return (indices for _, _, indices in self.numbered())


class WindowOrder(Sampler[list[Window]]):
    """The windows of `clips` for the batches of `order`. Random starts are a function of the seed and the number."""

    def __init__(self, clips: Clips, order: BatchOrder) -> None:
        self.clips, self.order = clips, order

    def __iter__(self) -> Iterator[list[Window]]:
        for number, stage, indices in self.order.numbered():
            length = self.clips.length.at(stage.step)
            episodes, starts = self.clips.table(length)[indices].unbind(1)
            if self.clips.random_start:
                room = self.clips.lengths[episodes] - self.clips.span(length) + 1
                starts = (self.draws(number, stage) * room).long()
            yield [(episode, start, length) for episode, start in zip(episodes.tolist(), starts.tolist(), strict=True)]

    def draws(self, number: int, stage: _Stage) -> Tensor:
        """(B,) float64 uniform in [0, 1): this process's share of what batch `number` draws."""
        order = self.order
        generator = derive_generator(order.seed, "start", number)
        draws = torch.rand(stage.local * order.world, generator=generator, dtype=torch.float64)
        return draws[order.rank * stage.local : (order.rank + 1) * stage.local]


def _seed_worker(worker: int) -> None:
    torch.manual_seed(derive_seed(torch.initial_seed() % 2**31, "worker", worker))


def _identity(batch: Any) -> Any:
    return batch


class TrainLoader:
    """An endless iterable of unlabeled training batches (Scenes with uint8 images).

    Args:
        dataset: the training split.
        batch_size: items per process and batch; `Stages` of it change with the optimizer step.
        seed: of the order.
        start: number of the first batch (those before it were seen by an earlier part of the run).
        storage: "ram" or "device" keep the whole split as one tensor there (no workers, no collating);
            "workers" reads it with worker processes; "stream" renders fresh scenes for every batch (synthetic data
            only); "auto" takes "device" or "ram" if the split fits, else "workers".
        workers: processes for "workers".
        device: where "device" and "stream" put the scenes.
        rank, world: this process and the number of processes.
        accumulate: batches per optimizer step.
        keep: fields of ground truth that the model reads (its `hints`).

    Attributes:
        waited: seconds spent so far on waiting for batches.
    """

    def __init__(
        self,
        dataset: SceneDataset,
        *,
        batch_size: int | Stages,
        seed: int,
        start: int = 0,
        storage: str = "auto",
        workers: int = 2,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        keep: Sequence[str] = (),
    ) -> None:
        self.source = dataset.dataset if isinstance(dataset, Clips) else dataset
        if storage not in STORAGES:
            raise ValueError(f"storage={storage!r}; choose one of {', '.join(STORAGES)}")
        if storage == "stream" and not isinstance(self.source, SyntheticScenes):
            raise ValueError(
                f"storage='stream' renders scenes, but {dataset.spec.name!r} is read from files; use 'auto'"
            )
        self.dataset, self.seed, self.workers, self.device, self.keep = (
            dataset,
            seed,
            workers,
            torch.device(device),
            keep,
        )
        self.waited = 0.0
        clips = dataset if isinstance(dataset, Clips) else None
        self.order = BatchOrder(
            (lambda step: len(clips.table(clips.length.at(step)))) if clips else len(dataset),
            batch_size=batch_size,
            seed=seed,
            start=start,
            rank=rank,
            world=world,
            steps=clips.length.steps if clips else (),
            accumulate=accumulate,
        )
        self.windows = WindowOrder(clips, self.order) if clips else None
        size = self.order.stages[0].local
        bring = getattr(dataset, "order", None)  # a data set may bring batches of its own, such as ones with few pairs
        self.own = bring(batch_size=size, seed=seed, start=start, rank=rank, world=world) if bring else None
        self.storage = self._choose() if storage == "auto" else storage
        self._resident: Scene | None = None

    def start_at(self, number: int) -> None:
        """Let the next pass over this loader begin with batch `number`."""
        self.order.start = number

    def items_seen(self, number: int) -> int:
        """Items (images, or clips) that all processes saw before batch `number`."""
        return sum(count for _, count in self.order.items(number))

    def frames_seen(self, number: int) -> int:
        """Images that all processes saw before batch `number`: items times the frames of each."""
        if isinstance(self.dataset, Clips):
            return sum(count * self.dataset.length.at(step) for step, count in self.order.items(number))
        return self.items_seen(number) * (self.dataset.spec.frames or 1)

    def _choose(self) -> str:
        item = training_part(self.dataset.batch([0]), self.keep)
        need = len(self.dataset) * sum(
            t.nbytes for t in torch.utils._pytree.tree_leaves(item) if isinstance(t, torch.Tensor)
        )
        if isinstance(self.dataset, Clips):  # every frame, whatever the windows
            need = need * int(self.dataset.lengths.sum()) // (len(self.dataset) * self.dataset.length.values[-1])
        if self.device.type == "cuda" and need < RESIDENT_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            return "device"
        return "ram" if need < RESIDENT_SHARE * free_memory() else "workers"

    def __iter__(self) -> Iterator[Scene]:
        batches = self._batches()
        while True:
            begin = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - begin
            yield batch

    def _batches(self) -> Iterator[Scene]:
        if self.storage == "stream":
            return self._stream()
        if self.storage == "workers":
            return self._read()
        return self._select()

    def _stream(self) -> Iterator[Scene]:
        assert isinstance(self.source, SyntheticScenes)
        for number, stage, _ in self.order.numbered():
            mine = slice(self.order.rank * stage.local, (self.order.rank + 1) * stage.local)
            batch = self.source.stream(number, stage.local * self.order.world, self.device)[mine]
            if isinstance(self.dataset, Clips):
                assert self.windows is not None
                length = self.dataset.length.at(stage.step)
                room = int(self.dataset.lengths[0]) - self.dataset.span(length) + 1
                starts = (self.windows.draws(number, stage) * room * self.dataset.random_start).long()
                batch = cut(batch, starts, length, self.dataset.stride)
            yield training_part(batch, self.keep)

    def _select(self) -> Iterator[Scene]:
        device = self.device if self.storage == "device" else torch.device("cpu")
        if self._resident is None:
            self._resident = load_resident(self.dataset, device, keep=self.keep)
        if self.own is not None:
            for indices in self.own:
                yield self.dataset.pick(self._resident, indices)  # type: ignore[attr-defined]
        elif self.windows is None:
            for indices in self.order:
                yield self._resident[torch.tensor(indices, device=device)]
        else:
            clips = self.windows.clips
            for windows in self.windows:
                episodes, starts, _ = torch.tensor(windows).unbind(1)
                yield self._resident[clips.rows(episodes, starts, windows[0][2]).to(device)]  # (B, T, ...)

    def _read(self) -> Iterator[Scene]:
        loader = DataLoader(
            self.dataset,
            batch_sampler=self.windows or self.order,
            collate_fn=_identity,
            num_workers=self.workers,
            worker_init_fn=_seed_worker,
            generator=derive_generator(self.seed, "workers", self.order.rank),
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.workers > 0,
        )
        for batch in loader:
            yield training_part(batch, self.keep)


class EvalLoader:
    """The first `images` scenes of a split with their ground truth; process `rank` takes every `world`-th of them."""

    def __init__(
        self, dataset: SceneDataset, *, batch_size: int, images: int | None = None, rank: int = 0, world: int = 1
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.images = len(dataset) if images is None else min(images, len(dataset))
        self.indices = range(rank, self.images, world)

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Scene]:
        for first in range(0, len(self.indices), self.batch_size):
            yield self.dataset.batch(list(self.indices[first : first + self.batch_size]))


def free_memory() -> int:
    """Bytes of main memory that can still be taken."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        return 4 * 2**30
