"""Trains the toy problem on the two ranks of a torchrun with one framework. Saves what each rank has seen and learned,
what a loop by hand learns from it, and what happens where the loader would give all data to each rank.

torchrun --standalone --nproc-per-node 2 two_ranks.py FRAMEWORK FOLDER
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from toy import EPOCHS, EXAMPLE_IDS, RATE, K, M, Replay, Toy, by_hand, new_loader, weights

from persist import persistent


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.5)


def ddp(loader=None):
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    loader = loader or DataLoader(EXAMPLE_IDS, M, sampler=DistributedSampler(EXAMPLE_IDS))
    model = Toy()
    parallel, optimizer = torch.nn.parallel.DistributedDataParallel(model), sgd(model)
    reused = persistent(loader, K)
    for epoch in range(EPOCHS):
        if hasattr(reused.sampler, "set_epoch"):
            reused.sampler.set_epoch(epoch)
        for _, ids in reused:
            optimizer.zero_grad()
            parallel(ids).backward()
            optimizer.step()
    return model


def lightning(loader=None):
    from lightning.pytorch import LightningModule, Trainer

    class Lit(LightningModule):
        def __init__(self):
            super().__init__()
            self.toy = Toy()

        def training_step(self, ids, _):
            return self.toy(ids)

        def configure_optimizers(self):
            return sgd(self.toy)

        def train_dataloader(self):
            if loader:
                return persistent(loader, K, numbered=False)
            sampler = DistributedSampler(EXAMPLE_IDS, self.trainer.world_size, self.trainer.global_rank)
            return persistent(DataLoader(EXAMPLE_IDS, M, sampler=sampler), K, numbered=False)

    lit, off = Lit(), dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=EPOCHS, enable_model_summary=False, **off).fit(lit)
    return lit.toy


def accelerate(loader=None):
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True), Toy()
    parallel, optimizer = accelerator.prepare(model, sgd(model))
    too_early = loader and accelerator.prepare(persistent(loader, K))  # comes back as it is
    reused = too_early or persistent(accelerator.prepare(new_loader()), K)
    for _ in range(EPOCHS):
        for _, ids in reused:
            optimizer.zero_grad()
            accelerator.backward(parallel(ids))
            optimizer.step()
    return model


def transformers(loader=None):
    from transformers import Trainer, TrainingArguments

    class Persistent(Trainer):
        def get_train_dataloader(self):
            return persistent(loader or super().get_train_dataloader(), K, numbered=False)

        def compute_loss(self, model, inputs, **_):
            return model(inputs["ids"])

    model, folder = Toy(), str(Path(sys.argv[2]) / "transformers")
    options = dict(
        use_cpu=True, num_train_epochs=EPOCHS, per_device_train_batch_size=M, report_to="none", save_strategy="no"
    )
    dataset = [{"ids": int(i)} for i in EXAMPLE_IDS]
    optimizer = sgd(model)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1)
    options |= dict(max_grad_norm=0, disable_tqdm=True)
    Persistent(
        model, TrainingArguments(folder, **options), train_dataset=dataset, optimizers=(optimizer, constant)
    ).train()
    return model


def average(gradient):
    dist.all_reduce(gradient)
    gradient /= dist.get_world_size()


if __name__ == "__main__":
    train, folder = {f.__name__: f for f in (ddp, lightning, accelerate, transformers)}[sys.argv[1]], Path(sys.argv[2])
    model = train()
    rank = dist.get_rank()
    hand = by_hand(Replay(model.seen), average)
    try:
        train(new_loader())
        refused = None
    except RuntimeError as error:
        refused = str(error)
    torch.save((model.seen, weights(model), weights(hand), refused), folder / f"{rank}.pt")
    if dist.is_initialized():
        dist.destroy_process_group()
