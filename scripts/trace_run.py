"""Train a tiny classifier and write down our frames at five points of the run.

`scripts/house` runs this in a process of its own, with the measured tree first on the path:
`python scripts/trace_run.py PACKAGE RESULT`. The points are found by what stays when modules move
or are renamed: other libraries' functions, and the names of records, batches and `best_model`.

record    A function of ours returns or yields an object of ours whose class ends in `Record`, or a
          list of such. The first time.
batch     The same for a class that ends in `Batch` and has `images`, where one is first handed on.
          The last batch before `step`.
step      A torch optimizer steps, after a batch was made. The first time.
onnx      `torch.onnx.export` is called. The first time.
publish   `best_model` appears, by a link or by renaming. The first time.

Only the main process is looked at. What other threads do (decode and draw images) is on no stack
here, for their stacks start anew; the batch is taken where it reaches the thread that trains.
"""

import json
import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

NUM_PHOTOS = 24
OPTIONS = (
    *("--task", "image_classification", "--device", "cpu", "--weights", "random"),
    *("--set", "limits.max_trials=1"),
    *("--set", "training_parameters.model_name=test_resnet"),
    *("--set", "training_parameters.validation_crop_size=32"),
    *("--set", "training_parameters.training_batch_size=8"),
    *("--set", "training_parameters.number_of_epochs=1"),
)


class Trace:
    """The stacks at the points, as they are reached.

    Args:
        package: Folder of the package; its files and classes are ours.

    Attributes:
        points: What was found at each point that was reached: `frames`, the number of our frames;
            `files` and `classes`, the names of those on the stack.
    """

    def __init__(self, package: Path) -> None:
        self.points: dict[str, dict[str, Any]] = {}
        self._folder = f"{package}{os.sep}"
        self._prefix = f"{package.name}."
        self._batch: Any = None

    def start(self) -> None:
        """Look for the points from here on, in this thread."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        export = torch.onnx.export

        def traced_export(*arguments: Any, **options: Any) -> Any:
            self._reach("onnx")
            return export(*arguments, **options)

        torch.onnx.export = traced_export
        register_optimizer_step_pre_hook(lambda *_: self._step())
        sys.addaudithook(self._audit)
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, value: Any) -> None:
        """Look at what our functions return; the frame is still on the stack."""
        if event != "return" or not frame.f_code.co_filename.startswith(self._folder):
            return
        made = value[0] if isinstance(value, list) and value else value
        name = type(made).__name__
        if not name.endswith(("Record", "Batch")) or not self._is_ours(type(made)):
            return
        if name.endswith("Record"):
            self._reach("record", frame)
        elif hasattr(made, "images") and made is not self._batch:
            self._batch = made
            self.points.pop("batch", None)
            self._reach("batch", frame)

    def _step(self) -> None:
        if "batch" in self.points and "step" not in self.points:
            sys.setprofile(None)
            self._batch = None
            self._reach("step")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        # `os.replace` and `os.rename` raise one event.
        if event in ("os.symlink", "os.rename") and Path(str(arguments[1])).name == "best_model":
            self._reach("publish")

    def _reach(self, point: str, frame: FrameType | None = None) -> None:
        if point in self.points:
            return
        ours = list(self._our_frames(frame or sys._getframe(1)))
        files = {one.f_code.co_filename.removeprefix(self._folder) for one in ours}
        values = [value for one in ours for value in one.f_locals.values()]
        classes = {type(value) for value in values if self._is_ours(type(value))}
        names = {f"{one.__module__}.{one.__qualname__}" for one in classes}
        self.points[point] = {
            "frames": len(ours),
            "files": sorted(files),
            "classes": sorted(name.removeprefix(self._prefix) for name in names),
        }

    def _our_frames(self, frame: FrameType | None) -> Iterator[FrameType]:
        while frame is not None:
            if frame.f_code.co_filename.startswith(self._folder):
                yield frame
            frame = frame.f_back

    def _is_ours(self, kind: type) -> bool:
        return str(kind.__module__).startswith(self._prefix)


def main(package: Path, result: Path) -> None:
    """Train in this process and write the points as JSON."""
    trace = Trace(package)
    with tempfile.TemporaryDirectory() as folder:
        rows = _draw_photos(Path(folder))
        run = Path(folder) / "run"
        sys.argv = ["autofocus", "train", "--data", str(rows), "--output-dir", str(run), *OPTIONS]
        trace.start()
        status: Any = None
        try:
            runpy.run_module(package.name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code
        finally:
            sys.setprofile(None)
    result.write_text(json.dumps({"status": status or 0, "points": trace.points}), encoding="utf-8")


def _draw_photos(folder: Path) -> Path:
    """Write noise around two colours, and the JSON Lines that name them; return the latter."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = folder / "photos.jsonl"
    with rows.open("w", encoding="utf-8") as lines:
        for number in range(NUM_PHOTOS):
            label, colour = ("red", "blue")[number % 2], ((200, 60, 60), (60, 60, 200))[number % 2]
            pixels = np.clip(rng.normal(colour, 30, (48, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            lines.write(json.dumps({"image_url": f"{number}.png", "label": label}) + "\n")
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
