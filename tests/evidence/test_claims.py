"""The paper's claims: each check on records made up so that it holds, so that it fails, and so that it is open."""

import json
import math

import pytest
from helpers import make_record

from persist import Cell
from persist.evidence.claims import CLAIMS, above, band, comparable, judge_all, judged, verdict_table
from persist.evidence.compare import Gap

GRID = [
    (8, 1, "constant"),
    *((m, K, "constant") for m in (32, 256, 512) for K in (1, 2, 5)),
    *((m, K, "kmu") for m in (32, 256, 512) for K in (2, 5)),
]
TOP = {(8, 1): 0.645, (32, 1): 0.6364, (32, 2): 0.637, (32, 5): 0.6445, (256, 1): 0.59, (256, 2): 0.62, (256, 5): 0.64}
TOP |= {(512, 1): 0.575, (512, 2): 0.605, (512, 5): 0.64}
RISE = {(8, 1): 5, (32, 1): 60, (32, 2): 48, (32, 5): 28, (256, 1): 70, (256, 2): 45, (256, 5): 30}
RISE |= {(512, 1): 100, (512, 2): 55, (512, 5): 30}  # epochs of a straight line from 0.48 below
PEAK = {(32, 1): 80, (32, 2): 50, (32, 5): 30, (256, 1): 90}
LOWEST = {1: 60, 2: 30, 5: 8}  # epoch of the lowest loss at m = 32


def accuracy(m, K, e):
    away = 0.0002 * abs(e - PEAK.get((m, K), RISE[m, K]))
    return TOP[m, K] - away - 0.48 * max(0, 1 - e / RISE[m, K])


def loss(m, K, e):
    return 1 + (0.8 * (e - LOWEST[K]) / 100) ** 2 if m == 32 else 2 - 0.05 * K - e / 250


def world(change=lambda cell, entry: None, seed=0, keep=lambda cell: True, **fields):
    """Records of every run, as the paper tells it, after `change` has been applied to each entry of their histories."""
    records = []
    for m, K, policy in GRID:
        cell = Cell(m=m, K=K, lr_policy=policy, seed=seed, **fields)
        if not keep(cell):
            continue
        record = make_record(cell, seconds=7.0)  # an epoch takes 7 K seconds: data in memory
        for entry in record.history:
            entry["test_accuracy"] = accuracy(m, K, entry["epoch"]) + 0.03 * (policy == "kmu")
            entry["test_loss"] = loss(m, K, entry["epoch"])
            change(cell, entry)
        records.append(record)
    return records


def seeds(*shifts, cells=((32, 1), (32, 5), (512, 1), (512, 5)), **changes):
    """The world of seed 0, and those cells again with further seeds, all accuracies of one (m, K) moved by what
    `shifts` give for its seed."""
    return [
        record
        for seed, by_cell in enumerate(shifts)
        for record in world(
            lambda cell, entry, by_cell=by_cell: entry.update(
                test_accuracy=entry["test_accuracy"]
                + (by_cell.get((cell.m, cell.K), 0.0) if cell.lr_policy == "constant" else 0.0)
            ),
            seed=seed,
            keep=lambda cell, seed=seed: seed == 0 or ((cell.m, cell.K) in cells and cell.lr_policy == "constant"),
            **changes,
        )
    ]


def shift(m, K, key, amount, policy="constant"):
    def change(cell, entry):
        if (cell.m, cell.K, cell.lr_policy) == (m, K, policy):
            entry[key] += amount(entry["epoch"]) if callable(amount) else amount

    return change


def put(m, K, key, value, policy="constant"):
    return lambda cell, entry: (
        entry.update({key: value(entry["epoch"]) if callable(value) else value})
        if (cell.m, cell.K, cell.lr_policy) == (m, K, policy)
        else None
    )


