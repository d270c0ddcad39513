"""What people would otherwise run, as they would write it: a plain PyTorch loop, and Lightning's Trainer."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10


def training_set(root, mean, deviation) -> CIFAR10:
    return CIFAR10(
        root, train=True, transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, deviation)])
    )


def shuffling_loader(dataset, m: int, workers: int, device) -> DataLoader:
    return DataLoader(dataset, batch_size=m, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda")


def plain(model: nn.Module, loader, K: int, lr: float, momentum: float, device):
    """Trains until something stops it."""
    model = model.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    while True:
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            for _ in range(K):
                optimizer.zero_grad()
                loss = criterion(model(images), labels)
                loss.backward()
                optimizer.step()


class Persistent(lightning.LightningModule):
    """K updates in a training step need Lightning's manual optimisation."""

    def __init__(self, model: nn.Module, K: int, lr: float, momentum: float):
        super().__init__()
        self.automatic_optimization = False
        self.model, self.K, self.lr, self.momentum = model, K, lr, momentum
        self.criterion = nn.CrossEntropyLoss()

    def configure_optimizers(self):
        return torch.optim.SGD(self.model.parameters(), lr=self.lr, momentum=self.momentum)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        optimizer = self.optimizers()
        for _ in range(self.K):
            optimizer.zero_grad()
            self.manual_backward(self.criterion(self.model(images), labels))
            optimizer.step()


def with_lightning(model: nn.Module, loader, K: int, lr: float, momentum: float, device):
    """Trains until something stops it; without logger, checkpoints and progress bar."""
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Persistent(model, K, lr, momentum), loader)
