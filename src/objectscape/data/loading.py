"""From a data set to training batches: in an order that depends on the seed and the step alone.

Batch number s of a run is a pure function of (data, seed, s), whatever the number of processes, workers or restarts.
So a run that was killed continues with exactly the batches it would have seen.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from objectscape.data.dataset import SceneDataset
from objectscape.data.synthetic.base import SyntheticScenes
from objectscape.scene import Scene
from objectscape.seeding import derive_generator, derive_seed

log = logging.getLogger(__name__)

STORAGES = ("auto", "ram", "device", "workers", "stream")
RESIDENT_SHARE = 0.4  # of the free memory that "auto" lets a resident data set take


def load_resident(dataset: SceneDataset, device: torch.device | str = "cpu", *, piece: int = 1024) -> Scene:
    """The unlabeled part of a whole split as one batch of uint8 images on `device`."""
    if isinstance(dataset, SyntheticScenes):
        return dataset.all(device).inputs()
    pieces = [range(start, min(start + piece, len(dataset))) for start in range(0, len(dataset), piece)]
    return Scene.cat([dataset.batch(list(indices)).inputs().to(device) for indices in pieces])


class BatchOrder(Sampler[list[int]]):
    """Index lists for the batches from number `start` on, for ever; process `rank` of `world` gets its share of each.

    Every epoch is a fresh permutation; its last incomplete batch is left out.
    """

    def __init__(self, size: int, *, batch_size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        self.size, self.local, self.seed, self.start, self.rank = size, batch_size, seed, start, rank
        self.per_epoch = size // (batch_size * world)
        self.world = world
        if self.per_epoch < 1:
            raise ValueError(
                f"batch_size={batch_size} on {world} device(s) needs {batch_size * world} scenes, but the training "
                f"split has {size}. Lower batch_size or use more data."
            )

    def __iter__(self) -> Iterator[list[int]]:
        number, epoch, order = self.start, -1, torch.empty(0)
        while True:
            if number // self.per_epoch != epoch:
                epoch = number // self.per_epoch
                order = torch.randperm(self.size, generator=derive_generator(self.seed, "order", epoch))
            first = (number % self.per_epoch) * self.local * self.world + self.rank * self.local
            yield order[first : first + self.local].tolist()
            number += 1


def _seed_worker(worker: int) -> None:
    torch.manual_seed(derive_seed(torch.initial_seed() % 2**31, "worker", worker))


def _identity(batch: Any) -> Any:
    return batch


class TrainLoader:
    """An endless iterable of unlabeled training batches (Scenes with uint8 images).

    Args:
        dataset: the training split.
        batch_size: scenes per process and batch.
        seed: of the order.
        start: number of the first batch (those before it were seen by an earlier part of the run).
        storage: "ram" or "device" keep the whole split as one tensor there (no workers, no collating);
            "workers" reads it with worker processes; "stream" renders fresh scenes for every batch (synthetic data
            only); "auto" takes "device" or "ram" if the split fits, else "workers".
        workers: processes for "workers".
        device: where "device" and "stream" put the scenes.
        rank, world: this process and the number of processes.

    Attributes:
        waited: seconds spent so far on waiting for batches.
    """

    def __init__(
        self,
        dataset: SceneDataset,
        *,
        batch_size: int,
        seed: int,
        start: int = 0,
        storage: str = "auto",
        workers: int = 2,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if storage not in STORAGES:
            raise ValueError(f"storage={storage!r}; choose one of {', '.join(STORAGES)}")
        if storage == "stream" and not isinstance(dataset, SyntheticScenes):
            raise ValueError(
                f"storage='stream' renders scenes, but {dataset.spec.name!r} is read from files; use 'auto'"
            )
        self.dataset, self.batch_size, self.seed, self.start = dataset, batch_size, seed, start
        self.workers, self.device, self.rank, self.world = workers, torch.device(device), rank, world
        self.waited = 0.0
        self.order = BatchOrder(len(dataset), batch_size=batch_size, seed=seed, start=start, rank=rank, world=world)
        self.storage = self._choose() if storage == "auto" else storage
        self._resident: Scene | None = None

    def _choose(self) -> str:
        item = self.dataset.batch([0]).inputs()
        need = len(self.dataset) * sum(
            t.nbytes for t in torch.utils._pytree.tree_leaves(item) if isinstance(t, torch.Tensor)
        )
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
        assert isinstance(self.dataset, SyntheticScenes)
        number, total = self.start, self.batch_size * self.world
        mine = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        while True:
            yield self.dataset.stream(number, total, self.device)[mine].inputs()
            number += 1

    def _select(self) -> Iterator[Scene]:
        device = self.device if self.storage == "device" else torch.device("cpu")
        if self._resident is None:
            self._resident = load_resident(self.dataset, device)
        for indices in self.order:
            yield self._resident[torch.tensor(indices, device=device)]

    def _read(self) -> Iterator[Scene]:
        loader = DataLoader(
            self.dataset,
            batch_sampler=self.order,
            collate_fn=_identity,
            num_workers=self.workers,
            worker_init_fn=_seed_worker,
            generator=derive_generator(self.seed, "workers", self.rank),
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.workers > 0,
        )
        for batch in loader:
            yield batch.inputs()


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