def loader(ratio=lambda c, K: max(1, K * c) / max(1, c), at=(0.05, 0.1, 0.2, 0.25, 0.5, 0.57, 0.65, 1.0, 2.0)):
    """(C/L, K) -> time(K)/time(1): K = 5 as if loading were hidden, K = 2 as if it were not."""
    return {(c, K): ratio(c, K) if K == 5 else (1 + K * c) / (1 + c) for c in at for K in (2, 5)}


def judge(name, records, loading=None, **options):
    verdicts = judge_all(records, loader() if loading is None else loading, **options)
    return next(verdict for verdict in verdicts if verdict["claim"] == name)


def test_where_all_is_as_the_paper_says_every_claim_holds():
    verdicts = {v["claim"]: v for v in judge_all(world(), loader())}
    expected = dict.fromkeys(verdicts, "holds") | {"m32-best-K1": "used for the choice"}
    expected["m32-best-gain"] = "undecided"  # the paper's own gain, 0.0081, is within the interval of one test set
    assert {name: v["verdict"] for name, v in verdicts.items()} == expected, verdicts
    assert len(verdicts) == len(CLAIMS) and json.loads(json.dumps(verdicts)) == verdicts


@pytest.mark.parametrize(
    "name, change, expected",
    [
        ("faster-epochs", put(512, 2, "test_accuracy", 0.5), "fails"),  # never reaches it
        ("faster-epochs", put(512, 2, "test_accuracy", lambda e: 0.6 * (e >= 80)), "holds"),
        ("faster-epochs", put(512, 2, "test_accuracy", lambda e: 0.6 * (e >= 81)), "undecided"),
        ("faster-epochs", put(512, 2, "test_accuracy", lambda e: 0.6 * (e >= 100)), "fails"),
        ("generalises", shift(512, 5, "test_accuracy", -0.11), "fails"),
        ("generalises", shift(512, 5, "test_accuracy", -0.08), "undecided"),  # 0.015 +- 0.0140 below
        ("generalises-more", shift(512, 2, "test_accuracy", -0.02), "undecided"),  # +0.01 +- 0.0140
        ("generalises-more", shift(512, 2, "test_accuracy", -0.04), "fails"),
        ("generalises-more", shift(512, 2, "test_accuracy", -0.015), "holds"),
        ("final", shift(32, 2, "test_accuracy", 0.03), "undecided"),  # 0.657
        ("final", shift(32, 2, "test_accuracy", 0.06), "fails"),
        ("final", shift(32, 2, "test_accuracy", -0.12), "fails"),
        ("final", shift(32, 5, "test_accuracy", -0.3), "holds"),  # looked at by the choice: left out
        ("competitive", shift(256, 5, "test_accuracy", -0.05), "fails"),
        ("competitive", shift(256, 5, "test_accuracy", -0.01), "undecided"),
        ("competitive", shift(512, 5, "test_accuracy", -0.05), "fails"),
        ("competitive", shift(8, 1, "test_accuracy", 0.05), "fails"),
        ("competitive", shift(32, 1, "test_accuracy", 0.05), "fails"),
        ("competitive", shift(32, 5, "test_accuracy", 0.2), "holds"),  # no opponent: K is not chosen on the test set
        ("not-competitive", shift(256, 1, "test_accuracy", 0.046), "fails"),
        ("not-competitive", shift(256, 1, "test_accuracy", 0.02), "undecided"),
        ("grows", shift(512, 5, "test_accuracy", -0.15), "fails"),
        ("grows", shift(512, 5, "test_accuracy", -0.07), "undecided"),
        ("m32-epochs", shift(32, 5, "test_accuracy", -0.06), "fails"),
        ("m32-epochs", shift(32, 5, "test_accuracy", -0.05), "undecided"),
        ("m32-best-gain", shift(32, 5, "test_accuracy", 0.01), "holds"),
        ("m32-best-gain", shift(32, 5, "test_accuracy", -0.005), "undecided"),
        ("m32-best-gain", shift(32, 5, "test_accuracy", -0.03), "fails"),
        ("m32-best-K5", shift(32, 5, "test_accuracy", lambda e: 0.02 * (e == 90)), "fails"),  # 30 is not near the best
        ("m32-best-K5", shift(32, 5, "test_accuracy", 0.03), "undecided"),  # one run: how seeds differ is not known
        ("m32-overfitting", put(32, 5, "test_loss", lambda e: 1 + abs(e - 24)), "holds"),  # 24 of the 30 of K = 2
        ("m32-overfitting", put(32, 5, "test_loss", lambda e: 1 + abs(e - 30)), "undecided"),
        ("m32-overfitting", put(32, 5, "test_loss", lambda e: 1 + abs(e - 38)), "fails"),
        ("m256-overfitting", put(256, 5, "test_loss", lambda e: 1 + 0.004 * e), "holds"),  # 0.40 against 0.54
        ("m256-overfitting", put(256, 5, "test_loss", lambda e: 1 + 0.005 * e), "undecided"),
        ("m256-overfitting", put(256, 5, "test_loss", lambda e: 1 + 0.008 * e), "fails"),
        ("m256-overfitting", put(32, 5, "test_loss", lambda e: 2 - e / 100), "undecided"),  # m = 32 does not overfit
        ("m512-accuracy", shift(512, 2, "test_accuracy", 0.03), "undecided"),
        ("m512-accuracy", shift(512, 2, "test_accuracy", 0.05), "fails"),
        ("m512-loss", shift(512, 5, "test_loss", 0.14), "undecided"),  # 0.01 below K = 2
        ("m512-loss", shift(512, 5, "test_loss", 0.18), "fails"),
        *((f"kmu-m{m}", shift(m, 5, "test_accuracy", -0.02, "kmu"), "undecided") for m in (32, 256, 512)),
        *((f"kmu-m{m}", shift(m, 2, "test_accuracy", -0.1, "kmu"), "fails") for m in (32, 256, 512)),
    ],
)
def test_each_claim_about_accuracy_and_loss_holds_fails_or_is_open(name, change, expected):
    verdict = judge(name, world(change))
    assert verdict["verdict"] == expected, verdict
    assert verdict["in_memory"] is verdict["paper_seconds"] is None


