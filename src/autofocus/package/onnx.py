"""Export a trained network to ONNX with a dynamic batch."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

INPUT_NAME = "input1"  # the published name (reference/azure.md §4.8)


def export_onnx(
    network: nn.Module, path: Path, *, size: tuple[int, int], output_names: Sequence[str]
) -> None:
    """Write `network` as ONNX: `input1` float32 [n, 3, h, w] to the named outputs.

    Uses the torch.export-based exporter: its graphs have their padding and shapes folded, which
    runs a fifth faster than the older tracer's for the same network.

    Args:
        network: In eval mode, on the CPU.
        path: File to write.
        size: (height, width) of the input, in pixels.
        output_names: One name an output, in order.
    """
    # Two images: export takes a batch of one for a constant.
    example = torch.zeros(2, 3, *size)
    with _quiet():
        torch.onnx.export(
            network,
            (example,),
            str(path),
            input_names=[INPUT_NAME],
            output_names=list(output_names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on its own internals away from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
