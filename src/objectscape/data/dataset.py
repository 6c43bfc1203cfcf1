"""What every data set is: a map-style `torch.utils.data.Dataset` of Scenes that says what it holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch.utils.data import Dataset

from objectscape.names import SPLITS as SPLITS
from objectscape.scene import Scene, Spec


class SceneDataset(Dataset[Scene], ABC):
    """One split of a data set. `dataset[i]` is one item (no batch axis); `dataset.batch(indices)` a batch.

    Subclasses set `spec` and `split` and implement `__len__` and `batch`.
    """

    spec: Spec
    split: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Scene:
        """The scenes at `indices`, in that order, on the CPU, `image` uint8."""

    def learning(self) -> SceneDataset | None:
        """The training split with everything that is known of its rows, for probes; None if there is none to be had."""
        return None

    def __getitem__(self, index: int) -> Scene:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.spec.name} ({self.split}) has {len(self)} scenes; there is no scene {index}")
        return self.batch([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> Scene:
        """The batch fetch hook of `torch.utils.data.DataLoader` (its `collate_fn` must then be the identity)."""
        return self.batch(indices)
