"""Hugging Face's Trainer: override get_train_dataloader."""

import re
from pathlib import Path

import pytest
import torch
import transformers
from toy import EPOCHS, EXAMPLE_IDS, EXAMPLES, RATE, K, M, Replay, Toy, by_hand, weights

from persist import persistent
from persist.kmu import scaled_rates


def recipe():
    """The classes that docs/your_loop.md shows, from its text."""
    page = (Path(__file__).parents[2] / "docs" / "your_loop.md").read_text()
    [code] = re.findall(r"^```python\n([^`]+class KMu\(transformers.TrainerCallback\).*?)^```", page, re.M | re.S)
    names = {"persistent": persistent, "scaled_rates": scaled_rates, "K": K}
    exec(code, names)
    return names["Trainer"], names["KMu"]


Persistent, KMu = recipe()


class Model(Toy):
    """Returns the loss as Trainer expects it."""

    def forward(self, ids):
        return {"loss": super().forward(ids)}


def new_trainer(folder, callbacks=None, decay=1.0, **options):
    options = dict(num_train_epochs=EPOCHS, save_strategy="no", max_grad_norm=0, disable_tqdm=True) | options
    arguments = transformers.TrainingArguments(
        str(folder), use_cpu=True, per_device_train_batch_size=M, report_to="none", **options
    )
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    dataset = [{"ids": int(i)} for i in EXAMPLE_IDS]
    return Persistent(model, arguments, train_dataset=dataset, optimizers=(optimizer, schedule), callbacks=callbacks)


def test_it_trains_like_a_loop_by_hand(tmp_path):
    trainer = new_trainer(tmp_path)
    trainer.train()
    seen, uses = trainer.model.seen, EXAMPLES // M * K
    assert trainer.state.global_step == trainer.state.max_steps == len(seen) == EPOCHS * uses
    assert all(seen[n] == seen[n - n % K] for n in range(len(seen)))
    epochs = [sum(seen[start : start + uses : K], []) for start in (0, uses)]
    assert epochs[0] != epochs[1] and all(sorted(ids) == list(range(EXAMPLES)) for ids in epochs)
    assert torch.equal(weights(trainer.model), weights(by_hand(Replay(seen))))


def test_kmu_as_a_callback(tmp_path):
    trainer = new_trainer(tmp_path, [KMu()], decay=0.9)
    trainer.train()
    plain = Toy()
    optimizer = torch.optim.SGD(plain.parameters(), lr=RATE, momentum=0.5)
    for n, ids in enumerate(trainer.model.seen):
        optimizer.zero_grad()
        plain(torch.tensor(ids)).backward()
        optimizer.param_groups[0]["lr"] = (n % K + 1) * (RATE * 0.9**n)
        optimizer.step()
    torch.testing.assert_close(weights(trainer.model), weights(plain))  # the schedule multiplies step by step


@pytest.mark.parametrize("ignore, reused", [(True, True), (False, False)])
def test_going_on_within_an_epoch_needs_ignore_data_skip(tmp_path, ignore, reused):
    """Else Trainer builds a new loader from the sampler of ours, one that skips minibatches and knows of no K."""
    new_trainer(tmp_path, save_strategy="steps", save_steps=K, max_steps=K).train()
    trainer = new_trainer(tmp_path, ignore_data_skip=ignore)
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{K}"))
    seen = trainer.model.seen
    assert all(seen[n] == seen[n - n % K] for n in range(2 * K)) == reused
