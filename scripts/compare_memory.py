"""The memory that a training step is planned to take, and what it takes on a CPU.

python scripts/compare_memory.py
python scripts/compare_memory.py --only light

Measured are three steps on the fullest of some drawn images, the optimiser's among them, with proposals as a model has
them that has learned: from random weights a step begins with few positives, and takes less. "tensors" is what all
tensors hold at the worst moment, what a GPU's allocator calls allocated, and what the plan is about. "resident" is how
far the process grows, with what the C library's allocator and the convolutions' scratch space add; plan and steps have
a process each, since what the plan's trials have left behind would be taken again by the real ones.
"""

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = {  # model, options, px of the images, batch
    "tiny": (["model=tiny"], 128, 8),
    "light": (["model=light"], 256, 4),
    "light, recomputed": (["model=light", "recompute_backbone=true"], 256, 8),
    "resnet18_fpn": (["model=resnet18_fpn", "model.min_size=256", "model.max_size=320"], 256, 2),
    "resnet50_fpn": (["model=resnet50_fpn", "model.min_size=320", "model.max_size=400"], 320, 2),
}
ALWAYS = ["model.weights=none", "transfer=full", "trainer=cpu", "data.num_workers=0"]
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        what, name, root = args.inside
        print(json.dumps(inside(what, name, Path(root))))
        return
    print(f"{'configuration':<20} {'planned':>8} {'tensors':>8} {'ratio':>6} {'resident':>9} {'ratio':>6}   (MiB)")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            (planned,), (tensors, resident) = (told(what, name, folder) for what in ("plan", "measure"))
            worst = max(worst, abs(planned / tensors - 1))
            of_tensors = f"{planned / 2**20:8.0f} {tensors / 2**20:8.0f} {planned / tensors:6.2f}"
            print(f"{name:<20} {of_tensors} {resident / 2**20:9.0f} {planned / resident:6.2f}", flush=True)
    print(f"of the tensors' bytes the plan is at most {worst:.0%} off")


def told(what: str, name: str, folder: str) -> list[float]:
    command = [sys.executable, __file__, "--inside", what, name, folder]
    numbers: list[float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return numbers


def inside(what: str, name: str, folder: Path) -> list[float]:
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does
    import numpy as np
    import torch

    from finemask.config import compose, plain
    from finemask.data.datamodule import collate
    from finemask.data.shapes import draw_shapes
    from finemask.model.backbones.recomputation import recompute_backbone
    from finemask.model.build import build_model
    from finemask.model.pretrained.transfer import Transfer, apply_transfer, set_train_mode
    from finemask.model.resolve import resolve_model
    from finemask.training.memory_plan import TensorLedger, learned_proposals
    from finemask.workflows.build_trainer import build_datamodule, build_optimizer
    from finemask.workflows.running.fit_memory import largest_size, memory_of

    options, size, batch_size = CASES[name]
    root = folder / str(size)
    if not root.is_dir():
        draw_shapes(root, images=24, size=size, seed=1)
    cfg = compose("train", [*options, *ALWAYS, f"data.root={root}", f"data.batch_size={batch_size}"])
    data = build_datamodule(cfg)
    data.setup()
    index = data.train_index
    torch.manual_seed(0)
    model = build_model(resolve_model(plain(cfg.model), index.max_instances_per_image), data.num_classes)
    apply_transfer(model, Transfer(**plain(cfg.transfer)))
    model.use_channels_last()
    if cfg.recompute_backbone:
        recompute_backbone(model)
    size_hw = largest_size(index, model)
    if what == "plan":
        memory = memory_of(cfg, model, size_hw, index.max_instances_per_image, torch.device("cpu"))
        return [memory.peak(batch_size, size_hw[0] * size_hw[1])]
    optimizer = build_optimizer(cfg)([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    set_train_mode(model)
    loader = data.train_dataloader()
    fullest = np.argsort(np.diff(index.first_annotation), kind="stable")[-batch_size:]
    images, targets = collate([loader.dataset[int(each)] for each in fullest])
    ledger = TensorLedger()
    ledger.own([*model.parameters(), *model.buffers()])
    before = settled()
    with learned_proposals(model), ledger:
        for _ in range(STEPS):
            optimizer.zero_grad()
            sum(model.losses(images, targets).values()).backward()
            optimizer.step()
    return [ledger.peak, status("VmHWM") - before]


def settled() -> float:
    """Resident bytes when what is free has been given back; the highest value is counted anew from here."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024.0 * int(found[1])


if __name__ == "__main__":
    main()