@pytest.mark.parametrize(
    "name, change, ratio, expected",
    [
        ("faster", put(512, 2, "test_accuracy", lambda e: 0.6 * (e >= 66)), None, "holds"),  # 66 x 1.2 at C/L = 0.25
        ("faster", put(512, 2, "test_accuracy", lambda e: 0.6 * (e >= 80)), None, "undecided"),
        ("faster", put(512, 2, "test_accuracy", 0.5), None, "fails"),
        ("m32-no-gain", shift(32, 5, "test_accuracy", 0.2), None, "fails"),
        ("m32-no-gain", shift(32, 5, "test_accuracy", 0.04), None, "undecided"),
        ("m32-time", None, lambda c, K: 1 + c, "holds"),  # 3.0 at C/L = 2
        ("m32-time", None, lambda c, K: 1.9, "fails"),
        ("m32-time", None, lambda c, K: 4.4, "fails"),
        ("m32-time", None, lambda c, K: 4.2, "undecided"),
        ("m32-time", None, lambda c, K: 1.0 if c < 0.5 else 5.0, "undecided"),  # between two loaders
        ("m32-same-time", put(32, 5, "test_accuracy", lambda e: 0.6 - abs(e - 50) / 200), None, "undecided"),
        ("m32-same-time", put(32, 5, "test_accuracy", lambda e: 0.6 - abs(e - 90) / 200), None, "fails"),
        ("m32-same-time", put(32, 5, "test_accuracy", lambda e: 0.6 - abs(e - 8) / 200), None, "fails"),
        ("m32-overfitting-time", put(32, 5, "test_loss", lambda e: 1 + abs(e - 12)), None, "undecided"),
        ("m32-overfitting-time", put(32, 5, "test_loss", lambda e: 1 + abs(e - 24)), None, "fails"),
        ("m256-time", None, lambda c, K: 1.4 + c, "undecided"),
        ("m256-time", None, lambda c, K: 1.5 + c, "fails"),
        ("m512-time", None, lambda c, K: 1.5 + c, "fails"),
        ("loading", None, lambda c, K: 4.6, "undecided"),
        ("loading", None, lambda c, K: 4.9, "fails"),
        ("loading", None, lambda c, K: 2.0 if c <= 0.5 else 5.0, "holds"),  # where loading is the slower by far
    ],
)
def test_claims_about_time_are_judged_behind_a_data_loader(name, change, ratio, expected):
    verdict = judge(name, world(change) if change else world(), loader(ratio) if ratio else None)
    assert verdict["verdict"] == expected, verdict


