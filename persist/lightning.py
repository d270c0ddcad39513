"""The learning rate k * mu (Section 3 of arXiv 1806.07353) in PyTorch Lightning."""

import contextlib

from lightning.pytorch import Callback

from persist.kmu import scaled_rates
from persist.persistency import persistent


class KMu(Callback):
    """Every optimizer step at the k-th use of a minibatch is made at k times the present learning rates.

    ``Trainer(callbacks=[KMu()]).fit(model, persistent(loader, K, numbered=False))``: K is that of the loader.
    Schedulers, checkpoints and loggers see the rates without the factor. Where gradients are accumulated, k is that of
    the use before the step. Raises TypeError where the training loader is not ``persistent(...)``.
    """

    def __init__(self):
        self.hooks, self.scaled = contextlib.ExitStack(), contextlib.ExitStack()

    def on_train_start(self, trainer, pl_module):
        loader = trainer.train_dataloader
        if type(loader) is not persistent:
            raise TypeError(f"KMu needs persistent(loader, K) as the training loader, not {type(loader).__name__}")
        self.k, self.K = 0, loader.K
        for optimizer in trainer.optimizers:
            self.hooks.callback(optimizer.register_step_pre_hook(self._scale).remove)
            self.hooks.callback(optimizer.register_step_post_hook(self._restore).remove)

    def on_train_epoch_start(self, trainer, pl_module):
        self.k = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.k = self.k % self.K + 1  # not by batch_idx: within an epoch that is resumed, the loader starts anew

    def _scale(self, optimizer, args, kwargs):
        self.scaled.enter_context(scaled_rates(optimizer, self.k))

    def _restore(self, optimizer, args, kwargs):
        self.scaled.close()

    def on_train_end(self, trainer, pl_module):
        self.hooks.close()

    def on_exception(self, trainer, pl_module, exception):
        self.scaled.close()  # it may come in the middle of a step; a checkpoint may follow
        self.hooks.close()
