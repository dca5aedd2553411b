"""Trains recipes side by side in the same minutes, each on a core of its own, and scores them all alike.

    python scripts/compare_recipes.py DATASET DATASET … --minutes 5 15 --seeds 3 --output DIR --cores 0 1 \
        --recipe plan --recipe fixed plan=none --recipe rival RIVAL.py --weights FEATURES.pth

A recipe is a name and what is typed after ``finemask train model=light data.root=DATASET budget=…``; a word that ends
in .py is another program instead, called as ``RIVAL.py DATASET MINUTES --weights FEATURES.pth --out DIR``, which writes
predictions.json. ``--ablate NAME`` trains that recipe once more for each decision of its plan, with the keys as they
are without it. What is scored is a split that no recipe looked at (test.json, if there is one, else val.json), by
finemask's evaluation, after the minutes. Finished runs are kept in --output, so the command can be given again.
"""

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from finemask.bench.timing import machine
from finemask.config.composing import Asked
from finemask.ops.files.atomic_files import write_json
from finemask.workflows.running.compose_training import compose_training

RECORD = "result.json"
WITHOUT = " without "


@dataclass(frozen=True, slots=True)
class Job:
    """One training: a recipe on a dataset for some minutes with a seed, in a folder of its own."""

    dataset: Path
    minutes: float
    recipe: str
    words: tuple[str, ...]
    seed: int
    folder: Path

    @property
    def split(self) -> str:
        """Annotations that nothing was chosen by: of the test images where there are such."""
        return "test" if (self.dataset / "annotations" / "test.json").is_file() else "val"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+", help="folders with images/ and annotations/")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cores", type=int, nargs="+", default=[0], help="a run on each at a time, with one thread")
    parser.add_argument("--recipe", nargs="+", action="append", required=True, metavar=("NAME", "WORD"))
    parser.add_argument(
        "--ablate", nargs="+", default=[], metavar="NAME", help="recipes to train without each decision"
    )
    parser.add_argument("--weights", help="of the backbone, for the rival")
    parser.add_argument("--output", type=Path, default=Path("runs/compare_recipes"))
    a = parser.parse_args()
    jobs = [
        Job(dataset, minutes, name, tuple(words), seed, a.output / dataset.name / f"{minutes:g}min_{name}_{seed}")
        for dataset in a.datasets
        for minutes in a.minutes
        for seed in range(a.seeds)
        for name, words in recipes_of(dataset, minutes, a.recipe, a.ablate)
    ]
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in a.cores:
        cores.put(core)

    def work(job: Job) -> bool:
        core = cores.get()
        try:
            return run(job, core, a.weights)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(len(a.cores)) as pool:
        finished = list(pool.map(work, jobs))
    results = [json.loads((job.folder / RECORD).read_text()) for job, ok in zip(jobs, finished, strict=True) if ok]
    write_json(a.output / "recipes.json", {"machine": machine(), "results": results})
    print("\n".join(table(results, [name for name, *_ in a.recipe])))
    if a.ablate:
        print("\n".join(["", *ablations(results)]))
    return 0 if all(finished) else 1


def recipes_of(
    dataset: Path, minutes: float, recipes: Sequence[Sequence[str]], ablated: Sequence[str]
) -> list[tuple[str, tuple[str, ...]]]:
    """Names and words of the recipes for a dataset, those without a decision of the plan among them."""
    found = []
    for name, *words in recipes:
        found.append((name, tuple(words)))
        if name in ablated:
            asked = Asked("train", (*asked_for(dataset, minutes), *words))
            for decision in compose_training(asked).get("planned") or []:
                if not decision["kept"]:
                    found.append((f"{name}{WITHOUT}{decision['set'][0]}", (*words, *decision["instead"])))
    return found


def asked_for(dataset: Path, minutes: float) -> list[str]:
    """What is typed for every recipe."""
    return ["model=light", f"data.root={dataset}", f"budget={60 * minutes:g}s", "data.num_workers=0"]


