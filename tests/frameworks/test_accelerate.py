"""accelerate: wrap what prepare() returns."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from accelerate.utils import GradientAccumulationPlugin
from torch.utils.data import DataLoader, IterableDataset
from toy import EPOCHS, EXAMPLE_IDS, EXAMPLES, RATE, K, M, Replay, Toy, by_hand, new_loader, weights

from persist import persistent
from persist.kmu import scaled_rates


def prepared(accelerator=None):
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.5)
    accelerator = accelerator or Accelerator(cpu=True)
    return accelerator, model, *accelerator.prepare(model, optimizer, new_loader())


def test_wrapped_after_prepare_it_trains_like_a_loop_by_hand():
    accelerator, model, parallel, optimizer, loader = prepared()
    reused = persistent(loader, K)
    for _ in range(EPOCHS):
        for _, ids in reused:
            loss = parallel(ids)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
    one, two = torch.tensor(model.seen[::K]).view(EPOCHS, EXAMPLES)
    assert one.sort().values.tolist() == two.sort().values.tolist() == EXAMPLE_IDS.tolist()
    assert not torch.equal(one, two), "shuffled anew"
    hand = by_hand(Replay(model.seen))
    assert hand.seen == model.seen and torch.equal(weights(model), weights(hand))


def test_scaled_rates_scales_a_prepared_optimizer():
    _, _, _, optimizer, _ = prepared()
    with scaled_rates(optimizer, 3):
        assert optimizer.optimizer.param_groups[0]["lr"] == 3 * RATE
    assert optimizer.optimizer.param_groups[0]["lr"] == RATE


@pytest.mark.parametrize("at_the_end, steps", [(False, 9), (True, 10)])
def test_accumulation_ends_at_each_use_of_the_last_minibatch_unless_told_otherwise(at_the_end, steps):
    """18 uses, two to a step. By default accelerate makes a step whenever the loader stands at its last minibatch."""
    plugin = GradientAccumulationPlugin(num_steps=2, sync_with_dataloader=at_the_end)
    accelerator, model, parallel, optimizer, loader = prepared(
        Accelerator(cpu=True, gradient_accumulation_plugin=plugin)
    )
    taken = []
    for ids in persistent(loader, K, numbered=False):
        with accelerator.accumulate(parallel):
            accelerator.backward(parallel(ids))
            taken += [ids] if accelerator.sync_gradients else []
            optimizer.step()
            optimizer.zero_grad()
    assert len(taken) == steps


class Stream(IterableDataset):
    def __iter__(self):
        return iter(EXAMPLE_IDS)


def test_its_shares_count_as_such(two_processes, monkeypatch):
    def shares(loader, **options):
        return prepare_data_loader(loader, num_processes=2, process_index=0, **options)

    for loader in (shares(new_loader()), shares(DataLoader(Stream(), M)), skip_first_batches(shares(new_loader()), 1)):
        iter(persistent(loader, 2))
    dispatched = shares(DataLoader(Stream(), M), dispatch_batches=True, put_on_device=True)  # rank 0 reads for all
    with monkeypatch.context() as two:
        two.setattr(dispatched.state, "num_processes", 2)
        iter(persistent(dispatched, 2))
    alone = Accelerator(cpu=True)  # as it takes itself to be where torch.distributed was started after it
    for plain in (new_loader(), DataLoader(Stream(), M), alone.prepare(new_loader())):
        with pytest.raises(RuntimeError, match="persistent\\(accelerator.prepare\\(loader\\), K\\)"):
            iter(persistent(plain, 2))
