"""ONNX Runtime whose sessions say that they run on an accelerator."""

import threading
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Accelerator:
    """Sessions that run on the CPU and say CUDA. A white image is one whose output is no number.

    Attributes:
        sizes: Images of each run.
        asked: Providers of the last session.
        works: False where sessions fall back to the CPU.
        may_go_on: Cleared to hold every run.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.asked: list[Any] = []
        self.works = True
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        make, accelerator = ort.InferenceSession, self

        class Session:
            def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
                accelerator.asked = providers
                self._session = make(path, options, providers=[CPU])
                self.get_inputs = self._session.get_inputs
                self.get_outputs = self._session.get_outputs

            def get_providers(self) -> list[str]:
                return [CUDA, CPU] if accelerator.works and len(accelerator.asked) > 1 else [CPU]

            def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
                (images,) = feeds.values()
                accelerator.sizes.append(len(images))
                assert accelerator.may_go_on.wait(10)
                outputs = self._session.run(names, feeds)
                outputs[0][images.min(axis=(1, 2, 3)) > 1] = np.nan
                return outputs

        monkeypatch.setattr(ort, "InferenceSession", Session)
        monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
