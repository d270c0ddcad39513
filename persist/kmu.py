"""The learning rate k * mu (Section 3 of arXiv 1806.07353) for an optimizer of your own. Imports no torch."""

import contextlib
import math
import numbers
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.optim import Optimizer


@contextlib.contextmanager
def scaled_rates(optimizer: "Optimizer", k: float) -> Iterator[None]:
    """Within it, the learning rate of every parameter group of the optimizer is k times what it is outside.

    Around ``optimizer.step()`` at the k-th use of a minibatch it gives k * mu, where mu is whatever a schedule, a
    warm-up or the group's own rate makes it. Let schedulers step outside: they go on from the rate that they find.

    optimizer: whatever has torch's ``param_groups``. k: a number above 0. The rates come back also where the step
    fails. Raises ValueError for another k or optimizer.
    """
    if not hasattr(optimizer, "param_groups"):
        raise ValueError(f"optimizer must have torch's param_groups, not be {optimizer!r}")
    if not (isinstance(k, numbers.Real) and 0 < k < math.inf):
        raise ValueError(f"k must be a finite number above 0, not {k!r}")
    before = [group["lr"] for group in optimizer.param_groups]
    try:
        for group, rate in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = k * rate
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, before):
            group["lr"] = rate
