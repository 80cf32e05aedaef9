"""Guided backprop: the gradient of a logit that passes rectifiers only where it is positive.

Striving for Simplicity: The All Convolutional Net (Springenberg et al., 2014) lets a gradient
through a ReLU where both the unit's input and the gradient are positive. The rule is put on the
graph that the forward pass has recorded, not on modules: functional and in-place rectifiers, and
those inside other modules, take part like any other.

Textbook
    ReLU, ReLU6, LeakyReLU, and the ReLU6 within Hardswish and Hardsigmoid.
Extension, ours, always declared in the metadata
    SiLU, GELU, Mish, ELU and PReLU: slope and gradient are both cut at zero, which on a ReLU is
    the textbook rule. On a network with no other activation the textbook rule is the plain
    gradient, which is never returned under the guided name.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from autofocus.errors import InputError
from autofocus.explain.base import Attribution, Output
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.gradients import BatchMethod, select

Node = Any  # torch.autograd.graph.Node, with what each kind has saved
Gradients = tuple[Tensor | None, ...]

_TEXTBOOK: Final = {
    "ReluBackward0": "ReLU",
    "HardtanhBackward0": "ReLU6",
    "LeakyReluBackward0": "LeakyReLU",
    "HardsigmoidBackward0": "Hardsigmoid",
    "HardswishBackward0": "Hardswish",
}
_EXTENSION: Final = {
    "SiluBackward0": "SiLU",
    "GeluBackward0": "GELU",
    "MishBackward0": "Mish",
    "EluBackward0": "ELU",
    "PreluKernelBackward0": "PReLU",
}
# timm's activations that record products and sigmoids, in which no rectifier can be seen.
_HIDDEN: Final = {"Swish", "Mish", "HardMish", "QuickGELU"}


@dataclass(frozen=True)
class GuidedUnits:
    """Numbers of guided activations, by kind.

    Attributes:
        textbook: Activations that the published rule names.
        extension: Activations that only our extension guides.
    """

    textbook: dict[str, int]
    extension: dict[str, int]

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of an attribution."""
        return {
            "guided": self.textbook,
            "guided_extension": self.extension,
            "rule": "guided, extended" if self.extension else "guided",
        }


class GuidedBackprop(BatchMethod):
    """Fine detail that raises a logit; sharp, and the least specific to the class.

    Metadata: `guided` and `guided_extension`, the number of guided activations by kind, and `rule`,
    which is `guided, extended` where our extension took part.
    """

    name: ClassVar[str] = "guided_backprop"
    output: Output = "logit"

    def explain_batch(
        self, network: FrozenClassifier, images: Tensor, targets: Tensor
    ) -> list[Attribution]:
        """See `BatchMethod.explain_batch`."""
        points = images.requires_grad_()
        with torch.enable_grad():
            scores = select(network(points), targets, self.output)
        with guided(network, scores) as units:
            (maps,) = torch.autograd.grad(scores.sum(), points)
        arrays = maps.float().cpu().contiguous().numpy()
        return [
            Attribution(array, self.name, target, self.output, "size", units.metadata())
            for array, target in zip(arrays, targets.tolist(), strict=True)
        ]


@contextmanager
def guided(network: nn.Module, outputs: Tensor) -> Iterator[GuidedUnits]:
    """Apply the rule to gradients of `outputs` while the context lasts.

    Args:
        network: Network that computed the outputs; searched for activations that hide their kind.
        outputs: Numbers that depend on the input through the network.

    Raises:
        InputError: If nothing can be guided, or an activation hides in an operation of its own.
    """
    nodes = list(_nodes(outputs))
    _refuse_hidden(network, nodes)
    units = GuidedUnits(_counted(nodes, _TEXTBOOK), _counted(nodes, _EXTENSION))
    if not units.textbook and not units.extension:
        raise InputError(
            "the network has no activation that guided backprop can guide, so that its result"
            " would be the plain gradient. Use xai_algorithm integrated_gradients or xrai."
        )
    handles = []
    for node in nodes:
        name = node.name()
        if name == "HardswishBackward0":
            handles.append(node.register_hook(_guide_hardswish(node)))
        elif name in _TEXTBOOK or name in _EXTENSION:
            handles.append(node.register_hook(_keep_positive_inputs))
        if name in _EXTENSION:
            handles.append(node.register_prehook(_keep_positive))
    try:
        yield units
    finally:
        for handle in handles:
            handle.remove()


def _nodes(outputs: Tensor) -> Iterator[Node]:
    """Yield every operation that `outputs` came from, once."""
    waiting: list[Node] = [outputs.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)


def _counted(nodes: list[Node], kinds: dict[str, str]) -> dict[str, int]:
    return dict(Counter(kinds[node.name()] for node in nodes if node.name() in kinds))


def _refuse_hidden(network: nn.Module, nodes: list[Node]) -> None:
    hidden = {
        type(module).__name__
        for module in network.modules()
        if type(module).__name__ in _HIDDEN and not isinstance(module, nn.Mish)
    }
    hidden |= {str(type(node).__name__) for node in nodes if isinstance(node, BackwardCFunction)}
    if hidden:
        raise InputError(
            f"guided backprop cannot see into {', '.join(sorted(hidden))} of this network, and"
            " would pass its plain gradient on. Use xai_algorithm integrated_gradients or xrai."
        )


def _keep_positive(gradients: Gradients) -> Gradients:
    return tuple(None if g is None else g.clamp(min=0) for g in gradients)


def _keep_positive_inputs(inputs: Gradients, outputs: Gradients) -> Gradients:
    # The first input is the activation's; PReLU's slope takes no gradient here.
    return (*_keep_positive(inputs[:1]), *inputs[1:])


def _guide_hardswish(node: Node) -> Callable[[Gradients, Gradients], Gradients]:
    """Guide r = relu6(x + 3) within x · r / 6; the other factor keeps its exact gradient.

    The exact gradient contains g · x / 6 from r where -3 < x < 3; its negative part is taken out.
    """

    def hook(inputs: Gradients, outputs: Gradients) -> Gradients:
        (exact,), (gradient,), x = inputs, outputs, node._saved_self
        assert exact is not None
        assert gradient is not None
        negative = (gradient * x).clamp_(max=0)
        # One pass for what would be two comparisons and a product: zero outside of (-3, 3).
        within = torch.ops.aten.hardtanh_backward(negative, x, -3, 3)
        return (torch.sub(exact, within, alpha=1 / 6),)

    return hook
