"""The learning rate k * mu (Section 3 of arXiv 1806.07353) in PyTorch Lightning."""

import contextlib

from lightning.pytorch import Callback, LightningModule, Trainer

from persist.kmu import scaled_rates
from persist.persistency import persistent


class KMu(Callback):
    """Every optimizer step at the k-th use of a minibatch is made at k times the present learning rates.

    ``Trainer(callbacks=[KMu()]).fit(model, persistent(loader, K, numbered=False))``: K is that of the loader.
    Schedulers, checkpoints and loggers see the rates without the factor, in ``training_step`` too. Where gradients are
    accumulated, k is that of the use before the step. Raises TypeError where the training loader is not
    ``persistent(...)``.
    """

    def __init__(self):
        self.hooks, self.scaled = contextlib.ExitStack(), contextlib.ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # Lightning does not call it where it goes on within an epoch
        for optimizer in trainer.optimizers:
            self.hooks.callback(optimizer.register_step_pre_hook(self._scale).remove)
            self.hooks.callback(optimizer.register_step_post_hook(self._restore).remove)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader = trainer.train_dataloader  # another one in every epoch, perhaps
        if not isinstance(loader, persistent):
            raise TypeError(f"KMu needs persistent(loader, K) as the training loader, not {type(loader).__name__}")
        self.k, self.K = 0, loader.K

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        self.k = self.k % self.K + 1  # not by batch_idx: within an epoch that is resumed, the loader starts anew

    def _scale(self, optimizer, args, kwargs):
        """Lightning makes the whole training step within optimizer.step(closure): meanwhile the rates are restored."""

        def scale():
            self.scaled.enter_context(scaled_rates(optimizer, self.k))

        def unscaled(closure):
            self.scaled.close()
            loss = closure()
            scale()
            return loss

        scale()
        if closure := kwargs.get("closure"):
            return args, {**kwargs, "closure": lambda: unscaled(closure)}

    def _restore(self, optimizer, args, kwargs):
        self.scaled.close()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hooks.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.scaled.close()  # it may come in the middle of a step; a checkpoint may follow
        self.hooks.close()
