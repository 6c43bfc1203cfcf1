"""Where something moves in the frames of a game or film: backgrounds, motion maps and the boxes of moving regions.

Everything is made from pixels, none of it from labels. The steps and constants are those that SPACE-Time published
(Delfosse et al. 2023, arXiv:2211.09771, and the code that comes with it): the distance of a frame to a background image
(the most frequent or the median color of each pixel), or optical flow; a threshold at the mean of the map; a closing;
the boxes of the regions that remain; a filter that prefers rare colors.

Frames are (T, H, W, 3) uint8 RGB arrays; boxes are (M, 4) x y w h in pixels inside this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from objectscape.names import unknown

KINDS = ("mode", "median", "flow")
BACKGROUNDS = ("root", "trail")
COMMON_COLOR = 1e-4  # what one pixel of the most frequent colors costs
KEPT_SCORE = 0.01  # a box whose pixels score less shows background
SMALLEST = (8, 9)  # width and height in pixels below which a box is not cut
EIGHT = np.ones((3, 3), bool)


# ---------------------------------------------------------------------------------------------------- backgrounds
def mode_image(frames: np.ndarray) -> np.ndarray:
    """(H, W, 3) the most frequent value of each pixel and channel over (T, H, W, 3) frames (ties: the lowest)."""
    flat = frames.reshape(len(frames), -1)
    result = np.empty(flat.shape[1], np.uint8)
    for start in range(0, flat.shape[1], 8192):  # bounds the memory of the counts
        block = flat[:, start : start + 8192]
        width = block.shape[1]
        index = block.astype(np.int64) + 256 * np.arange(width)
        result[start : start + width] = np.bincount(index.ravel(), minlength=256 * width).reshape(width, 256).argmax(1)
    return result.reshape(frames.shape[1:])


def median_image(frames: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 the median of each pixel and channel; the mean of the two middle values of an even number."""
    flat = frames.reshape(len(frames), -1)
    parts = [np.median(flat[:, start : start + 8192], axis=0) for start in range(0, flat.shape[1], 8192)]
    return np.concatenate(parts).astype(np.float32).reshape(frames.shape[1:])


def trail_mode_image(frames: np.ndarray) -> np.ndarray:
    """(H, W, 3) the most frequent color of each pixel over a few frames (ties: the lowest R, then G, then B)."""
    codes = np.sort(_pack(frames), axis=0)
    counts = np.zeros(codes.shape, np.int32)
    for shift in range(len(codes)):
        counts += codes == codes[shift]
    best = np.take_along_axis(codes, counts.argmax(0)[None], 0)[0]  # sorted: the first maximum is the lowest color
    return np.stack([best >> 16, best >> 8 & 255, best & 255], -1).astype(np.uint8)


def agreement(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1]: the share of the frames whose pixel has exactly the background's color."""
    count = np.zeros(background.shape[:2])
    for frame in frames:
        count += (frame == background).all(-1)
    return count / len(frames)


def _pack(frames: np.ndarray) -> np.ndarray:
    channels = frames.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]


# ----------------------------------------------------------------------------------------------------------- maps
def difference(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(T, H, W) float32 in [0, 1]: the largest difference over the channels, divided by its maximum in the frame."""
    channels = np.abs(frames.astype(np.float32) - background.astype(np.float32))
    # ten times faster than the maximum over a last axis of three
    distance = np.maximum(np.maximum(channels[..., 0], channels[..., 1]), channels[..., 2])
    peak = distance.max((-2, -1), keepdims=True)
    return distance / np.where(peak > 0, peak, 1)


def flow(frames: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """(T, H, W) float32 in [0, 1]: squared length of the optical flow (Farneback) to the frame before.

    Args:
        frames: (T, H, W, 3).
        previous: (T, H, W, 3), what each frame is compared with.

    Raises:
        ModuleNotFoundError: without OpenCV.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "optical flow needs OpenCV: pip install 'objectscape[flow]', or use motion.kind=mode"
        ) from error
    maps = []
    for frame, before in zip(frames, previous, strict=True):
        # the published code takes RGB for BGR when it makes the frames gray
        now, then = (cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY) for image in (frame, before))
        field_ = cv2.calcOpticalFlowFarneback(now, then, None, 0.6, 5, 15, 30, 5, 1.5, 0)
        length = (field_**2).sum(-1)
        maps.append(length / length.max() if length.max() > 0 else length)
    return np.stack(maps).astype(np.float32)