def test_the_three_ways_to_judge_time():
    """In memory K = 5 costs 5 and K = 2 costs 2; the paper has no seconds of K = 2, and none but for m = 32."""
    verdicts = {v["claim"]: v for v in judge_all(world(), loader())}
    memory = {name: v["in_memory"]["verdict"] for name, v in verdicts.items() if v["in_memory"]}
    assert memory == {
        "faster": "fails", "loading": "fails", "m32-no-gain": "holds", "m32-time": "fails",
        "m32-same-time": "undecided", "m32-overfitting-time": "undecided", "m256-time": "fails", "m512-time": "fails",
    }  # fmt: skip
    paper = {name: v["paper_seconds"] for name, v in verdicts.items() if v["paper_seconds"]}
    assert set(paper) == {"m32-no-gain", "m32-same-time", "m32-overfitting-time"}
    assert {v["verdict"] for v in paper.values()} == {"holds"}
    assert not any("K = 2" in v["measured"] for v in paper.values())
    assert "1.07" in paper["m32-same-time"]["measured"]  # 30 epochs of 20 s over 80 of 7 s
    assert "0.38" in paper["m32-overfitting-time"]["measured"]  # 8 of 20 s over 60 of 7 s


def test_time_is_never_judged_in_memory():
    for name in (claim.name for claim in CLAIMS if claim.loaders):
        without = {(c, K): ratio for (c, K), ratio in loader(at=(0.25, 0.57, 2.0)).items() if (c, K) != (0.25, 5)}
        # none; none slow; none fast; no K = 5 behind the only fast one
        for loading in ({}, loader(at=(0.5, 0.57, 2.0)), loader(at=(0.05, 0.57)), without):
            verdict = judge(name, world(), loading)
            assert verdict["verdict"] == "undecided" and verdict["measured"].startswith("not recorded yet"), name
    assert judge("m512-accuracy", world(), {})["verdict"] == "holds"


def test_loaders_that_disagree_and_loaders_that_are_not_there():
    late = put(512, 2, "test_accuracy", lambda e: 0.6 * (e >= 75))  # 0.75 x 1.05 at C/L = 0.05, 0.75 x 1.2 at 0.25
    verdict = judge("faster", world(late))
    assert verdict["verdict"] == "undecided"
    assert verdict["measured"].startswith("it depends on the loader: C/L = 0.05: ")
    none = judge("m32-same-time", world(), loader(lambda c, K: 1.1))
    assert none["verdict"] == "undecided"
    assert none["measured"] == "behind no loader measured; K = 5 takes 1.10 to 1.10 times as long"


@pytest.mark.parametrize("epoch, expected", [(60, "holds"), (75, "undecided"), (101, "fails")])
def test_where_no_loader_is_as_slow_as_the_papers(epoch, expected):
    """Behind the cheapest K = 2 costs 1.2 times as much as K = 1, nowhere less than 1: 0.60 to 0.72, 0.75 to 0.90."""
    slow = loader(lambda c, K: 1.3 + c, at=(0.25, 0.5, 1.0))
    verdict = judge("faster", world(put(512, 2, "test_accuracy", lambda e: 0.6 * (e >= epoch))), slow)
    assert verdict["verdict"] == expected, verdict
    assert "C/L = 0.00: " in verdict["measured"] and "C/L = 0.25: " in verdict["measured"]


