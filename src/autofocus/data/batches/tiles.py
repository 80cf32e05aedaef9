"""The tiles that an image is cut into, and the objects in each.

A grid of cols x rows covers the image; neighbours share `overlap_frac` of a tile's side. With n
tiles in a row and overlap o, a tile is 1 / (o + (1 - o) n) of the image wide: 0.4 for 3 tiles and
o = 0.25. The network sees the whole image too, so objects larger than a tile are not lost.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import JobError
from autofocus.manifest import Tiling
from autofocus.settings.fields import read_tile_grid
from autofocus.structures.frames import Frame, Region
from autofocus.structures.polygons import outline_box
from autofocus.structures.predictions import Polygon
from autofocus.structures.ring_clipping import clip_rings, ring_area
from autofocus.structures.targets import BoxTarget, OutlineTarget

WHOLE: Final[Region] = (0.0, 0.0, 1.0, 1.0)
AUTO: Final = "auto"
DEFAULT_OVERLAP: Final = 0.25

# `auto` looks for tiles in which the median object is this share of the longer side: 16 pixels of
# 512, where detectors begin to be sure of what they see.
MIN_OBJECT_FRAC: Final = 0.03
# Each tile is one more run of the network; `auto` does not go beyond this many.
MAX_AUTO_TILES: Final = 12

# An object hardly visible in a tile is neither to be found nor wrong to find: less than this share
# of the object, which is also less than that share of the tile.
MIN_VISIBLE_FRAC: Final = 0.3
MIN_COVERED_FRAC: Final = 0.05

TargetT = TypeVar("TargetT", bound=BoxTarget)


def auto_grid(
    targets: Sequence[BoxTarget], overlap_frac: float = DEFAULT_OVERLAP
) -> tuple[int, int] | None:
    """Return the coarsest grid in which objects are large enough to be found.

    An object's size is the root of its box's area, measured by the longer side of what the network
    sees. The grid is the first, by number of tiles, whose median object reaches
    `MIN_OBJECT_FRAC`; where none does, the one that comes nearest.

    Args:
        targets: Targets of the training images, with their sizes.
        overlap_frac: Share of a tile that its neighbour shows too.

    Returns:
        (cols, rows), or None where whole images will do.
    """
    sides, sizes = _object_sides(targets)
    if len(sides) == 0:
        return None
    counts = range(1, MAX_AUTO_TILES + 1)
    grids = [(cols, rows) for cols in counts for rows in counts if cols * rows <= MAX_AUTO_TILES]
    reached = {grid: _median_frac(sides, sizes, grid, overlap_frac) for grid in grids}
    enough = [grid for grid in grids if reached[grid] >= MIN_OBJECT_FRAC]
    if not enough:
        return max(grids, key=lambda grid: reached[grid])
    cols, rows = min(enough, key=lambda grid: (grid[0] * grid[1], -reached[grid]))
    return None if cols * rows == 1 else (cols, rows)


def tiling_of(text: str, overlap_frac: float, targets: Sequence[BoxTarget]) -> Tiling | None:
    """Return the tiling of `tile_grid_size` and `tile_overlap_ratio`; None for whole images.

    Args:
        text: `auto`, or tiles across x tiles down such as `3x2`.
        overlap_frac: Share of a tile that its neighbour shows too.
        targets: Targets of the training images, with their sizes.

    Raises:
        JobError: If the overlap is not allowed.
    """
    if not 0 <= overlap_frac < 1:
        raise JobError(
            f"tile_overlap_ratio must be at least 0 and less than 1, got {overlap_frac}. "
            "It is the share of a tile that its neighbour shows too; 0.25 is the default."
        )
    grid = auto_grid(targets, overlap_frac) if text == AUTO else read_tile_grid(text)
    return None if grid is None else Tiling(*grid, overlap_frac)


def tile_regions(tiling: Tiling) -> list[Region]:
    """Return the tiles of an image, row by row."""
    columns = _intervals(tiling.cols, tiling.overlap_frac)
    rows = _intervals(tiling.rows, tiling.overlap_frac)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def evaluation_entries(num_images: int, tiling: Tiling) -> list[tuple[int, Region]]:
    """Return (position of the image, region) of all inputs made of n images, in order."""
    regions = [WHOLE, *tile_regions(tiling)]
    return [(index, region) for index in range(num_images) for region in regions]


def pixel_region(region: Region, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the whole pixels (left, top, right, bottom) that a region touches.

    Args:
        region: Region in fractions of the image.
        size: (height, width) of the image, in pixels.
    """
    height, width = size
    left, top, right, bottom = region
    return floor(left * width), floor(top * height), ceil(right * width), ceil(bottom * height)