def run(job: Job, core: int, weights: str | None) -> bool:
    """Trains and scores, unless that was done before; False when it failed, which its log.txt explains."""
    if (job.folder / RECORD).is_file():
        return True
    job.folder.mkdir(parents=True, exist_ok=True)
    if job.words and job.words[0].endswith(".py"):
        train = [*job.words, str(job.dataset), f"{job.minutes:g}", "--threads", "1", "--out", str(job.folder)]
        train += ["--val", f"{job.split}.json", "--seed", str(job.seed), *(["--weights", weights] if weights else [])]
        scored = f"predictions={job.folder / 'predictions.json'}"
    else:
        train = ["-m", "finemask", "train", *asked_for(job.dataset, job.minutes)]
        train += ["name=run", f"output={job.folder}", f"seed={job.seed}", *job.words]
        scored = f"model={job.folder / 'run'}"
    annotations = job.dataset / "annotations" / f"{job.split}.json"
    where = [f"annotations={annotations}"]
    if scored.startswith("model="):
        where = [f"data.root={job.dataset}", f"split={job.split}", f"data.{job.split}=annotations/{job.split}.json"]
    score = ["-m", "finemask", "evaluate", scored, *where, f"output={job.folder / 'scored'}"]
    with (job.folder / "log.txt").open("w") as log:
        for command in (train, score):
            words = ["taskset", "-c", str(core), sys.executable, *command]
            print(" ".join(words), file=log, flush=True)
            if subprocess.run(words, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode:
                print(f"failed: {job.folder / 'log.txt'}", file=sys.stderr, flush=True)
                return False
    metrics = json.loads((job.folder / "scored" / "metrics.json").read_text())
    about = {"dataset": job.dataset.name, "minutes": job.minutes, "recipe": job.recipe, "words": job.words}
    record = {"seed": job.seed, "split": job.split, "images": metrics["images"], "segm": metrics["segm"]}
    write_json(
        job.folder / RECORD, {**about, **record, "bbox": metrics["bbox"], "interval": metrics["confidence_interval"]}
    )
    print(f"{job.folder}: mask AP {metrics['segm']['AP']:.3f}", flush=True)
    return True


def table(results: Sequence[Mapping], names: Sequence[str]) -> list[str]:
    """Mask AP by dataset and minutes, and below its means over the datasets.

    Means over seeds with their range; of one seed, with the 95 % interval over the scored images, if they are enough.
    """
    cells = sorted({(each["dataset"], each["minutes"]) for each in results})
    lines = [f"| dataset | minutes | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    of_minutes: dict[float, list[list[float]]] = {}
    for dataset, minutes in cells:
        row = []
        for name in names:
            of_cell = (dataset, minutes, name)
            row.append([each for each in results if (each["dataset"], each["minutes"], each["recipe"]) == of_cell])
        if all(row):
            of_minutes.setdefault(minutes, []).append([mean_ap(found) for found in row])
        lines.append(f"| {dataset} | {minutes:g} | {' | '.join(map(shown, row))} |")
    for minutes, means in of_minutes.items():
        over = [statistics.mean(column) for column in zip(*means, strict=True)]
        lines.append(f"| all {len(means)} | {minutes:g} | {' | '.join(f'{mean:.3f}' for mean in over)} |")
    return lines


def mean_ap(found: Sequence[Mapping]) -> float:
    return statistics.mean(each["segm"]["AP"] for each in found)


def shown(found: Sequence[Mapping]) -> str:
    """A cell of the table: mean mask AP of a recipe's seeds, and between which values it lies."""
    if not found:
        return "–"
    values = [each["segm"]["AP"] for each in found]
    between = (min(values), max(values)) if len(found) > 1 else found[0]["interval"]["segm"]["AP"]
    return f"{mean_ap(found):.3f}" + (f" ({between[0]:.3f} to {between[1]:.3f})" if between else "")


def ablations(results: Sequence[Mapping]) -> list[str]:
    """What each decision of a plan gained: mask AP with it and without it, means over seeds, and the difference."""
    of_recipe: dict[tuple, list[float]] = {}
    for each in results:
        of_recipe.setdefault((each["dataset"], each["minutes"], each["recipe"]), []).append(each["segm"]["AP"])
    lines = ["| dataset | minutes | decision | without it | with it | gain |", "|---|---|---|---|---|---|"]
    for (dataset, minutes, recipe), without in of_recipe.items():
        name, is_ablation, decision = recipe.partition(WITHOUT)
        if is_ablation and (with_it := of_recipe.get((dataset, minutes, name))):
            before, after = statistics.mean(without), statistics.mean(with_it)
            lines.append(
                f"| {dataset} | {minutes:g} | {decision} | {before:.3f} | {after:.3f} | {after - before:+.3f} |"
            )
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