def test_the_cost_in_memory_is_measured_on_one_machine_with_the_same_code():
    records = world()
    for record in records:
        if record.cell.K == 5:
            record.environment["device"] = "Another GPU"
    verdict = judge("m32-time", records)
    assert verdict["in_memory"]["measured"] == "no seed has m = 32, K = 5 and K = 1 on one machine with the same code"
    assert verdict["verdict"] == "holds" and judge("m32-epochs", records)["verdict"] == "holds"


def unfinished(m, K, epochs, records):
    return [
        make_record(r.cell, stopped_at=epochs) if (r.cell.m, r.cell.K, r.cell.lr_policy) == (m, K, "constant") else r
        for r in records
    ]


def test_an_unfinished_run_decides_nothing():
    records = unfinished(512, 2, 37, world())
    needing = "faster faster-epochs generalises generalises-more final m512-accuracy m512-loss kmu-m512"
    for name in needing.split():
        verdict = judge(name, records)
        assert (verdict["verdict"], verdict["measured"]) == ("undecided", "m = 512, K = 2: 37 of 100 epochs"), name
    assert judge("competitive", records)["verdict"] == "holds", "it does not need that run"
    more = [*world(), *unfinished(512, 2, 99, world(seed=1))]
    one, two = (judge("m512-accuracy", runs)["measured"] for runs in (world(), more))
    assert two == one.replace("one run each", "1-2 seeds"), "a seed of K = 2 does not count before it ends"


def test_what_is_not_recorded_is_said():
    for verdict in judge_all([]):
        assert verdict["verdict"] == "undecided" and "not recorded yet" in verdict["measured"], verdict
    assert judge("m512-accuracy", [])["measured"] == "m = 512, K = 5: not recorded yet"


def diverged(m, K, records, policy="constant"):
    return [
        make_record(r.cell, diverged_at=3) if (r.cell.m, r.cell.K, r.cell.lr_policy) == (m, K, policy) else r
        for r in records
    ]


@pytest.mark.parametrize(
    "name, lost, expected",
    [
        ("m512-accuracy", (512, 5), "fails"),
        ("m512-accuracy", (512, 1), "undecided"),  # nothing to compare with
        ("m512-accuracy", (512, 2), "undecided"),
        ("not-competitive", (512, 1), "undecided"),
        ("final", (512, 1), "fails"),
        ("m32-best-K5", (32, 5), "fails"),
        ("kmu-m32", (32, 5), "undecided"),
        ("kmu-m32", (32, 5, "kmu"), "fails"),
    ],
)
def test_a_run_that_diverged_loses_and_an_opponent_that_did_decides_nothing(name, lost, expected):
    records = world()
    verdict = judge(name, diverged(*lost[:2], records, *lost[2:]))
    assert verdict["verdict"] == expected and verdict["measured"].endswith("1 of 1 diverged"), verdict


def test_the_quoted_best_is_judged_by_the_spread_of_seeds():
    """Pooled over the four configurations with two seeds: deviations of +-0.01 in one of them, of none in the others: a
    variance of 0.0002 / 4; t(4) = 2.776; one run is predicted from two: 2.776 * 0.00707 * sqrt(1.5) = 0.0240."""
    spread = ({(512, 1): 0.01}, {(512, 1): -0.01})
    for shift, expected in ((0.023, "holds"), (0.025, "fails"), (-0.023, "holds"), (-0.025, "fails")):
        records = seeds(*({**by_cell, (32, 5): shift} for by_cell in spread))
        verdict = judge("m32-best-K5", records)
        assert verdict["verdict"] == expected and "± 0.0240 (2 seeds)" in verdict["measured"], verdict
    alike = seeds({}, {})  # seeds that agree by chance: no less than two standard errors of two test sets
    assert "± 0.0135 (2 seeds)" in judge("m32-best-K5", alike)["measured"]


