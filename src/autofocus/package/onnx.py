"""Export a trained network to ONNX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

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
    write = _with_dynamo if network.exporter == "dynamo" else _with_torchscript
    try:
        with _quiet():
            write(network, example, path)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().partition("\n")[0]
        raise AutofocusError(
            f"{type(network).__name__}: the exporter '{network.exporter}' cannot write this "
            f"network as ONNX: {reason} Build it of other operators, or name the other exporter."
        ) from error


def _with_dynamo(network: Network, example: torch.Tensor, path: Path) -> None:
    batch = {0: torch.export.Dim("batch")} if network.dynamic_batch else {}
    torch.onnx.export(
        network,
        (example,),
        str(path),
        input_names=[INPUT_NAME],
        output_names=list(network.output_names),
        dynamic_shapes=(batch,),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _with_torchscript(network: Network, example: torch.Tensor, path: Path) -> None:
    names = [INPUT_NAME, *network.output_names]
    torch.onnx.export(
        network,
        (example,),
        str(path),
        input_names=[INPUT_NAME],
        output_names=list(network.output_names),
        dynamic_axes={name: {0: "batch"} for name in names} if network.dynamic_batch else None,
        dynamo=False,
    )


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
