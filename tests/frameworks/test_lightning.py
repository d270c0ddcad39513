"""PyTorch Lightning: persistent(..., numbered=False) as the training loader, KMu as a callback."""

import copy
import warnings

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from toy import EPOCHS, RATE, K, Toy, by_hand, weights
from toy import new_loader as any_loader

from persist import persistent
from persist.kmu import scaled_rates
from persist.lightning import KMu

warnings.filterwarnings("ignore", module="lightning")


def new_loader():
    """The last minibatch is smaller. Lightning does not ask for one more than there are; after a full last one torch's
    sampler would so draw one permutation less than in a plain loop, with persistency or without."""
    return any_loader(5)


class Lit(LightningModule):
    def __init__(self, optimizer=torch.optim.SGD, **options):
        super().__init__()
        self.toy = Toy()
        groups = [{"params": [self.toy.linear.weight]}, {"params": [self.toy.linear.bias], "lr": RATE / 10}]
        self.optimizer = optimizer(groups, lr=RATE, **options)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        self.fails_at, self.rates = None, []

    def training_step(self, ids, batch_idx):
        if batch_idx == self.fails_at:
            raise OSError("the disk is gone")
        return self.toy(ids)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])

    def configure_optimizers(self):
        return {"optimizer": self.optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}


def trainer(**options):
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return Trainer(accelerator="cpu", max_epochs=EPOCHS, **dict.fromkeys(off, False) | options)


def in_plain_pytorch(lit: Lit, accumulate=1, clip=lambda parameters: None):
    """What Lightning should do with KMu: a step after every so many uses and at the end of an epoch, then one of the
    schedule. Returns the rates after every use."""
    reused, rates = persistent(new_loader(), K), []
    for _ in range(EPOCHS):
        for n, (k, ids) in enumerate(reused, start=1):
            (lit.toy(ids) / accumulate).backward()
            if n % accumulate == 0 or n == len(reused):
                clip(list(lit.toy.parameters()))
                with scaled_rates(lit.optimizer, k):
                    lit.optimizer.step()
                lit.optimizer.zero_grad()
                lit.schedule.step()
            rates.append([group["lr"] for group in lit.optimizer.param_groups])
    return rates


def test_it_trains_like_a_loop_by_hand():
    class Plain(Lit):
        def configure_optimizers(self):
            return torch.optim.SGD(self.toy.parameters(), lr=RATE, momentum=0.5)

    lit, fit = Plain(), trainer()
    fit.fit(lit, persistent(new_loader(), K, numbered=False))
    hand = by_hand(new_loader())
    assert lit.toy.seen == hand.seen and torch.equal(weights(lit.toy), weights(hand))
    assert fit.num_training_batches == K * len(new_loader())


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "optimizer, options", [(torch.optim.SGD, dict(momentum=0.5)), (torch.optim.AdamW, dict(weight_decay=0.1))]
)
@pytest.mark.parametrize(
    "algorithm, clip",
    [
        (None, lambda parameters: None),
        ("norm", lambda parameters: clip_grad_norm_(parameters, 0.2)),
        ("value", lambda parameters: clip_grad_value_(parameters, 0.2)),
    ],
)
def test_KMu_is_scaled_rates_around_every_step(optimizer, options, accumulate, algorithm, clip):
    lit, plain = Lit(optimizer, **options), Lit(optimizer, **options)
    clipping = dict(gradient_clip_val=0.2, gradient_clip_algorithm=algorithm) if algorithm else {}
    fit = trainer(callbacks=[KMu()], accumulate_grad_batches=accumulate, **clipping)
    fit.fit(lit, persistent(new_loader(), K, numbered=False))
    rates = in_plain_pytorch(plain, accumulate, clip)
    assert torch.equal(weights(lit.toy), weights(plain.toy))
    assert lit.rates == rates, "what others see has no factor k"