def test_seeds_that_disagree_on_the_epoch_of_the_best_leave_it_open():
    records = [r for r in seeds({}, {}) if (r.cell.m, r.cell.K, r.cell.seed) != (32, 5, 1)]
    late = world(shift(32, 5, "test_accuracy", lambda e: 0.02 * (e == 90)), 1, lambda cell: (cell.m, cell.K) == (32, 5))
    verdict = judge("m32-best-K5", records + [r for r in late if r.cell.lr_policy == "constant"])
    assert verdict["verdict"] == "undecided" and "epochs 28 to 53 (seed 0), 90 to 90 (seed 1)" in verdict["measured"], (
        verdict
    )


@pytest.mark.parametrize(
    "gains, expected",
    [
        ((0.0004, 0.0001, 0.0002), "holds"),  # +0.0353 and more: each surely
        ((-0.026, -0.0265, -0.0255), "undecided"),  # 0.009 +- 0.0012: surely above 0, but below 0.01
        ((-0.034, -0.035, -0.033), "fails"),
        ((0.03, -0.05, -0.03), "undecided"),
    ],
)
def test_several_seeds_are_judged_in_pairs(gains, expected):
    """Each seed has a level of its own, far more different than the gains: only within pairs are they seen."""
    shifts = [{(512, K): 0.02 * s + (gain if K == 5 else 0) for K in (1, 2, 5)} for s, gain in enumerate(gains)]
    verdict = judge("m512-accuracy", seeds(*shifts, cells=[(512, K) for K in (1, 2, 5)]))
    assert verdict["verdict"] == expected and "(3 seeds)" in verdict["measured"], verdict


def test_the_papers_own_gain_at_m_32_needs_an_interval_above_0_alone():
    """0.0081, with three seeds that agree; at m = 512 so little would not be clear."""
    assert judge("m32-best-gain", seeds({}, {}, {}))["verdict"] == "holds"
    less = {(512, 5): -0.0569}
    verdict = judge("m512-accuracy", seeds(less, less, less, cells=[(512, K) for K in (1, 2, 5)]))
    assert verdict["verdict"] == "fails" and "K = 5 against 1: +0.0081 ± 0.0000" in verdict["measured"]


def test_seeds_without_a_partner_are_left_out():
    records = [r for r in seeds({}, {}) if r.cell.m != 512 or r.cell.seed == (0 if r.cell.K == 5 else 1)]
    verdict = judge("generalises", records)
    assert verdict["verdict"] == "undecided" and verdict["measured"] == "m = 512, K = 2: not recorded yet"
    of_K_2 = world(seed=1, keep=lambda cell: cell.m == 512 and cell.K == 2)
    only = judge("m512-accuracy", [r for r in records if r.cell.K != 2] + of_K_2)
    assert only["measured"] == "no seed has all of m = 512, K = 5; m = 512, K = 1"


def test_what_was_used_for_the_choice_is_never_said_to_hold():
    words = {name: judge(name, world())["verdict"] for name in ("m32-best-K1", "m32-best-K5", "m32-same-time")}
    assert words == {"m32-best-K1": "used for the choice", "m32-best-K5": "holds", "m32-same-time": "holds"}
    tie = {"used": {(32, 1), (32, 5)}}
    gain = seeds(*({(32, 5): 0.01},) * 3)
    for name in (*words, "m32-best-gain"):
        verdict = judge(name, gain, **tie)
        assert verdict["verdict"] == "used for the choice", name
        for way in ("in_memory", "paper_seconds"):
            assert verdict[way] is None or verdict[way]["verdict"] in ("used for the choice", "undecided")
    assert judge("m32-best-K5", world(shift(32, 5, "test_accuracy", 0.3)), **tie)["verdict"] != "holds"
    assert judge("m32-epochs", world(), **tie)["verdict"] == "holds"


