"""Does reuse pay: targets, rates, ratios and words, on made-up runs whose answers are known by hand."""

import dataclasses
import itertools
import json
import math
import random
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from helpers import make_record

from persist import Cell, load_grid, train
from persist import data as datasets
from persist.evidence import payoff as module
from persist.evidence import payoff_page
from persist.evidence.kinds import KINDS
from persist.evidence.payoff import ARMS, Evidence, Ratio, gradients_to, interval, of_arm, payoff, ratio, rule
from persist.grids import Grid

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
BUDGET = 1_350_000  # gradients: 30 passes over 45 000 images
LOWEST = 0.9  # L* of the made-up runs; the primary target is 1.0


def cell_of(arm, m=512, lr=0.1, seed=100, on="heldout"):
    K, reuse, policy, *_ = ARMS[arm]
    passes, every = {512: (30, 45_000), 32: (10, 15_000)}[m]
    fields = {"K": K, "reuse": reuse, "lr_policy": policy, "epochs": passes // K, "evaluate_every": every}
    return Cell(m=m, lr=lr, seed=seed, train_size=45_000, evaluate_on=on, **fields)


def arm_of(cell):
    return next(name for name, arm in ARMS.items() if arm[:3] == (cell.K, cell.reuse, cell.lr_policy))


def losing(cell, loss, **how):
    """A run with loss(gradients)."""
    record = make_record(cell, **how)
    history = [{**entry, "test_loss": entry["test_loss"] and loss(entry["gradients"])} for entry in record.history]
    return dataclasses.replace(record, history=history)


def straight(cell, reach, target=LOWEST + 0.10, least=LOWEST, **how):
    """Its loss falls on a straight line from 2.3 through the target after `reach` gradients, down to `least`."""
    return losing(cell, lambda gradients: max(least, 2.3 - (2.3 - target) * gradients / reach), **how)


def digits(losses, **how):
    """Three evaluations, after 1437, 2874 and 4311 gradients."""
    record = make_record(Cell(m=32, dataset="digits", epochs=3), **how)
    return dataclasses.replace(record, history=[{**e, "test_loss": x} for e, x in zip(record.history, losses)])


# --- gradients to a target


@pytest.mark.parametrize(
    "losses, target, gradients",
    [
        ((2.0, 1.5, 0.9), 1.2, 2874 + 1437 / 2),
        ((2.0, 1.5, 0.9), 1.5, 2874),
        ((2.0, 1.5, 0.9), 0.9, 4311),  # at the target counts
        ((2.0, 1.0, 1.5), 1.25, 1437 + 1437 * 0.75),  # the first time, whatever comes later
        ((2.0, 1.5, 0.9), 2.1, 1437),  # nothing before it: the evaluation itself
        ((2.0, 1.5, 0.9), 0.89, math.inf),
    ],
)
def test_gradients_to_a_target_by_hand(losses, target, gradients):
    assert gradients_to(digits(losses), target) == pytest.approx(gradients)


def test_not_reached_is_known_only_once_the_run_has_ended():
    assert gradients_to(digits((2.0, None), diverged_at=2), 1.0) == math.inf
    assert gradients_to(digits((0.9, None), diverged_at=2), 1.0) == 1437
    assert gradients_to(digits((2.0, 1.5), stopped_at=2), 1.0) is None
    assert gradients_to(digits((2.0, 0.5), stopped_at=2), 1.25) == pytest.approx(2874 - 1437 / 2)


def test_in_every_arm_the_straight_line_is_met():
    for arm in ARMS:
        assert gradients_to(straight(cell_of(arm), 777_777), 1.0) == pytest.approx(777_777)


# --- rates and targets


def tried(costs, lrs=(0.02, 0.04, 0.08, 0.16), m=512, **more):
    """The runs of one seed: costs maps an arm to the gradients at each of its rates; more goes to each run."""
    return {
        cell: straight(cell, cost, **more)
        for arm, gradients in costs.items()
        for lr, cost in zip(lrs, gradients)
        for cell in [cell_of(arm, m, lr)]
    }


INSIDE = {
    "fresh": (900e3, 500e3, 600e3, 1200e3),
    "reuse": (900e3, 800e3, 700e3, 1200e3),
    "spaced": (900e3, 500e3, 550e3, 1200e3),
}


def test_targets_are_above_the_lowest_held_out_loss_of_fresh():
    rates = tried({"fresh": (900e3, 500e3)}) | tried({"reuse": (100e3,)}, least=0.1)
    again = cell_of("fresh", lr=0.04, seed=101)
    rates[again] = straight(again, 500e3, least=0.2)  # the second seed does not move the target
    assert module.targets(rates, 512) == pytest.approx((1.0, 0.95, 1.1))
    assert module.targets(rates, 32) == []


@pytest.mark.parametrize("missing", [None, "unfinished"])
def test_nothing_is_decided_while_a_rate_is_missing(missing):
    rates = tried(INSIDE)
    assert rule(rates, "constant", 512)[0]
    cell = cell_of("fresh", lr=0.16)
    rates[cell] = missing and straight(cell, 10, stopped_at=29)
    assert module.targets(rates, 512) == []
    assert rule(rates, "constant", 512) == ([], [])


def test_the_two_best_are_tried_again_and_the_mean_decides():
    rates = tried(INSIDE)
    more, chosen = rule(rates, "constant", 512)
    two = {"fresh": {0.04, 0.08}, "reuse": {0.04, 0.08}, "spaced": {0.04, 0.08}}
    assert {arm: {c.lr for c in more if arm_of(c) == arm} for arm in two} == two and len(more) == 6
    assert {c.seed for c in more} == {101} and not chosen
    rates |= dict.fromkeys(more)
    assert rule(rates, "constant", 512) == ([], [])
    # 500e3 and 1000e3 beat 600e3 and 900e3 in their geometric mean; 700e3 and 900e3 lose to 800e3 and 780e3
    second = {("fresh", 0.04): 1000e3, ("fresh", 0.08): 900e3, ("reuse", 0.04): 780e3, ("reuse", 0.08): 900e3}
    rates |= {c: straight(c, second.get((arm_of(c), c.lr), 1e6 if c.lr == 0.04 else 2e6)) for c in more}
    more, chosen = rule(rates, "constant", 512)
    assert not more and {(arm_of(c), c.lr) for c in chosen} == {("fresh", 0.04), ("reuse", 0.04), ("spaced", 0.04)}
    assert module.plan(rates) == ([], chosen)


def test_where_one_best_is_at_an_edge_every_arm_of_its_group_gets_one_more_rate():
    rates = tried(INSIDE | {"reuse": (1e6, 900e3, 800e3, 700e3)})  # best at the upper edge
    rates |= tried({"reuse-kmu": (9e5, 5e5, 6e5, 7e5), "fresh-kmu": (9e5, 5e5, 6e5, 7e5)})
    more, chosen = rule(rates, "constant", 512)
    # fresh and spaced have their best at the second of four: the lower edge is nearer
    assert {arm_of(c): (c.lr, c.seed) for c in more} == {
        "fresh": (0.01, 100),
        "reuse": (0.32, 100),
        "spaced": (0.01, 100),
    }
    assert len(more) == 3 and not chosen
    assert {c.seed for c in rule(rates, "kmu", 512)[0]} == {101}  # another policy, compared with none of these
    rates |= {c: straight(c, 650e3 if c.lr == 0.32 else 2e6) for c in more}
    # reuse: at the new edge, once more; the best of the others is in the middle now: above
    more = rule(rates, "constant", 512)[0]
    assert {arm_of(c): c.lr for c in more} == {"fresh": 0.32, "reuse": 0.64, "spaced": 0.32}


def test_rates_that_miss_the_target_are_ordered_by_their_lowest_loss():
    rates = tried(INSIDE)
    for lr, least in zip((0.02, 0.04, 0.08, 0.16), (1.4, 1.2, 1.3, 1.5)):
        rates[cell_of("reuse", lr=lr)] = straight(cell_of("reuse", lr=lr), 500e3, least=least)
    rates[cell_of("reuse", lr=0.16)] = make_record(cell_of("reuse", lr=0.16), diverged_at=1)
    assert {c.lr for c in rule(rates, "constant", 512)[0] if arm_of(c) == "reuse"} == {0.04, 0.08}


def complete(policies=("constant",)):
    """Rates that are chosen, at m = 512: 0.04 in every arm."""
    arms = [name for name, arm in ARMS.items() if arm.lr_policy in policies]
    rates = tried(dict.fromkeys(arms, (900e3, 500e3, 600e3, 1200e3)))
    for cell in [cell for policy in policies for cell in rule(rates, policy, 512)[0]]:
        rates[cell] = straight(cell, 500e3 if cell.lr == 0.04 else 900e3)
    return rates


def test_the_test_has_the_chosen_rates_and_nothing_else_that_differs():
    rates = complete(("constant", "kmu"))
    _, cells = module.plan(rates)
    assert [arm_of(c) for c in cells[:: len(module.SEEDS)]] == list(ARMS)  # the constant rate first
    assert [c.seed for c in cells] == 5 * list(range(10, 18))
    for cell in cells:
        assert dataclasses.replace(cell, seed=100, evaluate_on="heldout") == cell_of(arm_of(cell), lr=0.04)
        assert cell.evaluate_on == "test" and cell.test_examples == 10_000


def test_the_grids_are_written_from_the_records(tmp_path):
    grids, results = tmp_path / "grids", tmp_path / "results"
    grids.mkdir()
    cells = list(tried(INSIDE | {"reuse": (1e6, 900e3, 800e3, 700e3)}))
    entries = "".join(f"  - {cell.as_dict()}\n" for cell in cells).replace("None", "null")
    (grids / "payoff-rates.yaml").write_text(f"# one comment\nkind: payoff-rates\ncells:\n{entries}")
    assert load_grid(grids / "payoff-rates.yaml").cells == cells

    def record(name, cost, least=LOWEST):
        for cell in load_grid(grids / f"{name}.yaml").cells:
            path = results / name / f"{cell.name}.json"
            if not path.exists():
                straight(cell, cost(cell), least=least).save(path)

    assert module.write_grids(grids, results).startswith("0 runs added") and not (grids / "payoff.yaml").exists()
    best = {"fresh": 0.08, "reuse": 0.16, "spaced": 0.08}
    record("payoff-rates", lambda c: 5e5 * (1 + abs(math.log2(c.lr / best[arm_of(c)]))))
    assert module.write_grids(grids, results).startswith("3 runs added")
    text = (grids / "payoff-rates.yaml").read_text()
    assert text.startswith("# one comment\nkind: payoff-rates\n")
    found = load_grid(grids / "payoff-rates.yaml").cells
    assert set(cells) < set(found) and len(found) == len(cells) + 3
    assert [arm_of(c) for c in found] == sorted((arm_of(c) for c in found), key=list(ARMS).index)
    record("payoff-rates", lambda c: 5e5 * (1 + abs(math.log2(c.lr / best[arm_of(c)]))))
    assert module.write_grids(grids, results).startswith("6 runs added")
    record("payoff-rates", lambda c: 5e5 * (1 + abs(math.log2(c.lr / best[arm_of(c)]))))
    assert module.write_grids(grids, results) == "0 runs added to payoff-rates; 3 of 10 rates chosen for payoff"
    test = load_grid(grids / "payoff.yaml")
    assert test.kind == "payoff" and test.beside == "payoff-rates"
    assert test.cells == module.plan(module.load(results, grids).rates)[1]
    assert {arm_of(c): c.lr for c in test.cells} == best
    # what the notebook and `payoff` read
    record("payoff", lambda c: {"fresh": 500e3, "reuse": 600e3, "spaced": 500e3}[arm_of(c)], 0.8)
    assert ratio(module.load(results, grids), 512).estimate == pytest.approx(1.2)
    answered = payoff(0.5, 0.05, 512, root=results)
    assert answered.seconds["reuse"].estimate == pytest.approx(1.2 / 5)
    assert "m = 512 (of the measured ones the nearest to your 64)" in payoff(0.5, 0.05, 64, root=results).evidence


def test_of_equally_near_minibatch_sizes_both_are_named(project):
    answered = payoff(0.5, 0.05, 128, root=project / "results")
    assert "m = 32 (of the measured ones the nearest to your 128; 512 is as near)" in answered.evidence


def test_the_committed_rates_are_those_of_the_plan(project):
    cells = load_grid(project / "grids" / "payoff-rates.yaml").cells
    for arm, m in itertools.product(ARMS, (32, 512)):
        found = list(of_arm(dict.fromkeys(cells), m, arm, 100))
        assert len(found) >= 6
        assert all(b.lr / a.lr == pytest.approx(2) for a, b in itertools.pairwise(found))
        for cell in found:
            counters = cell.evaluations()
            assert counters[-1]["gradients"] == {32: 10, 512: 30}[m] * 45_000 and len(counters) == 30
            step = {32: 15_000, 512: 45_000}[m]
            assert all(n * step <= c["gradients"] < n * step + m * cell.K for n, c in enumerate(counters[:-1], start=1))
    free = ("m", "K", "reuse", "lr_policy", "lr", "epochs", "evaluate_every", "seed")
    assert len({tuple(v for f, v in c.as_dict().items() if f not in free) for c in cells}) == 1
    assert cells[0].test_examples == 5_000 and cells[0].evaluate_on == "heldout"
    policies = [c.lr_policy for c in cells]
    assert policies == sorted(policies)  # the order is the priority: constant, then kmu


def test_the_committed_test_follows_from_the_recorded_rates(project):
    path = project / "grids" / "payoff.yaml"
    rates = module.load(project / "results", project / "grids").rates
    assert (load_grid(path).cells if path.exists() else []) == module.plan(rates)[1]


# --- ratios


@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_interval_is_students_of_the_logarithms(n):
    ratios = [math.exp(random.Random(f"{n} {i}").gauss(0.2, 0.3)) for i in range(n)]
    found = interval([(r, r) for r in ratios])
    expected = scipy.stats.ttest_1samp(np.log(ratios), 0).confidence_interval(1 - 0.05 / 4)
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert found.estimate == pytest.approx(scipy.stats.gmean(ratios))
    assert found.pairs == n and found.censored == 0


def test_of_one_pair_nothing_is_known_but_the_estimate():
    assert interval([(1.5, 1.5)]) == Ratio(pytest.approx(1.5), 0, math.inf, 1, 0)


@pytest.mark.parametrize("n", [2, 5, 7, 8, 9, 12, 20])
def test_with_a_run_that_missed_the_target_the_interval_is_what_the_sign_test_does_not_reject(n):
    ratios = [1 + i / 10 for i in range(n)]
    found = interval([(r, r) for r in ratios[:-1]] + [(ratios[-1], math.inf)])

    def rejected(at):  # by how many of the pairs are below, two-sided
        below = sum(r < at for r in ratios)
        return scipy.stats.binomtest(below, n).pvalue <= module.ALPHA

    assert found.censored == 1
    if found.low == 0:
        assert not rejected(0.5)
    else:
        assert rejected(found.low - 0.01) and not rejected(found.low + 0.01)
    if found.high < math.inf:
        assert rejected(found.high + 0.01) and not rejected(found.high - 0.01)
    else:
        assert not rejected(ratios[-1] - 0.01)


def test_the_sign_test_by_hand():
    eight = [(1.3 + i / 10, 1.3 + i / 10) for i in range(8)]
    later = interval([*eight[:6], (2.0, math.inf), (2.0, math.inf)])  # 8 of 8 on one side: 2/256 < 0.05/4
    assert (later.estimate, later.low, later.high) == (pytest.approx(1.65), 1.3, math.inf)
    assert later.verdict == "costs gradients"
    sooner = interval([(0.0, 0.7), *[(0.5 + i / 100,) * 2 for i in range(7)]])
    assert (sooner.low, sooner.high, sooner.verdict) == (0.0, 0.7, "saves gradients")
    assert interval([(0.0, math.inf), *eight[:7]]).verdict == "not known"  # both missed it
    assert math.isnan(interval([*eight[:2], *[(2.0, math.inf)] * 6]).estimate)
    assert interval([*eight[:4], (2.0, math.inf)]).low == 0  # five pairs cannot decide at this level


@pytest.mark.parametrize(
    "low, high, word",
    [
        (0.5, 0.79, "saves gradients"), (0.5, 0.8, "undecided"), (0.79, 0.9, "undecided"),
        (0.8, 1.25, "free"), (0.9, 1.1, "free"), (0.79, 1.26, "undecided"), (1.2, 1.26, "undecided"),
        (1.25, 2.0, "undecided"), (1.26, 2.0, "costs gradients"), (0.0, math.inf, "not known"),
    ],
)  # fmt: skip
def test_the_words(low, high, word):
    assert Ratio(1.0, low, high, 8, 0).verdict == word
    assert Ratio(1.0, low, high, 7, 0).verdict == "not recorded yet (7 of 8 seeds)"


def evidence_of(reach):
    """A test at m = 512: reach maps an arm to the gradients of each of its eight seeds; None: not recorded."""
    rates = complete(("constant", "kmu"))
    runs = dict.fromkeys(module.plan(rates)[1])
    for arm, counts in reach.items():
        for cell, count in zip(of_arm(runs, 512, arm), counts):
            runs[cell] = count and straight(cell, count, least=0.85)
    return Evidence(rates, runs)


SPREAD = (1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.0)


def test_a_ratio_is_paired_by_seed():
    evidence = evidence_of({"fresh": [5e5 * s for s in SPREAD], "reuse": [6e5 * s for s in SPREAD]})
    found = ratio(evidence, 512, "reuse", "fresh")
    assert (found.estimate, found.low, found.high) == pytest.approx((1.2, 1.2, 1.2))  # the spread of seeds is in both
    assert ratio(evidence, 512, "fresh", "reuse").estimate == pytest.approx(1 / 1.2)
    assert ratio(evidence, 512, "reuse", "fresh", target=2).estimate == pytest.approx(1.2)
    assert ratio(evidence, 512, "spaced", "fresh").pairs == ratio(evidence, 32, "reuse", "fresh").pairs == 0
    assert str(ratio(evidence, 32)) == "not recorded yet"


def test_a_missed_target_counts_as_more_than_the_budget():
    evidence = evidence_of({"fresh": [5e5] * 8, "reuse": [*[8e5] * 7, 2e6]})
    found = ratio(evidence, 512, "reuse", "fresh")
    assert (found.low, found.high, found.censored) == (pytest.approx(1.6), math.inf, 1)
    found = ratio(evidence, 512, "fresh", "reuse")
    assert found.low == 0 and found.high == pytest.approx(5 / 8)
    only = evidence_of({"fresh": [5e5], "reuse": [2e6]})
    assert interval([(BUDGET / 5e5, math.inf)]) == ratio(only, 512, "reuse", "fresh")


def test_an_unfinished_run_decides_nothing_that_it_could_still_change():
    evidence = evidence_of({"fresh": [5e5] * 8, "reuse": [6e5] * 8})
    cell = next(iter(of_arm(evidence.test, 512, "reuse")))
    evidence.test[cell] = straight(cell, 6e5, stopped_at=20)  # 900 000 gradients: it has reached the target
    assert ratio(evidence, 512, "reuse", "fresh").verdict == "free"
    evidence.test[cell] = straight(cell, 6e5, stopped_at=10)
    assert ratio(evidence, 512, "reuse", "fresh").verdict == "not recorded yet (7 of 8 seeds)"
    assert not ratio(evidence, 512).complete and payoff_page.short(evidence) == "Not recorded yet."


# --- one's own loader


@pytest.mark.parametrize("c", [0.05, 0.2, 0.3, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("arm", list(ARMS))
def test_the_model_of_the_seconds_is_a_loader_that_works_beside_the_training(arm, c):
    def seconds_an_iteration(uses, loads_once):
        loaded = trained = 0.0
        for _ in range(4000):  # minibatches
            loaded += 1.0
            trained = max(trained, loaded) + (uses * c if loads_once else c)
        return trained / 4000 / (uses if loads_once else 1)

    expected = seconds_an_iteration(ARMS[arm].K, ARMS[arm].reuse == "consecutive") / seconds_an_iteration(1, True)
    assert module.time_factor(arm, 1, c) == pytest.approx(expected, rel=1e-2)


def test_break_even_is_where_the_seconds_are_equal():
    assert 1.6 * module.time_factor("reuse", 1.6, 1) == pytest.approx(1)
    points = {(1.25, 2.0): ("0.50", "0.80"), (0.9, 2.0): ("0.50", "-"), (0.8, 0.95): ("every", "-"),
              (5.5, 7.0): ("-", "every"), (1.3, math.inf): ("-", "0.77"), (0.9, 6.0): ("-", "-")}  # fmt: skip
    assert {ends: payoff_page.turning_points(Ratio(math.nan, *ends, 8, 0)) for ends in points} == points


def test_without_a_record_there_is_no_answer(tmp_path):
    with pytest.raises(ValueError, match="root must be the folder results/ of a checkout"):
        payoff(0.1, 0.1, 128, root=tmp_path / "results")
    (tmp_path / "grids").mkdir()
    (tmp_path / "results").mkdir()
    found = payoff(0.1, 0.1, 128, root=tmp_path / "results")
    assert found.seconds == {} and str(found) == "Whether reuse pays is not recorded yet."


@pytest.mark.parametrize(
    "arguments, name",
    [((-1, 1, 32), "loading_seconds"), ((math.nan, 1, 32), "loading_seconds"), ((1, 0, 32), "step_seconds"),
     ((1, math.inf, 32), "step_seconds"), ((1, 1, 0), "m must"), ((1, 1, 32.0), "m must"),
     ((1, 1, 32, 0.3), "above must be one of 0.1, 0.05, 0.2, not 0.3")],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        payoff(*arguments[:3], **dict(zip(["above"], arguments[3:])))


def test_with_data_in_memory_only_gradients_count(monkeypatch):
    evidence = evidence_of({"fresh": [5e5 * s for s in SPREAD], "reuse": [6e5] * 8, "spaced": [5e5] * 8})
    monkeypatch.setattr(module, "load", lambda *_: evidence)
    found, gradients = payoff(0, 0.1, 512), ratio(evidence, 512)
    assert found.seconds["reuse"] == gradients
    lines = str(found).splitlines()
    assert [line.split(":")[-1] for line in lines[1:3]] == [" later", " not told apart"]
    assert payoff(1, 0.1, 512).seconds["reuse"].high == pytest.approx(gradients.high / 5)
    assert payoff(0, 0.1, 512, above=0.20).seconds["reuse"] == ratio(evidence, 512, target=2) != gradients


# --- words, tables, pictures


def test_the_tables_say_what_the_runs_say():
    reach = {"fresh": [5e5] * 8, "reuse": [*[8e5] * 7, 2e6], "spaced": [5.5e5] * 8}
    evidence = evidence_of(reach)
    [first, second, third] = payoff_page.contrasts_table(evidence).to_dict("records")
    assert (first["contrast"], first["gradients"]) == ("reuse / fresh", "1.60 (median; at least 1.60)")
    assert first["verdict"] == "costs gradients"
    assert (
        first["examples loaded"] == "0.32 (median; at least 0.32)" and first["pairs that missed the target"] == "1 of 8"
    )
    assert second["gradients"] == second["examples loaded"] == "1.10 (1.10 to 1.10)"
    assert third["contrast"] == "reuse / spaced"
    fresh, reuse, _ = payoff_page.arms_table(evidence).to_dict("records")
    assert fresh["arm"] == "fresh (K = 1)" and fresh["gradients to it"] == fresh["examples loaded"] == "500 k"
    assert (reuse["seeds that reached it"], reuse["gradients to it"], reuse["µ"]) == ("7 of 8", "-", "0.04")
    # in a straight line from 2.3 to LOWEST + 0.10 at 500 k, K = 1 is at 270 k examples loaded
    assert fresh["on as many examples as reuse loads"] == f"{2.3 - (2.2 - LOWEST) * 270 / 500:.3f}"
    assert reuse["on as many examples as reuse loads"] == reuse["lowest loss"]
    said = "in memory: no, K = 5 takes more gradients than K = 1, and so more time, to the same test loss; not recorded"
    assert said in payoff_page.short(evidence)
    loose, primary = payoff_page.short_table(evidence).to_dict("records")
    assert primary["gradients"] == "1.60 (median; at least 1.60)" and primary["with kµ"] == "not recorded yet"
    assert (loose["test loss"], primary["test loss"]) == (f"{LOWEST + 0.20:.2f}", f"{LOWEST + 0.10:.2f}")


def test_an_answer_that_turns_with_the_target_says_so():
    """`reuse` falls fast, and ends above the primary target."""
    evidence = evidence_of({"fresh": [5e5] * 8})
    for cell in of_arm(evidence.test, 512, "reuse"):
        evidence.test[cell] = straight(cell, 2.5e5, least=LOWEST + 0.15)
    assert ratio(evidence, 512).verdict == "costs gradients"
    assert ratio(evidence, 512, target=2).verdict == "saves gradients"
    [row, *_], short = payoff_page.contrasts_table(evidence).to_dict("records"), payoff_page.short(evidence)
    assert row["verdict"] == "costs gradients" and row["L* + 0.05"].endswith(": costs gradients")
    assert row["L* + 0.20"].endswith(": saves gradients")
    assert "in memory: it depends; K = 5 takes more gradients than K = 1 or fewer, and so the time, to" in short
    assert "K = 5 comes sooner at m = 512 to 1.10 at every C/L; at the other losses no gain is shown." in short
    turning = payoff_page.short_table(evidence)[["sooner below C/L", "later above C/L"]].values.tolist()
    assert turning == [["every", "-"], ["never reached", "0.37"]]
    primary, _, loose, _ = payoff_page.draw_chart(evidence).axes
    assert [ax.collections[0].get_datalim(ax.transData).y1 > 100 for ax in (primary, loose)] == [True, False]


@pytest.mark.parametrize(
    "reuse, said",
    [
        ([5.1e5] * 8, "no difference; K = 5 takes about as many"),
        ([2e5] * 8, "yes, K = 5 takes fewer"),
        ([math.inf] * 8, "it is not known whether K = 5 takes more"),
    ],
)
def test_the_answer_in_short(reuse, said):
    fresh = [math.inf] * 8 if math.inf in reuse else [5e5] * 8
    short = payoff_page.short(evidence_of({"fresh": fresh, "reuse": reuse}))
    assert f"With the data in memory: {said}" in short and ("not known at m = 512 to 1.00" in short) == (
        "known" in said
    )


def test_the_answer_says_what_the_rates_kmu_do():
    reach = {"fresh": [5e5] * 8, "reuse": [8e5] * 8, "fresh-kmu": [5e5] * 8, "reuse-kmu": [6e5] * 7}
    kmu = lambda evidence: payoff_page.short_table(evidence)["with kµ"].tolist()  # noqa: E731
    assert kmu(evidence_of(reach)) == ["not recorded yet"] * 2
    evidence = evidence_of(reach | {"fresh-kmu": [4e5] * 8, "reuse-kmu": [6e5] * 8})
    assert kmu(evidence) == ["1.50 (1.50 to 1.50)"] * 2
    turning = payoff_page.short_table(evidence)[["sooner below C/L", "later above C/L"]].astype(float)
    assert (turning.round(2) - 1 / 1.6).abs().max(axis=None) <= 0.0051, "1 / 1.6 lies between two roundings"
    for cell in of_arm(evidence.test, 512, "reuse-kmu"):  # it falls as fast, and ends above the primary target
        evidence.test[cell] = straight(cell, 6e5, least=LOWEST + 0.15)
    loose, primary = kmu(evidence)
    assert loose.startswith("1.51 (") and primary == "at least 3.38"


def test_looser_targets_and_the_mean_of_three_evaluations():
    """On straight lines the mean of three lags by one evaluation in both arms; a single dip does not count in it."""
    evidence = evidence_of({"fresh": [5e5] * 8, "reuse": [6e5] * 8})
    cell = next(iter(of_arm(evidence.test, 512, "reuse")))
    dip = evidence.test[cell].history
    dip[2] = {**dip[2], "test_loss": 0.9}  # after 135 000 gradients
    rows = {row["target"]: row for row in payoff_page.targets_table(evidence).to_dict("records")}
    assert list(rows) == [f"L* + {above:.2f}" for above in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)]
    row = rows["L* + 0.50"]  # 1.4: after 900 / 1300 of the way to 1.0
    assert row["loss"] == "1.400" and row["spaced / fresh"] == "not recorded yet"
    lag = 45e3
    assert row["reuse / fresh, mean of three"].startswith(f"{(6e5 * 9 / 13 + lag) / (5e5 * 9 / 13 + lag):.2f}")
    before = 2.3 - 1.3 * 90 / 600  # of `reuse`, one evaluation before the dip
    dipped = (90e3 + 45e3 * (before - 1.4) / (before - 0.9)) / (5e5 * 9 / 13)
    assert row["reuse / fresh"].startswith(f"{(1.2**7 * dipped) ** (1 / 8):.2f}")


def test_before_any_record_everything_says_so(tmp_path):
    (tmp_path / "grids").mkdir()
    shutil.copy("grids/payoff-rates.yaml", tmp_path / "grids")
    for text in payoff_page.blocks(tmp_path / "results", tmp_path / "grids").values():
        assert "not recorded yet" in text.lower()
    evidence = module.load(tmp_path / "results", tmp_path / "grids")
    assert payoff_page.short(evidence) == "Not recorded yet." and payoff_page.short_table(evidence).empty
    for figure in (payoff_page.draw("payoff", evidence) | payoff_page.draw("payoff-rates", evidence)).values():
        assert "No run of this picture is recorded yet." in figure.get_supxlabel()


def test_the_page_asks_for_what_there_is(project):
    names = re.findall(r"<!-- payoff ([\w ]+) -->", (project / "docs" / "payoff.md").read_text())
    assert sorted(names) == sorted(payoff_page.blocks(project / "results", project / "grids"))


def test_the_pictures_show_the_ratios():
    evidence = evidence_of({"fresh": [5e5 * s for s in SPREAD], "reuse": [6e5] * 8, "spaced": [5e5] * 8})
    r = ratio(evidence, 512, "reuse", "fresh")
    below = payoff_page.draw("payoff", evidence)["payoff-m512"].axes[-1]
    drawn = [[*line.get_xdata()] for line in below.lines if [*line.get_ydata()] == [0, 0]]
    assert drawn[0] == pytest.approx([r.low, r.high])
    chart = payoff_page.draw("payoff", evidence)["payoff"].axes[0]
    assert f"{1 / r.estimate:.2f}" in [text.get_text() for text in chart.texts]
    rates = payoff_page.draw("payoff-rates", evidence)["payoff-rates"]
    dots, missed, ringed = rates.axes[0].lines[:3]  # fresh, seed 100
    points = [[0.02, 900], [0.04, 500], [0.08, 600], [0.16, 1200]]  # the straight line ends between two evaluations
    assert dots.get_xydata() == pytest.approx(np.array(points), rel=1e-3)
    assert dots.get_xydata().tolist() == ringed.get_xydata().tolist()
    assert ringed.get_markevery() == [False, True, False, False]  # 0.04 is chosen
    assert not any(missed.get_markevery())
    with pytest.raises(ValueError, match="paper"):
        payoff_page.draw("paper", evidence)


def test_a_rate_that_misses_the_target_is_shown_above_the_budget():
    rates = tried({"fresh": (9e5, 5e5, 6e5, 4e6)})
    dots, missed, _ = payoff_page.draw_rates(Evidence(rates, {})).axes[0].lines[:3]
    assert dots.get_ydata()[3] == math.inf and missed.get_markevery() == [False, False, False, True]
    assert missed.get_ydata()[3] > 1350  # thousand gradients


@pytest.mark.parametrize("name", ["payoff", "payoff-rates"])
def test_the_kind_of_the_grid_names_these_pictures(name):
    grid = Grid(name, [], name)
    assert set(KINDS[name].pictures(grid)) == set(payoff_page.draw(name, Evidence({}, {})))


# --- benchmarks/payoff.py


def test_the_png_files_hold_the_very_pixels():
    from payoff import Decoding

    cell = Cell(m=16, dataset="digits", train_size=32, pipeline="loader")
    split = datasets.load(cell).train
    for side in (32, 96):
        pairs = zip(
            Decoding(cell, split, side).minibatches(1), datasets.Loader(cell, split, torch.device("cpu")).minibatches(1)
        )
        for (x, y), (x0, y0) in pairs:
            assert torch.equal(x, x0) and torch.equal(y, y0)


def test_the_run_behind_the_loader_is_the_recorded_one(monkeypatch):
    from payoff import measure

    small = {"dataset": "digits", "width": 0.03, "train_size": 256, "test_size": 100, "lr": 0.1, "evaluate_every": 512}
    cells = {
        "fresh": Cell(m=32, K=1, epochs=10, seed=10, **small),
        "reuse": Cell(m=32, K=5, epochs=2, seed=10, **small),
    }
    test = {cell: train(cell, cores=[0]) for cell in cells.values()}
    goal = max(run.history[2]["test_loss"] for run in test.values())  # both reach it by their third evaluation
    rated = dataclasses.replace(cells["fresh"], seed=100)
    rates = {rated: losing(rated, lambda _: goal - 0.1)}
    found = measure(Evidence(rates, test), 32, 10, [0, 1], places=(0.5,))
    assert (found["above"], found["target"]) == (0.10, pytest.approx(goal))
    [place] = found["places"]
    assert place["loading_seconds"] > 0 and place["step_seconds"] > 0
    for arm in cells:
        got = place["arms"][arm]
        assert got["loss"] == pytest.approx(got["recorded_loss"], abs=1e-6) and got["loss"] <= goal + 1e-6
        assert got["to_target"] <= got["gradients"] and got["iterations"] * 32 == got["gradients"]
    harder = {rated: losing(rated, lambda _: goal - 0.2)}  # only L* + 0.20 is reached now
    again = measure(Evidence(harder, test), 32, 10, [0, 1], places=(0.5,))
    assert (again["above"], again["target"]) == (0.20, pytest.approx(goal))
    with pytest.raises(ValueError, match="not recorded"):
        measure(Evidence(rates, test), 32, 11, [0, 1])


def test_the_check_shows_the_error_of_the_prediction(tmp_path):
    arms = {
        "fresh": {"iterations": 100, "gradients": 51_200, "to_target": 50_000.0, "seconds": 110.0},
        "reuse": {"iterations": 120, "gradients": 61_440, "to_target": 60_000.0, "seconds": 30.0},
    }
    path = tmp_path / "payoff.json"
    path.write_text(
        json.dumps({"m": 512, "above": 0.10, "places": [{"loading_seconds": 1.0, "step_seconds": 0.2, "arms": arms}]})
    )
    [row] = payoff_page.check_table(evidence_of({"fresh": [5e5] * 8, "reuse": [6e5] * 8}), path).to_dict("records")
    assert row["fresh: predicted (error)"] == "100 (-9.1%)"  # 100 iterations of 1 s of loading
    assert row["reuse: predicted (error)"] == "24 (-20.0%)"  # 120 of 0.2 s
    assert row["reuse / fresh"] == "0.27" and row["predicted for this seed"] == "0.24"
    assert row["the mean of all seeds"] == "0.24 (0.24 to 0.24)"


# --- benchmarks/moment.py


def test_the_loss_one_iteration_later_is_that_of_as_many_iterations():
    import moment
    from payoff import train_to

    cell = Cell(m=64, K=5, dataset="digits", lr=0.05, width=0.1, epochs=3, train_size=320, evaluate_every=500)
    later, data = moment.one_later(train(cell, device="cpu")), datasets.load(cell)
    pipeline = datasets.Resident(cell, data.train, torch.device("cpu"))
    counts = [entry["iterations"] for entry in cell.evaluations()]
    assert len(later) == len(counts) - 1 > 3
    for count, loss in zip(counts, later):
        assert loss == pytest.approx(train_to(cell, pipeline, count + 1, data.test)[1], rel=1e-6)


def test_losses_one_iteration_later_take_the_place_of_the_planned_ones(tmp_path):
    evidence = evidence_of({"fresh": [5e5] * 8, "reuse": [6e5] * 8})
    runs = [
        {"m": 512, "seed": cell.seed, "losses": [loss - 0.1 for loss in module.losses(run)[:-1]]}
        for cell, run in of_arm(evidence.test, 512, "reuse").items()
    ]
    (tmp_path / "moment.json").write_text(json.dumps({"runs": runs}))
    [row] = payoff_page.moment_table(evidence, tmp_path / "moment.json").to_dict("records")
    assert row["loss one iteration later, less as planned"] == "-0.100 ± 0.000"
    assert (row["lowest loss, as planned"], row["lowest loss, one iteration later"]) == ("0.850", "0.750")
    assert row["reuse / fresh to L* + 0.10, as planned"] == "1.20 (1.20 to 1.20)"
    # on the straight line 0.1 of 1.3 earlier, one minibatch later
    assert row["reuse / fresh to L* + 0.10, one iteration later"][:4] == f"{(6e5 * 12 / 13 + 512) / 5e5:.2f}"
    assert payoff_page.moment_table(evidence, tmp_path / "none.json").empty