def frame_in_image(
    canvas: Frame, pixels: tuple[int, int, int, int], size: tuple[int, int]
) -> Frame:
    """Return a canvas's frame in an image, given its frame in a part of it.

    Args:
        canvas: Within the part.
        pixels: (left, top, right, bottom) of the part.
        size: (height, width) of the image.
    """
    height, width = size
    left, top, right, bottom = pixels
    span, start = np.array([right - left, bottom - top] * 2), np.array([left, top] * 2)
    placed = (np.array(canvas.region) * span + start) / ([width, height] * 2)
    first, second, third, fourth = placed.tolist()
    return Frame(size, (first, second, third, fourth))


def tile_targets(targets: Sequence[TargetT], tiling: Tiling) -> list[tuple[int, Region, TargetT]]:
    """Return every image, whole and as the tiles that show any of its objects.

    Args:
        targets: One an image.
        tiling: The grid.

    Returns:
        (position of the image, region, target) an entry; the target is in fractions of the region
        and has its size. Tiles without objects are left out: the whole image shows them.
    """
    regions = tile_regions(tiling)
    entries: list[tuple[int, Region, TargetT]] = []
    for index, target in enumerate(targets):
        entries.append((index, WHOLE, target))
        for region in regions:
            part = crop_target(target, region)
            if len(part):
                entries.append((index, region, part))
    return entries


def crop_target(target: TargetT, region: Region) -> TargetT:
    """Return the parts of objects that lie in a region, in fractions of it.

    An object of which hardly anything is left becomes a crowd: neither to be found nor wrong to
    find.
    """
    height, width = target.size
    left, top, right, bottom = region
    boxes = _placed(target.xyxy_frac.reshape(-1, 2, 2), region).reshape(-1, 4)
    visible = boxes.clip(0, 1)
    visible_frac = _shares(_areas(visible), _areas(boxes))
    parts: list[Polygon] = []
    if isinstance(target, OutlineTarget):
        outlines = [tuple(_placed(ring, region) for ring in rings) for rings in target.polygons]
        parts = [clip_rings(rings) for rings in outlines]
        # A crowd may come without an outline; its box says where it is.
        for i in (i for i, rings in enumerate(outlines) if rings):
            visible[i] = outline_box(parts[i]) if parts[i] else 0
            visible_frac[i] = _shares(ring_area(parts[i]), ring_area(outlines[i]))
    there = np.flatnonzero((visible_frac > 0) & (_areas(visible) > 0))
    hardly = (visible_frac < MIN_VISIBLE_FRAC) & (_areas(visible) < MIN_COVERED_FRAC)
    changes: dict[str, Any] = {
        "xyxy_frac": visible[there],
        "classes": target.classes[there],
        "is_crowd": (target.is_crowd | hardly)[there],
        "size": (max(1, round(height * (bottom - top))), max(1, round(width * (right - left)))),
    }
    if isinstance(target, OutlineTarget):
        changes["polygons"] = tuple(parts[i] for i in there)
    return replace(target, **changes)


def _placed(points: NDArray[np.floating], region: Region) -> NDArray[np.float32]:
    """Map points [..., 2] from fractions of the image to fractions of a region."""
    left, top, right, bottom = region
    return np.asarray((points - (left, top)) / (right - left, bottom - top), np.float32)


def _areas(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1]))


def _shares(part: Any, whole: Any) -> NDArray[np.float64]:
    """Return part / whole; 0 of nothing."""
    return np.asarray(np.where(np.asarray(whole) > 0, part / np.maximum(whole, 1e-12), 0))


def _intervals(number: int, overlap_frac: float) -> list[tuple[float, float]]:
    """Return the begin and the end of each of `number` tiles in a row."""
    side = _tile_side(number, overlap_frac)
    starts = [i * side * (1 - overlap_frac) for i in range(number)]
    # The last ends at the image's edge exactly, whatever the sums are rounded to.
    return [(start, 1.0 if i == number - 1 else start + side) for i, start in enumerate(starts)]


def _tile_side(number: int, overlap_frac: float) -> float:
    return 1 / (overlap_frac + (1 - overlap_frac) * number)


def _object_sides(
    targets: Sequence[BoxTarget],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each object's size in pixels, [m], and its image's (height, width), [m, 2]."""
    sides: list[NDArray[np.float64]] = []
    sizes: list[NDArray[np.float64]] = []
    for target in targets:
        # Rows may not state a size; then the image counts as square.
        height, width = target.size if all(target.size) else (1, 1)
        areas = _areas(target.xyxy_frac[~target.is_crowd]).astype(np.float64)
        sides.append(np.sqrt(areas.clip(0) * height * width))
        sizes.append(np.tile([float(height), float(width)], (len(areas), 1)))
    return np.concatenate([np.empty(0), *sides]), np.concatenate([np.empty((0, 2)), *sizes])


def _median_frac(
    sides: NDArray[np.float64], sizes: NDArray[np.float64], grid: tuple[int, int], overlap: float
) -> float:
    """Return the median object's share of the longer side of a tile."""
    cols, rows = grid
    tiles = sizes * (_tile_side(rows, overlap), _tile_side(cols, overlap))
    return float(np.median(sides / tiles.max(axis=1)))
