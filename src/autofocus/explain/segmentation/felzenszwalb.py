"""Felzenszwalb and Huttenlocher's graph segmentation at several scales, labels as scikit-image's.

Efficient Graph-Based Image Segmentation, IJCV 2004. Pixels are nodes, the eight neighbours edges,
the cost of an edge is the distance of its two colours after a slight blur. Edges join components
from the cheapest up, unless the cost exceeds what either component holds inside plus scale / size.

Blur, costs and the order of the edges do not depend on the scale: they are computed once. A
component's root is its first pixel, so labels come out in the order of first pixels, which is
scikit-image's. The order of edges of equal cost decides labels too: it is numpy's argsort there
and here.

Notation: h, w height and width in pixels; c channels; e edges.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autofocus.explain.compiled import compiled


def felzenszwalb(
    image: NDArray[np.floating], scales: Sequence[float], sigma: float, min_size: int
) -> NDArray[np.int32]:
    """Segment one image at every scale.

    Args:
        image: [h, w, c], any range of values; scales are relative to 255 times that range.
        scales: Larger values give larger segments.
        sigma: Standard deviation of the blur, in pixels.
        min_size: Pixels below which a segment is joined to a neighbour.

    Returns:
        Labels, int32 [len(scales), h, w], each scale counting from 0.
    """
    height, width = image.shape[:2]
    blurred = ndimage.gaussian_filter(
        image.astype(np.float64), (sigma, sigma, 0), mode="reflect", truncate=4.0
    )
    costs, ends = _edges(np.ascontiguousarray(blurred))
    order = np.argsort(costs)
    costs, ends = costs[order], ends[order]
    labels = np.empty((len(scales), height * width), np.int32)
    for scale, row in zip(scales, labels, strict=True):
        _segment(costs, ends, scale / 255.0, min_size, row)
    return labels.reshape(len(scales), height, width)


@compiled
def _edges(
    image: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return costs [e] and the two pixels of each edge [e, 2]: right, down, and both diagonals."""
    height, width, num_channels = image.shape
    num_edges = height * (width - 1) + (height - 1) * width + 2 * max(0, (height - 1) * (width - 1))
    costs = np.empty(num_edges, np.float64)
    ends = np.empty((num_edges, 2), np.int32)
    e = 0
    for direction in range(4):
        down = 0 if direction == 0 else 1
        right = 0 if direction == 1 else 1
        for y in range(height - down):
            for x in range(width - right):
                # The last direction runs from the upper right to the lower left.
                x0, x1 = (x + 1, x) if direction == 3 else (x, x + right)
                total = 0.0
                for channel in range(num_channels):
                    difference = image[y, x0, channel] - image[y + down, x1, channel]
                    total += difference * difference
                costs[e] = np.sqrt(total)
                ends[e, 0] = y * width + x0
                ends[e, 1] = (y + down) * width + x1
                e += 1
    return costs, ends


@compiled
def _root(parents: NDArray[np.int32], node: int) -> int:
    """Return the first pixel of the component of `node`, halving the path to it."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled
def _segment(
    costs: NDArray[np.float64],
    ends: NDArray[np.int32],
    scale: float,
    min_size: int,
    labels: NDArray[np.int32],
) -> None:
    """Write the labels [h * w] of one scale; costs [e] ascend and ends [e, 2] go with them."""
    num_pixels = len(labels)
    parents = np.arange(num_pixels).astype(np.int32)
    sizes = np.ones(num_pixels, np.int64)
    inner = np.zeros(num_pixels, np.float64)
    apart = np.empty(len(costs), np.int32)
    num_apart = 0
    for e in range(len(costs)):
        a, b = _root(parents, ends[e, 0]), _root(parents, ends[e, 1])
        if a == b:
            continue
        # scikit-image keeps these two limits in single precision.
        limit_a = np.float32(inner[a] + scale / sizes[a])
        limit_b = np.float32(inner[b] + scale / sizes[b])
        if costs[e] >= min(limit_a, limit_b):
            apart[num_apart] = e
            num_apart += 1
            continue
        first, second = min(a, b), max(a, b)
        parents[second] = first
        sizes[first] += sizes[second]
        inner[first] = costs[e]
    # Only edges that stayed between components can join small ones to their neighbours.
    for k in range(num_apart):
        e = apart[k]
        a, b = _root(parents, ends[e, 0]), _root(parents, ends[e, 1])
        if a != b and (sizes[a] < min_size or sizes[b] < min_size):
            first, second = min(a, b), max(a, b)
            parents[second] = first
            sizes[first] += sizes[second]
    num_labels = 0
    for node in range(num_pixels):
        root = _root(parents, node)
        if root == node:
            labels[node] = num_labels
            num_labels += 1
        else:
            labels[node] = labels[root]
