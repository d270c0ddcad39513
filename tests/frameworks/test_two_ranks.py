"""Two processes, K = 3: every rank has its own share, reshuffled every epoch, and learns what a loop by hand learns."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy import EPOCHS, EXAMPLES, K, M


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["ddp", "lightning", "accelerate", "transformers"])
def test_two_ranks(framework, tmp_path):
    script = Path(__file__).with_name("two_ranks.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run([*torchrun, script, framework, tmp_path], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    per_epoch = EXAMPLES // 2 // M * K  # iterations of a rank
    orders = []
    for epoch in range(EPOCHS):
        shares = []
        for seen, *_ in ranks:
            uses = seen[epoch * per_epoch : (epoch + 1) * per_epoch]
            assert all(uses[n] == uses[n - n % K] for n in range(per_epoch)), "a minibatch comes K times in a row"
            shares.append([i for ids in uses[::K] for i in ids])
        assert sorted(shares[0] + shares[1]) == list(range(EXAMPLES)), "no example is left out or with both ranks"
        orders.append(shares)
    assert orders[0] != orders[1], "the next epoch has another order"
    for seen, weights, by_hand, refused in ranks:
        assert len(seen) == EPOCHS * per_epoch
        assert torch.equal(weights, by_hand) and torch.equal(weights, ranks[0][1])
        assert refused and "2 processes train together" in refused and "sampler=DistributedSampler(dataset)" in refused
