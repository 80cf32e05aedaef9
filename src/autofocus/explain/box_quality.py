"""Is the map of a box any good? Insertion and deletion as in `quality`, without torch.

What is followed is how well the box is found, as D-RISE measures it: the largest product of a
candidate's overlap with the box and its score, among candidates of the box's class.
"""

import numpy as np
from numpy.typing import NDArray

from autofocus.explain.d_rise import Detect, FoundBoxes, resemblance
from autofocus.explain.saliency_maps import (
    NUM_STEPS,
    SaliencyMap,
    area_under,
    blurred,
    step_of_pixels,
)
from autofocus.structures.frames import Frame


def box_insertion_deletion(
    detect: Detect,
    canvas: NDArray[np.float32],
    frame: Frame,
    box: FoundBoxes,
    saliency: SaliencyMap,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the areas under the insertion and the deletion curve of one box, each in [0, 1].

    Args:
        detect: The network.
        canvas: Its input, float32 [3, h, w].
        frame: Where the canvas lies in the image.
        box: One.
        saliency: [h', w'], of the canvas' part that is image, from the upper left; pixels of equal
            value are ordered at random.
        seed: Decides the order of equal values.
    """
    height, width = saliency.shape
    # Padding is mean colour in any case.
    steps = np.zeros(canvas.shape[1:], np.int64)
    steps[:height, :width] = step_of_pixels(saliency, NUM_STEPS, seed)
    faded = np.zeros_like(canvas)
    faded[:, :height, :width] = blurred(canvas[:, :height, :width])
    areas = []
    for before, after in ((faded, canvas), (canvas, np.zeros_like(canvas))):
        # One image at a time: what a network answers about one is large enough.
        curve = [
            resemblance(detect(np.where(steps < step, after, before)[None]), frame, box)[0, 0]
            for step in range(NUM_STEPS + 1)
        ]
        areas.append(area_under(np.array(curve)))
    return areas[0], areas[1]