@pytest.mark.parametrize(
    "other", [{"lr": 0.01}, {"width": 0.5}, {"train_size": 5120}, {"epochs": 20}, {"pipeline": "loader"}]
)
def test_runs_of_another_scale_are_refused(other):
    [(field, value)] = other.items()
    with pytest.raises(ValueError, match=f"claims: {field} must be .*, not {value!r}"):
        judge_all(world(**other))


def test_runs_of_two_readings_are_refused():
    assert {v["verdict"] for v in judge_all(world(reduction="sum"), loader())} >= {"holds"}
    with pytest.raises(ValueError, match="claims: reduction must be 'mean', not 'sum'"):
        judge_all(world() + world(reduction="sum", seed=1))


@pytest.mark.parametrize(
    "gap, clearly, at_all, comparably",
    [
        (Gap(0.010, 0.009, 3), True, True, True),
        (Gap(0.009, 0.008, 3), None, True, True),  # surely above 0, but by less than 0.01
        (Gap(0.009, 0.0005, 3), False, True, True),
        (Gap(0.012, 0.013, 3), None, None, True),
        (Gap(0.0, 0.011, 3), None, None, True),
        (Gap(0.0, 0.009, 3), False, None, True),
        (Gap(-0.015, 0.006, 3), False, False, None),
        (Gap(-0.025, 0.004, 3), False, False, False),
    ],
)
def test_how_a_gap_decides(gap, clearly, at_all, comparably):
    assert (above(gap), above(gap, least=0), comparable(gap)) == (clearly, at_all, comparably)


def test_how_a_band_decides():
    decide = band(3.6, 4.3, 2.4, 2.0)
    assert [decide(x) for x in (1.9, 2.0, 2.1, 2.4, 3.0, 3.6, 3.7, 4.3, 5.0)] == [
        False, False, None, True, True, True, None, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "answers, together", [((True, True), True), ((True, None), None), ((None, False), False), ((True, False), False)]
)
def test_how_answers_combine(answers, together):
    found = dict(zip((0.5, math.inf), answers))
    what = judged(found.get, "a ratio", {"one": 0.5, "other": math.inf}, seeds=[3])
    assert what == (together, "a ratio: one: 0.500; other: never (3 seeds)")


def test_claims_are_told_apart_and_no_run_is_said_to_be_better():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS) and all(claim.where and claim.text for claim in CLAIMS)
    assert "inferred" in next(claim for claim in CLAIMS if claim.name == "m512-time").text
    for verdicts in (judge_all([]), judge_all(world(), loader()), judge_all(seeds({}, {}), loader())):
        assert not {"better", "worse", "much"} & set(verdict_table(verdicts).replace(",", " ").split())


def test_the_table_has_a_row_for_every_claim_and_a_column_for_every_way_to_judge_time():
    head, plain, timed = verdict_table(judge_all(world(), loader())).strip().split("\n\n")
    assert head.startswith(f"{len(CLAIMS)} claims: holds {len(CLAIMS) - 2}, used for the choice 1, undecided 1. ")
    assert "8 are about time, by time ratios of narrower networks behind loaders that are slow" in head
    assert "; 5 of these fail with the data in memory." in head
    for table, columns in ((plain, 4), (timed, 6)):
        rows = table.splitlines()
        assert {row.count(" | ") + 1 for row in rows if "---" not in row} == {columns}
    assert len(plain.splitlines()) + len(timed.splitlines()) == len(CLAIMS) + 4
    assert "| **holds** | C/L = 0.50: " in timed and "| fails: " in timed and timed.splitlines()[2].endswith("| - |")
    assert verdict_table(judge_all([])).startswith(f"{len(CLAIMS)} claims: undecided {len(CLAIMS)}.")
