"""scaled_rates against the formulas of SGD and Adam in float64, with a schedule, clipping and accumulation."""

import math

import pytest
import torch

from persist import persistent
from persist.kmu import scaled_rates

K, DRAWN = 3, 4
A = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)  # curvatures
TARGETS = torch.randn(DRAWN, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # one per minibatch
RATES = (0.05, 0.01)  # of the weight and of the bias
DECAY = 0.9  # of both, after every step


def problem():
    w, b = (
        torch.nn.Parameter(torch.ones(3, dtype=torch.float64)),
        torch.nn.Parameter(torch.ones(1, dtype=torch.float64)),
    )
    return w, b, [{"params": [w], "lr": RATES[0]}, {"params": [b], "lr": RATES[1]}]


def loss(w, b, target):
    return (A * (w + b - target) ** 2).sum() / 2


def gradients(w, b, target):
    """Of the loss, by hand."""
    g = A * (w + b - target)
    return [g, g.sum().view(1)]


def train(optimizer, w, b, clip=None, accumulate=1):
    """A step at the k-th use of a group of minibatches, with k times the rates; then one of the schedule."""
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, DECAY)
    groups = TARGETS.view(-1, accumulate, 3)
    for n, (k, group) in enumerate(persistent(groups, K), start=1):
        for target in group:
            (loss(w, b, target) / accumulate).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_([w, b], clip)
        with scaled_rates(optimizer, k):
            optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [mu * DECAY**n for mu in RATES], 1e-12
        )


def by_formula(update, clip=None, accumulate=1):
    """Weight and bias after as many steps: step n (from 0) subtracts k * mu * DECAY**n * update(...)."""
    parameters, states = [torch.ones(3, dtype=torch.float64), torch.ones(1, dtype=torch.float64)], [{}, {}]
    n = 0
    for group in TARGETS.view(-1, accumulate, 3):
        for k in range(1, K + 1):
            g = [sum(each) / accumulate for each in zip(*(gradients(*parameters, target) for target in group))]
            norm = torch.cat(g).norm()
            if clip and norm > clip:
                g = [each * clip / (norm + 1e-6) for each in g]  # 1e-6: as torch does
            for i, mu in enumerate(RATES):
                parameters[i] = parameters[i] - k * mu * DECAY**n * update(g[i], states[i], n + 1)
            n += 1
    return parameters


def momentum(g, state, n):
    state["v"] = 0.5 * state.get("v", 0) + g
    return state["v"]


def adam(g, state, n):
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g**2
    return state["m"] / (1 - 0.9**n) / ((state["v"] / (1 - 0.999**n)).sqrt() + 1e-8)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize(
    "new_optimizer, update",
    [(lambda groups: torch.optim.SGD(groups, momentum=0.5), momentum), (torch.optim.Adam, adam)],
    ids=["sgd", "adam"],
)
def test_it_composes_with_schedule_groups_clipping_and_accumulation(new_optimizer, update, clip, accumulate):
    w, b, groups = problem()
    train(new_optimizer(groups), w, b, clip, accumulate)
    torch.testing.assert_close([w.detach(), b.detach()], by_formula(update, clip, accumulate), rtol=1e-12, atol=1e-12)


def test_the_rates_come_back_exactly_also_after_an_error():
    rate = torch.tensor(0.1)  # a tensor, as compiled and captured optimizers have it
    w, b, groups = problem()
    optimizer = torch.optim.SGD(groups)
    optimizer.param_groups[1]["lr"] = rate
    with pytest.raises(OSError), scaled_rates(optimizer, 3):
        assert [group["lr"] for group in optimizer.param_groups] == [3 * 0.05, 3 * rate]
        raise OSError
    assert optimizer.param_groups[0]["lr"] == 0.05 and optimizer.param_groups[1]["lr"] is rate and rate == 0.1


def test_a_warm_up_goes_on_as_without_it():
    def rates(scale):
        optimizer = torch.optim.SGD(problem()[2])
        warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)
        seen = []
        for k, _ in persistent(range(4), K):
            with scaled_rates(optimizer, k if scale else 1):
                optimizer.step()
            warm_up.step()
            seen.append([group["lr"] for group in optimizer.param_groups])
        return seen

    assert rates(scale=True) == rates(scale=False)


@pytest.mark.parametrize("k", [0, -1, None, "2", math.inf, math.nan])
def test_another_k_is_refused_and_no_rate_has_changed(k):
    optimizer = torch.optim.SGD(problem()[2])
    with pytest.raises(ValueError, match="k must be a finite number above 0, not "), scaled_rates(optimizer, k):
        pass
    assert [group["lr"] for group in optimizer.param_groups] == list(RATES)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ValueError, match="optimizer must have torch's param_groups, not be 5"), scaled_rates(5, 2):
        pass
