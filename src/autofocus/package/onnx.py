"""Export a trained network to ONNX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from autofocus.errors import AutofocusError
from autofocus.models.network import Network

INPUT_NAME = "input1"  # the published name (reference/azure.md §4.8)


def export_onnx(network: Network, path: Path, size: tuple[int, int]) -> None:
    """Write `network` as ONNX: `input1` float32 [n, 3, h, w] to its named outputs.

    Graphs of the torch.export-based exporter have padding and shapes folded and run a fifth faster
    than the older tracer's. Model families that it cannot export name the tracer.

    Args:
        network: Network in eval mode, on the CPU.
        path: File to write.
        size: (height, width) of the input, in pixels.

    Raises:
        AutofocusError: If the exporter cannot write this network.
    """
    # Two images, because a batch of one would be exported as a constant.
    example = torch.zeros(2 if network.dynamic_batch else 1, 3, *size)
    try:
        with _quiet():
            torch.onnx.export(network, (example,), str(path), **_options(network))
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().partition("\n")[0]
        raise AutofocusError(
            f"{type(network).__name__}: the exporter '{network.exporter}' cannot write this "
            f"network as ONNX: {reason} Build it of other operators, or name the other exporter."
        ) from error


def _options(network: Network) -> dict[str, Any]:
    """Return the options of the network's exporter."""
    names = {"input_names": [INPUT_NAME], "output_names": list(network.output_names)}
    if network.exporter == "dynamo":
        batch = {0: torch.export.Dim("batch")} if network.dynamic_batch else {}
        return {
            **names,
            "dynamic_shapes": (batch,),
            "dynamo": True,
            "external_data": False,
            "verbose": False,
        }
    every = [INPUT_NAME, *network.output_names]
    axes = {name: {0: "batch"} for name in every} if network.dynamic_batch else None
    return {**names, "dynamic_axes": axes, "dynamo": False}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's notes on its own internals."""
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
