"""The answer in five rows: question, answer, evidence. Each from records, or "not recorded yet"."""

from pathlib import Path

from persist.evidence import payoff, readings
from persist.evidence.compare import accuracy_gap, best_accuracy, mean_accuracy
from persist.evidence.curves import count
from persist.evidence.select import seconds, select
from persist.grids import find_records, load_grid
from persist.record import Record

NOT_YET = "Not recorded yet."
CLEAR = 0.01  # a gain in accuracy that is called one


def grid_records(root, grids, *names: str) -> list[Record]:
    """What is recorded of the grids that are there, each run once."""
    paths = [path for path in (Path(grids) / f"{name}.yaml" for name in names) if path.exists()]
    records = [record for path in paths for record in find_records(load_grid(path).cells, [Path(root) / path.stem])]
    return list({record.cell: record for record in records}.values())


def recorded(root, grids="grids") -> str:
    """How much of every grid is recorded, a line each."""
    lines = []
    for path in sorted(path for path in Path(grids).glob("*.yaml") if path.stem != "smoke"):
        grid, records = load_grid(path), grid_records(root, grids, path.stem)
        done = sum(record.status != "unfinished" for record in records)
        going = [f"{r.history[-1]['epoch']} of {r.cell.epochs} epochs" for r in records if r.status == "unfinished"]
        lines.append(
            f"- `{path.stem}`: {done} of {count(len(grid.cells), 'run')}"
            + ("; unfinished: " + ", ".join(going) if going else "")
        )
    return "\n".join(lines)


def answers(root, grids="grids") -> str:
    """The table at the top of the README."""
    finished = [record for record in grid_records(root, grids, "paper", "paper-seeds") if record.status != "unfinished"]
    rows = [
        ("Does a larger K do better per epoch?", *_per_epoch(finished)),
        ("And in computing time?", *_in_time(finished)),
        ("Does it make large minibatches competitive?", *_large(finished)),
        ("Which network was it?", *_network(root, grids)),
        ("Should I use it?", *_use(root, grids)),
    ]
    head = "| question | answer | evidence |\n| --- | --- | --- |\n"
    return head + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _of(records, m, K) -> list[Record]:
    return select(records, m, "constant").get(K, [])


def _per_epoch(records) -> tuple[str, str]:
    found = {}
    for m in (32, 256, 512):
        one, five = _of(records, m, 1), _of(records, m, 5)
        if one and five and (gap := accuracy_gap(mean_accuracy, five, one)):
            found[m] = gap
    if not found:
        return NOT_YET, ""
    words = {
        m: "yes" if gap.low > 0 and gap.mean >= CLEAR else "no" if gap.high < CLEAR else "not told apart"
        for m, gap in found.items()
    }
    answer = "; ".join(
        f"{word.capitalize()} at m = {', '.join(str(m) for m in words if words[m] == word)}"
        for word in dict.fromkeys(words.values())
    )
    gaps = "; ".join(f"m = {m}: {gap} (n = {gap.seeds})" for m, gap in found.items())
    return f"{answer}.", f"accuracy over all epochs, K = 5 less K = 1: {gaps}"


def _in_time(records) -> tuple[str, str]:
    ratios = {}
    for m in (32, 256, 512):
        one, five = _of(records, m, 1), _of(records, m, 5)
        if one and five:
            ratios[m] = seconds(five[0], five[0].history[-1]) / seconds(one[0], one[0].history[-1])
    if not ratios:
        return NOT_YET, ""
    text = "; ".join(f"m = {m}: {ratio:.2f}" for m, ratio in ratios.items())
    return (
        "With the data in memory K uses cost K times one; only a slow loader hides them ([time](docs/time.md)).",
        f"seconds of one core for 100 epochs, K = 5 over K = 1: {text}",
    )


def _large(records) -> tuple[str, str]:
    runs = {(m, K): _of(records, m, K) for m in (512, 32) for K in (1, 5)}
    if not all(runs.values()):
        return NOT_YET, ""
    best = {key: max(map(best_accuracy, of)) for key, of in runs.items()}
    gap = accuracy_gap(best_accuracy, runs[512, 5], runs[32, 1])
    return (
        f"m = 512 with K = 5 is {abs(gap.mean):.3f} {'above' if gap.mean > 0 else 'below'} m = 32 with K = 1.",
        "best accuracy: "
        + "; ".join(f"m = {m}, K = {K}: {value:.4f}" for (m, K), value in best.items())
        + f" (n = {gap.seeds})",
    )


def _network(root, grids) -> tuple[str, str]:
    records = grid_records(root, grids, "readings", "readings-start")
    if not records:
        return NOT_YET, ""
    tried = count(len(readings.readings(records)), "reading")
    return readings.describe_choice(
        records
    ), f"{tried} of the text tried, {count(len(records), 'run')} ([which network](docs/reading.md))"


def _use(root, grids) -> tuple[str, str]:
    return payoff.short(payoff.load(root, grids))
