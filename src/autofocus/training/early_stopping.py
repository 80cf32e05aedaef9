"""Early stopping as published: patience counts evaluations, delay counts epochs."""

from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Stops when nothing became better for a while.

    Attributes:
        patience: Evaluations without a better one before stopping.
        delay: Epochs before patience begins to count.
        enabled: Whether to stop at all.
        best: Best value so far, larger is better.
        num_worse: Evaluations since then, after the delay.
    """

    patience: int
    delay: int
    enabled: bool = True
    best: float = float("-inf")
    num_worse: int = 0

    def update(self, value: float, epoch: int) -> bool:
        """Take the evaluation after `epoch` (from 1); return whether it is the best so far."""
        if value > self.best:
            self.best, self.num_worse = value, 0
            return True
        if epoch > self.delay:
            self.num_worse += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return self.enabled and self.num_worse >= self.patience
