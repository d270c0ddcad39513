"""Does it matter that `reuse` is evaluated right after five updates on one minibatch?

    python benchmarks/moment.py         once the grid `payoff` is recorded; some 40 minutes on two CPU cores

Trains the runs of `reuse` in the test of docs/payoff-plan.md again, in the same way. At every evaluation but the last
the loss on the test set is also taken one iteration later, after the first use of the next minibatch. Raises ValueError
where the losses at the planned moments are not those recorded: it takes a machine, and preloaded libraries, with which
they are. Writes benchmarks/results/moment.json.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

from torch.optim.optimizer import register_optimizer_step_post_hook
from tqdm import tqdm

from persist import training
from persist.evidence.payoff import SIZES, ended, load, losses, of_arm
from persist.notebook.cores import borrowed_cores
from persist.provenance import environment
from persist.record import Record, write_atomically


def one_later(record: Record, cores: list[int] | None = None) -> list[float]:
    """The test losses of the record's run, each one iteration after its evaluation."""
    evaluate, waiting, found = training.evaluate, [], []

    def at_evaluation(*arguments):
        waiting.append(arguments)
        return evaluate(*arguments)

    def after_iteration(*_):
        if waiting:
            found.append(evaluate(*waiting.pop())[0])

    hook = register_optimizer_step_post_hook(after_iteration)
    try:
        with mock.patch.object(training, "evaluate", at_evaluation):
            again = training.train(record.cell, device="cpu", cores=cores)
    finally:
        hook.remove()
    if losses(again) != losses(record):
        raise ValueError(f"{record.cell.name}: on this machine its losses are not the recorded ones")
    return found


def on_a_core(record: Record) -> list[float]:
    with borrowed_cores(1) as cores:
        return one_later(record, cores)


if __name__ == "__main__":
    records = [record for m in SIZES for record in ended(of_arm(load().test, m, "reuse"))]
    with ProcessPoolExecutor(2) as pool:
        found = list(tqdm(pool.map(on_a_core, records), total=len(records)))
    runs = [{"m": r.cell.m, "seed": r.cell.seed, "losses": later} for r, later in zip(records, found)]
    where = environment(device=None, data_sha256=records[0].environment["data_sha256"], threads=1)
    result = {"environment": where, "runs": runs}
    write_atomically("benchmarks/results/moment.json", (json.dumps(result, indent=1) + "\n").encode())
