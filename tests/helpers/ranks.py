"""Ten steps of a training, by two processes and by one: a script, so that both begin in a fresh process.

python ranks.py DATA OUTPUT: writes losses and weights of each into OUTPUT.
"""

import os
import socket
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from run_cases import PoisonLosses

import finemask
from finemask.training.loggers import CsvLogger
from finemask.training.optim import multistep

BATCH, STEPS, POISONED = 2, 10, 4
# Nothing is left to chance: samplers take all there is. Nothing hangs on the last bit: all proposals stay, whatever
# their rank. Norms do not look at the rest of the batch.
MODEL = [
    "model.min_size=64",
    "model.max_size=64",
    "model.backbone.norm=gn",
    "model.backbone.fpn_norm=gn",
    "model.rpn.batch_size_per_image=100000",
    "model.rpn.pre_nms_top_n_train=100000",
    "model.rpn.post_nms_top_n_train=100000",
    "model.rpn.nms_thresh=1.0",
    "model.sampler.batch_size_per_image=1000",
]


def train(data_root: Path, output: Path, name: str, processes: int, rank: int) -> None:
    data = finemask.CocoDataModule(data_root, batch_size=BATCH * (2 // processes), num_workers=0)
    data.setup()
    torch.manual_seed(0)
    model = finemask.maskrcnn("tiny", num_classes=data.num_classes, weights="none", overrides=MODEL)
    module = finemask.MaskRCNNModule(model, optimizer=torch.optim.SGD, scheduler=multistep, lr=0.005)
    # the last one has images without objects too; a loss of NaN on one process is one on all
    poison = [PoisonLosses(POISONED, POISONED)] if rank == processes - 1 else []
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_steps=STEPS,
        gradient_clip_val=10.0,
        logger=CsvLogger(output / f"{name}.csv"),
        log_every_n_steps=1,
        callbacks=poison,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    torch.save(
        {"weights": model.state_dict(), "AP": float(trainer.callback_metrics["val/segm_AP"])},
        output / f"{name}_{rank}.pt",
    )


def main(data_root: Path, output: Path) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]))
    children = []
    for name, processes, rank in (("together", 2, 1), ("together", 2, 0), ("alone", 1, 0)):
        if (child := os.fork()) == 0:
            if processes > 1:
                os.environ.update(LOCAL_RANK=str(rank), WORLD_SIZE="2", NODE_RANK="0")
            try:
                train(data_root, output, name, processes, rank)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        children.append(child)
    return max(os.waitpid(child, 0)[1] for child in children)


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]), Path(sys.argv[2]))))