def test_KMu_takes_its_hooks_back():
    """A second fit with the same optimizer scales once; so does a third, after one that failed within a step."""
    lit, plain = Lit(momentum=0.5), Lit(momentum=0.5)
    callback = KMu()
    for fails_at in (None, 4, None):
        lit.fails_at = fails_at
        fit = trainer(callbacks=[callback])
        if fails_at is None:
            fit.fit(lit, persistent(new_loader(), K, numbered=False))
            in_plain_pytorch(plain)
        else:
            before = copy.deepcopy(plain.state_dict()), copy.deepcopy(plain.optimizer.state_dict())
            with pytest.raises(OSError, match="the disk is gone"):
                fit.fit(lit, persistent(new_loader(), K, numbered=False))
            assert lit.optimizer.param_groups[0]["lr"] == lit.rates[-1][0], "a checkpoint now holds the plain rate"
            lit.load_state_dict(before[0])
            lit.optimizer.load_state_dict(before[1])
            lit.schedule.load_state_dict(plain.schedule.state_dict())
    assert torch.equal(weights(lit.toy), weights(plain.toy))


class Numbered(Lit):
    def __init__(self, callback):
        super().__init__()
        self.callback, self.ks = callback, []

    def training_step(self, batch, batch_idx):
        k, ids = batch
        assert k == self.callback.k
        self.ks.append(k)
        return self.toy(ids)


def test_KMu_counts_as_the_loader_does(tmp_path):
    """Also where an epoch ends, or a run goes on, in the midst of the uses of a minibatch."""
    callback = KMu()
    lit = Numbered(callback)
    trainer(callbacks=[callback], limit_train_batches=2 * K + 1).fit(lit, persistent(new_loader(), K))
    assert lit.ks == [1, 2, 3, 1, 2, 3, 1] * EPOCHS
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=K + 1, save_top_k=-1, filename="{step}")
    fit = trainer(callbacks=[KMu(), saving], enable_checkpointing=True)
    fit.fit(Lit(), persistent(new_loader(), K, numbered=False))
    lit = Numbered(callback)
    trainer(callbacks=[callback]).fit(lit, persistent(new_loader(), K), ckpt_path=tmp_path / f"step={K + 1}.ckpt")
    assert lit.ks[: K + 1] == [1, 2, 3, 1]


def test_a_schedule_within_the_training_step_sees_and_keeps_the_plain_rate():
    class Stepping(Lit):
        def training_step(self, ids, batch_idx):
            self.schedule.step()
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            return self.toy(ids)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return self.optimizer

    lit, plain, expected, reused = Stepping(), Lit(), [], persistent(new_loader(), K)
    trainer(callbacks=[KMu()]).fit(lit, persistent(new_loader(), K, numbered=False))
    for _ in range(EPOCHS):
        for k, ids in reused:
            plain.optimizer.zero_grad()
            plain.schedule.step()
            expected.append(plain.optimizer.param_groups[0]["lr"])
            plain.toy(ids).backward()
            with scaled_rates(plain.optimizer, k):
                plain.optimizer.step()
    assert lit.rates == expected and torch.equal(weights(lit.toy), weights(plain.toy))


def test_KMu_takes_the_K_of_every_epochs_loader():
    class Growing(Lit):
        def train_dataloader(self):
            return persistent(new_loader(), 1 + self.current_epoch, numbered=False)

    callback, ks = KMu(), []
    lit = Growing()
    lit.on_train_batch_end = lambda *_: ks.append(callback.k)
    trainer(callbacks=[callback], reload_dataloaders_every_n_epochs=1).fit(lit)
    n = len(new_loader())
    assert ks == [1 + i % K for K in range(1, EPOCHS + 1) for i in range(K * n)]


@pytest.mark.parametrize("loader", [new_loader(), [persistent(new_loader(), K), new_loader()]])
def test_KMu_refuses_a_loader_that_has_no_K(loader):
    with pytest.raises(
        TypeError, match=r"KMu needs persistent\(loader, K\) as the training loader, not (DataLoader|list)"
    ):
        trainer(callbacks=[KMu()]).fit(Lit(), loader)


def test_lightning_seeds_the_workers_of_the_source(monkeypatch):
    monkeypatch.setenv("PL_SEED_WORKERS", "0")  # given back afterwards
    seed_everything(0, workers=True, verbose=False)
    loader = new_loader()
    trainer().fit(Lit(), persistent(loader, K, numbered=False))
    assert loader.worker_init_fn.func.__name__ == "pl_worker_init_function"
