"""Trains plain heads and each variant alike, several seeds each, and says which differences are beyond the spread.

    python scripts/compare_parts.py data.root=DIR model.weights=FILE.pth --seeds 3 --jobs 2
    python scripts/compare_parts.py data.root=DIR data.train=annotations/train_small.json \
        data.val=annotations/val_small.json experiment=nuclei model.weights=FILE.pth --minutes 60
    python scripts/compare_parts.py data.root=DIR … --only giou cascade --write

Words of the form key=value go to ``finemask train`` as they are. Every run is ``finemask train`` in a process of its
own with one thread; what is finished in --output is not done again, so the command can be given as often as it takes.
By default a run is 120 steps of 4 images at 256 px: about three minutes of one core of a laptop.

Parts that are only used after training are tried on the models of the plain runs, by ``finemask evaluate``.
"""

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare_parts_table import PLAIN, Result, page, put_section, rows_of, shown_words, table
from omegaconf import OmegaConf

from finemask.bench.timing import machine
from finemask.ops.files.atomic_files import write_json, write_text

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "results.md"
RECORD = "result.json"

WARMED_UP = ("model.box_predictor.warmup_steps=50",)  # of the 120 steps of a run
TRAINED: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "cosine": ("model/box_predictor=cosine",),
    "multi_expert": ("model/box_predictor=multi_expert",),
    "multi_expert, learned": ("model/box_predictor=multi_expert", "model.box_predictor.assign=learned", *WARMED_UP),
    "cascade": ("model/box_predictor=cascade",),
    "iterative": ("model/box_predictor=iterative",),
    "deep_fcn": ("model/mask_predictor=deep_fcn",),
    "point_rend": ("model/mask_predictor=point_rend",),
    "mask_iou": ("model/mask_predictor=mask_iou",),
    "l1": ("model/box_loss=l1",),
    "giou": ("model/box_loss=giou",),
    "diou": ("model/box_loss=diou",),
    "ciou": ("model/box_loss=ciou",),
    "focal": ("model/class_loss=focal",),
    "label_smoothing": ("model/class_loss=label_smoothing",),
    "dice_bce": ("model/mask_loss=dice_bce",),
    "edge": ("model/mask_loss=edge",),
    "boundary": ("model/mask_loss=boundary",),
    "ohem": ("model/sampler=ohem",),
    "anchors": ("model.anchors=auto",),
    "clahe": ("model.clahe=2.0",),
}
AFTERWARDS: dict[str, tuple[str, ...]] = {
    "suppression: class_agnostic": ("suppression=class_agnostic",),
    "suppression: soft_linear": ("suppression=soft_linear",),
    "suppression: soft_gaussian": ("suppression=soft_gaussian",),
    "suppression: mask": ("suppression=mask",),
    "suppression: mask_agnostic": ("suppression=mask_agnostic",),
    "tta: flip": ("tta=flip",),
    "tta: flip and sizes": ("tta=[flip,224,256,320]",),
    "refine: sobel": ("refine=sobel",),
}
BASE = (
    "plan=none",  # one part changes, and nothing else
    "model=light",
    "model.min_size=256",
    "model.max_size=384",
    "data.batch_size=4",
    "data.num_workers=0",
    "optimizer=adamw",
    "augment=flip",
    "callbacks=none",
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=100000",  # steps decide
    "trainer.check_val_every_n_epoch=100000",  # the last weights count, not the best by the split that is reported
    "trainer.log_every_n_steps=5",
)
_OF_EVALUATE = ("data.root", "data.train", "data.val", "data.images")

Runner = Callable[[Sequence[str], Path], int]


@dataclass(frozen=True, slots=True)
class Job:
    """A training run, or an evaluation of one."""

    variant: str
    seed: int
    folder: Path
    words: tuple[str, ...]  # after ``finemask``
    is_training: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="key=value, for finemask train; data.root= is needed")
    parser.add_argument("--only", nargs="+", choices=[*TRAINED, *AFTERWARDS], help="these, and what they need")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120, help="of every training run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--output", type=Path, help="folder of all runs; runs/compare_parts/DATASET if not given")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    arguments = parser.parse_args()
    roots = [word.partition("=")[2] for word in arguments.words if word.startswith("data.root=")]
    if not roots:
        parser.error("data.root=DIR is needed")
    name = Path(roots[-1]).resolve().name
    output = arguments.output or Path("runs/compare_parts") / name
    settings = {"words": shown_words(arguments.words), "steps": arguments.steps}
    chosen = list(arguments.only or [*TRAINED, *AFTERWARDS])
    jobs = jobs_for(chosen, arguments.words, arguments.steps, range(arguments.seeds), output)
    end = time.monotonic() + 60 * arguments.minutes
    failed = run_all(jobs, run_finemask, arguments.jobs, end)
    content = {"machine": machine(), **settings, "results": [vars_of(result) for result in read_results(jobs)]}
    write_json(output / "parts.json", content)
    print(table(rows_of(results_in(content), [*TRAINED, *AFTERWARDS])))
    if arguments.write:
        figures = DOCS / "results" / f"parts_{name}.json"
        write_json(figures, content)
        section = page(content, [*TRAINED, *AFTERWARDS], name)
        write_text(PAGE, put_section(PAGE.read_text(encoding="utf-8"), section, name))
        print(f"wrote {PAGE} and {figures}")
    for job in failed:
        print(f"{job.variant}, seed {job.seed}: failed, see {job.folder / 'log.txt'}", file=sys.stderr)
    return 1 if failed else 0


