"""A trainer's state without a trainer, for what callbacks read of it."""

from types import SimpleNamespace

import torch


def cpu_trainer(batches=100, epochs=10, **changes):
    settings = {
        "strategy": SimpleNamespace(root_device=torch.device("cpu")),
        "num_training_batches": batches,
        "num_val_batches": [0],
        "max_epochs": epochs,
        "max_steps": -1,
        "current_epoch": 0,
        "accumulate_grad_batches": 1,
        "check_val_every_n_epoch": 1,
        "val_check_batch": batches,
        "world_size": 1,
        "global_step": 1,
        "log_every_n_steps": 10,
        "callbacks": [],
        "callback_metrics": {},
    }
    return SimpleNamespace(**(settings | changes))
