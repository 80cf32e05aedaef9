"""The network as an ONNX Runtime session, on the CPU or an accelerator that the runtime knows."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from autofocus.errors import ModelFolderError

_CPU = "CPUExecutionProvider"
# With settings that keep its numbers those of the CPU.
_ACCELERATORS = {"CUDAExecutionProvider": {"use_tf32": "0"}}


class OnnxBackend:
    """Runs `model.onnx`; safe to call from several threads.

    Args:
        path: The ONNX file.
        num_threads: Threads inside one call. Servers use 1 and run calls side by side.
        accelerate: Run on an accelerator where the installed runtime and the machine have one.
    """

    def __init__(self, path: Path, num_threads: int = 1, *, accelerate: bool = False) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # Spinning threads starve the other workers of a server on the same cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        known = ort.get_available_providers() if accelerate else ()
        wanted = [(name, how) for name, how in _ACCELERATORS.items() if name in known]
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[*wanted, _CPU])
        # ONNX Runtime's errors share no public base class.
        except Exception as error:
            raise ModelFolderError(
                f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}"
            ) from error
        self._input = self._session.get_inputs()[0].name
        # Networks whose work depends on what they find are exported for one image at a time.
        self._takes_one = self._session.get_inputs()[0].shape[0] == 1
        self.output_names = [output.name for output in self._session.get_outputs()]
        # Without its driver the runtime falls back to the CPU.
        self._is_accelerated = self._session.get_providers()[0] != _CPU

    @property
    def gains_from_batches(self) -> bool:
        """True where many images at once take hardly longer than one.

        On one thread of a CPU they take longer: what a layer writes is not in the cache any more.
        """
        return self._is_accelerated and not self._takes_one

    def run(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name for normalised images [n, 3, h, w].

        Raises:
            RuntimeError: If the network does not take them.
        """
        if self._takes_one and len(images) > 1:
            ones = [self.run(images[i : i + 1]) for i in range(len(images))]
            return {name: np.concatenate([one[name] for one in ones]) for name in self.output_names}
        try:
            outputs = self._session.run(self.output_names, {self._input: images})
        # Such as an input of another size; again no public base class.
        except Exception as error:
            raise RuntimeError(str(error).partition("\n")[0]) from error
        return dict(zip(self.output_names, outputs, strict=True))