def jobs_for(chosen: Sequence[str], words: Sequence[str], steps: int, seeds: Iterable[int], output: Path) -> list[Job]:
    """All that has to be done, seed after seed, so that what is there after an hour can be compared.

    Args:
        chosen: variants; plain runs, which all others are compared with, come in any case.
        words: of the user's command line.
        steps: of a training run.
        seeds: one run each.
        output: folder of all runs.
    """
    trained = [name for name in TRAINED if name == PLAIN or name in chosen]
    data = [word for word in words if word.partition("=")[0] in _OF_EVALUATE]
    jobs = []
    for seed in seeds:
        for name in trained:
            place = f"{_folder_name(name)}/seed{seed}"
            folder = output / place
            own = (f"output={output}", f"name={place}", f"seed={seed}", f"trainer.max_steps={steps}")
            jobs.append(Job(name, seed, folder, ("train", *BASE, *words, *TRAINED[name], *own), is_training=True))
        for name in AFTERWARDS:
            if name in chosen:
                folder = output / _folder_name(name) / f"seed{seed}"
                model = output / PLAIN / f"seed{seed}" / "latest" / "model.safetensors"
                own = (f"model={model}", f"output={folder}", "num_workers=1", "device=cpu")
                jobs.append(Job(name, seed, folder, ("evaluate", *data, *AFTERWARDS[name], *own), is_training=False))
    return jobs


def _folder_name(variant: str) -> str:
    """What can stand in a path, and in a key=value word as it is."""
    return re.sub(r"\W+", "_", variant)


def run_all(jobs: Sequence[Job], run: Runner, parallel: int, end: float) -> list[Job]:
    """Does what is not done yet; those that failed. Evaluations wait for all training runs.

    Args:
        jobs: see ``jobs_for``.
        run: does one and gives its exit code.
        parallel: at a time.
        end: no job begins after this ``time.monotonic``.
    """
    failed = []
    for is_training in (True, False):
        waiting = [job for job in jobs if job.is_training is is_training and not is_done(job)]
        with ThreadPoolExecutor(parallel) as pool:
            futures = {pool.submit(_run_one, job, run, end): job for job in waiting}
            for future in as_completed(futures):
                if future.result() is False:
                    failed.append(futures[future])
    return failed


def is_done(job: Job) -> bool:
    """Whether a job was finished before.

    Raises:
        SystemExit: it was, with other words: figures of different settings must not stand in one table.
    """
    record = job.folder / RECORD
    if not record.is_file():
        return False
    before = json.loads(record.read_text(encoding="utf-8"))["words"]
    if before != list(job.words):
        changed = sorted(set(before) ^ set(job.words))
        raise SystemExit(f"{job.folder} was made with other settings ({', '.join(changed)}); give another --output")
    return True


def read_results(jobs: Iterable[Job]) -> list[Result]:
    """Of the jobs that are done."""
    found = []
    for job in jobs:
        if is_done(job):
            metrics = json.loads((_results_folder(job) / "metrics.json").read_text(encoding="utf-8"))
            step = json.loads((job.folder / RECORD).read_text(encoding="utf-8"))["step_ms"]
            bbox, segm = metrics["bbox"], metrics["segm"]
            recall = bbox.get("AR", bbox["AR100"])  # AR only where more than 100 detections count
            found.append(Result(job.variant, job.seed, bbox["AP"], segm["AP"], recall, step))
    return found


def _results_folder(job: Job) -> Path:
    return job.folder / "latest" if job.is_training else job.folder


def results_in(content: Mapping[str, Any]) -> list[Result]:
    """The results in a file of figures."""
    return [Result(**row) for row in content["results"]]


def vars_of(result: Result) -> dict[str, Any]:
    """A result as plain values."""
    return {key: getattr(result, key) for key in ("variant", "seed", "bbox", "segm", "recall", "step_ms")}


def run_finemask(words: Sequence[str], log: Path) -> int:
    """One ``finemask`` command in a process of its own with one thread."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with log.open("w", encoding="utf-8") as file:
        command = [sys.executable, "-m", "finemask", *words]
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | one_thread).returncode


def _run_one(job: Job, run: Runner, end: float) -> bool | None:
    """Whether it went well; None if it was not begun."""
    if time.monotonic() > end:
        return None
    job.folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    code = run(job.words, job.folder / "log.txt")
    folder = _results_folder(job)
    if code != 0 or not (folder / "metrics.json").is_file():
        print(f"{job.variant}, seed {job.seed}: failed (exit code {code})", flush=True)
        return False
    mask_ap = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["segm"]["AP"]
    record = {
        "words": list(job.words),
        "step_ms": step_ms(folder) if job.is_training else None,
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(job.folder / RECORD, record)
    print(f"{job.variant}, seed {job.seed}: mask AP {mask_ap:.3f}, {record['seconds']:.0f} s", flush=True)
    return True


def step_ms(run_dir: Path) -> float | None:
    """Median duration of a training step, from the run's own log of images a second."""
    batch = OmegaConf.load(run_dir / "config.yaml").data.batch_size
    with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rates = [float(row["train/images_per_s"]) for row in csv.DictReader(file) if row.get("train/images_per_s")]
    return None if not rates else 1000 * batch / statistics.median(rates)


if __name__ == "__main__":
    sys.exit(main())