def stack_mask(maps: np.ndarray) -> np.ndarray:
    """(T, H, W) bool: what counts as moving in the maps of one stack, more than a tenth of their mean."""
    return maps > 0.1 * maps.mean()


# ---------------------------------------------------------------------------------------------------------- boxes
def closed(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: gaps of one pixel closed (a square of 3 x 3); the border counts as background."""
    grown = ndimage.binary_dilation(mask, EIGHT)
    return ndimage.binary_erosion(grown, EIGHT, border_value=1)


def region_boxes(mask: np.ndarray, *, holes: bool = False) -> np.ndarray:
    """(M, 4) x y w h of the 8-connected regions of an (H, W) mask.

    Args:
        mask: bool.
        holes: also the boxes of holes, one pixel larger on each side, as OpenCV's contours of all levels give them.
    """
    labels, count = ndimage.label(mask, EIGHT)
    slices = ndimage.find_objects(labels)
    boxes = [(s[1].start, s[0].start, s[1].stop - s[1].start, s[0].stop - s[0].start) for s in slices]
    if holes and count:
        outside, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
        for number, s in enumerate(ndimage.find_objects(outside), 1):
            if number != outside[0, 0]:  # padding and the enlargement by one pixel cancel
                boxes.append((s[1].start - 2, s[0].start - 2, s[1].stop - s[1].start + 2, s[0].stop - s[0].start + 2))
    return np.array(boxes[::-1], np.int64).reshape(-1, 4)  # from the bottom up, as OpenCV gives contours


def changed_boxes(boxes: np.ndarray, mask: np.ndarray, changed: np.ndarray, share: float) -> np.ndarray:
    """Those of the (M, 4) boxes in which at least `share` of the moving pixels changed between neighboring frames."""
    moving, both = _integral(mask), _integral(mask & changed)
    return boxes[_sums(both, boxes) >= share * np.maximum(_sums(moving, boxes), 1)]


@dataclass(frozen=True, kw_only=True)
class ColorFilter:
    """Cuts boxes to where the colors are rare in the background image, and drops boxes of frequent colors.

    A pixel scores 1 / (number of background pixels of its color) - 1e-4, a box the sum of its pixels.
    """

    codes: np.ndarray
    """(n,) sorted color codes r + 255 g + 65025 b, as published; they are not unique."""
    worth: np.ndarray
    """(n,) score of a pixel of each."""

    @classmethod
    def of(cls, background: np.ndarray, counts: Mapping[tuple[int, int, int], int] | None = None) -> ColorFilter:
        """From a background image; `counts` replaces the number of pixels of some colors {(r, g, b): count}."""
        codes, number = np.unique(_code(background), return_counts=True)
        known = dict(zip(codes.tolist(), number.tolist(), strict=True))
        for color, count in (counts or {}).items():
            known[int(_code(np.array(color)))] = count
        ordered = sorted(known)
        worth = 1 / np.array([known[code] for code in ordered], np.float64) - COMMON_COLOR
        return cls(codes=np.array(ordered), worth=worth)

    def __call__(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The (M', 4) boxes x y w h that are kept, cut, in the same order."""
        code = _code(frame)
        place = np.searchsorted(self.codes, code).clip(max=len(self.codes) - 1)
        worth = np.where(self.codes[place] == code, self.worth[place], 1 - COMMON_COLOR)
        integral = _integral(worth)
        cut = [self._cut(integral, *box) for box in boxes.tolist()]
        return np.array([box for box in cut if box is not None], np.int64).reshape(-1, 4)

    @staticmethod
    def _cut(integral: np.ndarray, x: int, y: int, w: int, h: int) -> tuple[int, int, int, int] | None:
        def score(x: int, y: int, w: int, h: int) -> float:
            if w < 1 or h < 1:
                return 0.0
            return float(integral[y + h, x + w] - integral[y, x + w] - integral[y + h, x] + integral[y, x])

        best, columns, rows = score(x, y, w, h), w // 5 + 1, h // 5 + 1
        for left in (True, False):
            while w > SMALLEST[0]:
                trial = (x + columns if left else x, y, w - columns, h)
                if (found := score(*trial)) <= best:
                    break
                best, (x, y, w, h) = found, trial
        for top in (True, False):
            while h > SMALLEST[1]:
                trial = (x, y + rows if top else y, w, h - rows)
                if (found := score(*trial)) <= best:
                    break
                best, (x, y, w, h) = found, trial
        return (x, y, w, h) if best >= KEPT_SCORE else None


def _code(image: np.ndarray) -> np.ndarray:
    return image[..., 0] + np.int64(255) * image[..., 1] + np.int64(65025) * image[..., 2]


def _integral(values: np.ndarray) -> np.ndarray:
    """(H + 1, W + 1) sums of everything above and left."""
    result = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    result[1:, 1:] = values.cumsum(0).cumsum(1)
    return result


def _sums(integral: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    x, y, w, h = boxes.T
    return integral[y + h, x + w] - integral[y, x + w] - integral[y + h, x] + integral[y, x]


# -------------------------------------------------------------------------------------------------------- together
@dataclass(frozen=True, kw_only=True)
class Motion:
    """How motion is taken from the frames of a stack: `Motion()(frames, background)`.

    The defaults are ours: no closing and no filter, which keeps objects of one or two pixels apart. The published
    procedure is `Motion(closing=True, holes=True, color_filter=True)`.

    Args:
        kind: "mode" or "median": distance to a background image; "flow": optical flow to the frame before.
        background: "root": one image for all the data; "trail": one per stack, from the earlier frames of the clip.
        closing: close gaps of one pixel before regions are sought.
        holes: the boxes of holes count too.
        color_filter: cut and drop boxes by the rarity of their colors, see `ColorFilter`.
        counts: numbers of background pixels that the color filter assumes for some colors {"r,g,b": count}.
        changed: drop boxes in which less than this share of the moving pixels changed between neighboring frames. It
            removes what the background image still shows but the game no longer does, such as eaten pills.
        smallest: pixels of a region below which it is dropped.

    Raises:
        ValueError: for an unknown kind or background.
    """

    kind: str = "mode"
    background: str = "root"
    closing: bool = False
    holes: bool = False
    color_filter: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    changed: float = 0.0
    smallest: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(unknown("kind of motion", self.kind, KINDS))
        if self.background not in BACKGROUNDS:
            raise ValueError(unknown("background", self.background, BACKGROUNDS))

    @property
    def needs_root(self) -> bool:
        """Whether one background image of all the data is needed."""
        return self.color_filter or (self.kind != "flow" and self.background == "root")

    def root(self, frames: np.ndarray) -> np.ndarray:
        """The background image (H, W, 3) of many frames of a data set."""
        return median_image(frames) if self.kind == "median" else mode_image(frames)

    def __call__(
        self, frames: np.ndarray, root: np.ndarray | None = None, *, earlier: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The motion of consecutive frames.

        Args:
            frames: (T, H, W, 3).
            root: (H, W, 3) background image, where `needs_root`.
            earlier: (T', H, W, 3) the frames of the clip before them, for the background "trail".

        Returns:
            maps (T, H, W) float32 in [0, 1], and T arrays (M, 4) of boxes x y w h.

        Raises:
            ValueError: if `root` or `earlier` is missing.
        """
        if self.needs_root and root is None:
            raise ValueError(f"motion of kind {self.kind!r} needs a background image.")
        if self.kind == "flow":
            before = frames[:1] if earlier is None or not len(earlier) else earlier[-1:]
            maps = flow(frames, np.concatenate([before, frames[:-1]]))
        elif self.background == "trail":
            if earlier is None or not len(earlier):
                raise ValueError(
                    "background='trail' needs clips with more frames than are read: record with frames=30, read 4."
                )
            maps = difference(frames, median_image(earlier) if self.kind == "median" else trail_mode_image(earlier))
        else:
            assert root is not None
            maps = difference(frames, root)
        return maps, self.boxes(frames, maps, root)

    def boxes(self, frames: np.ndarray, maps: np.ndarray, root: np.ndarray | None) -> list[np.ndarray]:
        """T arrays (M, 4) x y w h of the regions of (T, H, W) motion maps."""
        counts = {tuple(int(part) for part in key.split(",")): count for key, count in self.counts.items()}
        colors = ColorFilter.of(root, counts) if self.color_filter and root is not None else None  # type: ignore[arg-type]
        neighbors = _neighbor_changes(frames) if self.changed and len(frames) > 1 else None
        result = []
        for index, (frame, values) in enumerate(zip(frames, maps, strict=True)):
            mask = values > values.mean()
            mask = closed(mask) if self.closing else mask
            boxes = region_boxes(mask, holes=self.holes)
            if self.smallest > 1:
                boxes = boxes[_sums(_integral(mask), boxes) >= self.smallest]
            if neighbors is not None:
                boxes = changed_boxes(boxes, mask, neighbors[index], self.changed)
            result.append(colors(frame, boxes) if colors is not None else boxes)
        return result


def _neighbor_changes(frames: np.ndarray) -> np.ndarray:
    """(T, H, W) bool: pixels that differ from the frame before or after."""
    differs = (frames[1:] != frames[:-1]).any(-1)
    result = np.zeros(frames.shape[:3], bool)
    result[1:] |= differs
    result[:-1] |= differs
    return result


def grid_targets(boxes: np.ndarray, size: tuple[int, int], grid: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """What boxes ask of a grid of cells: the largest box whose center lies in a cell; of equal ones the first.

    Args:
        boxes: (M, 4) x y w h in pixels.
        size: (H, W) of the image.
        grid: cells per side, G.

    Returns:
        z_pres (G*G, 1) in {0, 1}, and z_where (G*G, 4): width and height in [0, 1], center x and y in [-1, 1].
    """
    height, width = size
    present, where = np.zeros((grid * grid, 1), np.float32), np.zeros((grid * grid, 4), np.float32)
    x, y, w, h = boxes.T
    w, h = np.minimum(width - x, w), np.minimum(height - y, h)
    row = ((y + h // 2) / (height / grid)).astype(np.int64).clip(0, grid - 1)
    column = ((x + w // 2) / (width / grid)).astype(np.int64).clip(0, grid - 1)
    order = np.argsort(-(w * h), kind="stable")[::-1]  # the largest is written last; of equal ones the first
    cell = (row * grid + column)[order]
    present[cell] = 1
    where[cell] = np.stack([w / width, h / height, 2 * (x + w / 2) / width - 1, 2 * (y + h / 2) / height - 1], 1)[order]
    return present, where


def pad_boxes(boxes: Sequence[np.ndarray], count: int) -> np.ndarray:
    """(T, count, 4) float32 x0 y0 x1 y1 of T arrays (M, 4) x y w h; the largest if there are more than `count`."""
    result = np.zeros((len(boxes), count, 4), np.float32)
    for index, found in enumerate(boxes):
        kept = found[np.sort(np.argsort(-found[:, 2] * found[:, 3], kind="stable")[:count])]
        result[index, : len(kept)] = np.concatenate([kept[:, :2], kept[:, :2] + kept[:, 2:]], 1)
    return result
