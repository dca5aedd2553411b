"""Everything worth knowing of one GPU, in eight minutes and one command.

python scripts/bench_gpu.py                   # writes docs/performance/gpu.json, measurement by measurement
python scripts/bench_gpu.py --seconds 240     # the first measurements are the ones that matter most
python scripts/bench_gpu.py --dry             # small sizes on the CPU, in seconds: whether the script works

What fails is noted and the rest goes on: a lent GPU does not come back for a typing error.
"""

import argparse
import contextlib
import gc
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from bench_train_models import POSITIVES_AN_OBJECT, build_ours, build_torchvisions, scenes, their_arguments
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from finemask.bench.scenes import proposals_around
from finemask.bench.timing import Comparison, machine
from finemask.data.batches import PackedBatch
from finemask.model.devices.compiling import compile_parts
from finemask.model.devices.gpu import fixed_step
from finemask.model.devices.gpu.crossing import on_host
from finemask.model.devices.gpu.proposals import Proposals
from finemask.model.mask_rcnn import MaskRCNN
from finemask.ops.files.atomic_files import write_json
from finemask.types import Target

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "performance" / "gpu.json"
OBJECTS = 8
GOAL, GOAL_MEMORY = 1.5, 2 / 3  # of torchvision's speed and memory, both under autocast


@dataclass(frozen=True)
class Plan:
    """What is measured, at which sizes.

    Args:
        device: that is measured.
        size: px of the shorter side.
        batches: images at a time.
        seconds: that one figure may take once it is warm.
        warmup: steps before them.
        matrix: side of the matrices whose product says what the device can do.
        words: of the model's configuration.
    """

    device: torch.device
    size: int = 800
    batches: tuple[int, ...] = (8, 2, 16)
    seconds: float = 7.0
    warmup: int = 3
    matrix: int = 8192
    words: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"


FEW_REGIONS = ("model.sampler.batch_size_per_image=32", "model.rpn.post_nms_top_n_test=50")
DRY = Plan(torch.device("cpu"), size=64, batches=(1,), seconds=0.0, warmup=0, matrix=64, words=FEW_REGIONS)


class Record:
    """Measurements by name, written after each of them.

    Args:
        path: of the JSON file.
        seconds: after which no further measurement begins.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._end = path, time.monotonic() + seconds
        self.measurements: dict[str, Any] = {}
        self.comparisons: list[Comparison] = []

    def take(self, name: str, measure: Callable[[], Any]) -> Any:
        """What a measurement gives; None where it fails or there is no time for it."""
        started = time.monotonic()
        found = None
        if started > self._end:
            self.measurements[name] = {"skipped": "no time left"}
        else:
            try:
                found = measure()
                self.measurements[name] = found
            except Exception as error:
                self.measurements[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        print(f"{time.monotonic() - started:6.1f} s  {name}: {self.measurements[name]}", flush=True)
        self.write()
        return found

    def write(self) -> None:
        """Writes what there is so far."""
        gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
        content = {
            "machine": machine() | gpu,
            "comparisons": [asdict(row) for row in self.comparisons],
            "details": self.measurements,
        }
        write_json(self._path, content)


@contextlib.contextmanager
def known_proposals(images: Sequence[Tensor], targets: Sequence[Target]) -> Iterator[None]:
    """Lets our RPN do all its work, then trains on boxes around the objects: random weights find none."""
    real = fixed_step.propose

    def replaced(*arguments: Any) -> Proposals:
        found = real(*arguments)
        for number, (image, target) in enumerate(zip(images, targets, strict=True)):
            near = _near(image, target).to(found.boxes)[: found.boxes.shape[1]]
            found.boxes[number, : len(near)] = near
        return found

    fixed_step.propose = replaced
    try:
        yield
    finally:
        fixed_step.propose = real


def _near(image: Tensor, target: Target) -> Tensor:
    height, width = image.shape[-2:]
    return proposals_around(target["boxes"].cpu(), POSITIVES_AN_OBJECT, (height, width), seed=0)


def hand_proposals(model: nn.Module, images: Sequence[Tensor], targets: Sequence[Target]) -> None:
    """The same for torchvision's."""

    def replace(module: nn.Module, arguments: Any, output: Any) -> Any:
        found, losses = output
        near = [_near(image, target).to(boxes) for image, target, boxes in zip(images, targets, found, strict=True)]
        return [torch.cat([a, b])[: len(b)] for a, b in zip(near, found, strict=True)], losses

    model.rpn.register_forward_hook(replace)  # type: ignore[union-attr]


def autocast(plan: Plan, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision in bfloat16, or none."""
    return torch.autocast(plan.device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def our_step(plan: Plan, batch: int, precision: str, *, compiled: bool = False) -> tuple[nn.Module, Callable[[], None]]:
    """A training step as a run does it: the batch crosses from pinned memory, and the loss is looked at once."""
    model = build_ours(plan.size, 1, *plan.words)
    model.fixed_shapes = True
    model.to(plan.device)
    if compiled:
        compile_parts(model, heads=True)
    images, targets = scenes(plan.size, batch, OBJECTS)
    packed = PackedBatch.pack(list(zip(images, targets, strict=True)))
    packed = packed.pin_memory() if plan.on_gpu else packed
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, foreach=True)

    def step() -> None:
        optimizer.zero_grad()
        with known_proposals(images, targets), autocast(plan, precision):
            total = torch.stack(list(model(*packed.to(plan.device)).values())).sum()
        if not torch.isfinite(total):
            raise ValueError("the loss is not finite")
        total.backward()
        optimizer.step()

    return model, step


def their_step(plan: Plan, batch: int, precision: str) -> tuple[nn.Module, Callable[[], None]]:
    """A step of torchvision's reference loop, its batch on the device already."""
    model = build_torchvisions(plan.size, 1, build_ours(plan.size, 1, *plan.words)).to(plan.device)
    images, targets = scenes(plan.size, batch, OBJECTS)
    hand_proposals(model, images, targets)
    floats, dense = their_arguments(images, targets)
    floats = [image.to(plan.device) for image in floats]
    dense = [{name: value.to(plan.device) for name, value in target.items()} for target in dense]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(plan, precision):
            total = sum(model(floats, dense).values())
        if not torch.isfinite(total):
            raise ValueError("the loss is not finite")
        total.backward()
        optimizer.step()

    return model, step


def timed(plan: Plan, work: Callable[[], object], images: int) -> dict[str, float]:
    """Seconds a call, images a second, and the peak of memory, without a wait between calls."""
    for _ in range(plan.warmup):
        work()
    if plan.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    calls, started = 0, time.perf_counter()
    while calls == 0 or (time.perf_counter() - started < plan.seconds and calls < 200):
        work()
        calls += 1
    if plan.on_gpu:
        torch.cuda.synchronize()
    each = (time.perf_counter() - started) / calls
    peak = torch.cuda.max_memory_allocated() / 2**30 if plan.on_gpu else 0.0
    return {"seconds": each, "images_per_second": images / each, "peak_gib": peak, "calls": calls}


def check_placement(plan: Plan) -> dict[str, Any]:
    """The same losses on the device as on the CPU, where nothing is drawn; and with lists on the device."""
    found = {}
    images, targets = scenes(64, 2, 3)
    for name, device, fixed in (("cpu", "cpu", False), ("fixed", plan.device, True), ("lists", plan.device, False)):
        everything = "model.sampler.batch_size_per_image=100000", "model.rpn.batch_size_per_image=100000"
        model = build_ours(64, 1, *everything, "model.sampler.positive_fraction=1", name="tiny").to(device)
        model.fixed_shapes = fixed
        packed = PackedBatch.pack(list(zip(images, targets, strict=True)))
        losses = model(*packed.to(device))
        torch.stack(list(losses.values())).sum().backward()
        found[name] = {key: value.item() for key, value in losses.items()}
    worst = {
        name: max(abs(found[name][key] - value) / max(1.0, abs(value)) for key, value in found["cpu"].items())
        for name in ("fixed", "lists")
    }
    if max(worst.values()) > 1e-2:
        raise ValueError(f"losses differ from the CPU's: {found}")
    return {"losses": found, "largest_difference": worst}


def count_waits(plan: Plan) -> dict[str, Any]:
    """How often the host waits, as CUDA itself says, in a training step and in a detection."""
    counted: dict[str, Any] = {}
    for batch in plan.batches[:2]:
        model, step = our_step(plan, batch, "bf16")
        step()
        counted[f"training, batch {batch}"] = _warned(plan, step)
        assert isinstance(model, MaskRCNN)
        images = scenes(plan.size, batch, OBJECTS)[0]
        model.eval()
        detect = torch.inference_mode()(lambda model=model, images=images: on_host(model.detect_together(images)))
        detect()
        counted[f"detecting, batch {batch}"] = _warned(plan, detect)
    return counted


def _warned(plan: Plan, work: Callable[[], object]) -> list[str]:
    if not plan.on_gpu:
        work()
        return []
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]


def measure_training(plan: Plan, record: Record, precision: str, batch: int) -> None:
    """Ours and torchvision's, one after the other, so that each has the memory for itself."""
    what = f"training step, resnet50_fpn, {plan.size} px, batch {batch}, {precision}"
    ours = record.take(f"{what}, finemask", lambda: timed(plan, our_step(plan, batch, precision)[1], batch))
    theirs = record.take(f"{what}, torchvision", lambda: timed(plan, their_step(plan, batch, precision)[1], batch))
    if ours and theirs:
        row = Comparison(
            work=what,
            baseline="torchvision",
            baseline_s=theirs["seconds"],
            finemask_s=ours["seconds"],
            ratio=theirs["seconds"] / ours["seconds"],
            goal=GOAL if precision == "bf16" else 0.0,
            agreement="losses finite",
            memory=f"peak {ours['peak_gib']:.1f} GiB, theirs {theirs['peak_gib']:.1f} GiB (goal {GOAL_MEMORY:.2f})",
        )
        record.comparisons.append(row)
        record.write()


def measure_prediction(plan: Plan, batch: int) -> dict[str, Any]:
    """Images a second: together, one by one, and torchvision's, which takes the batch together."""
    ours = build_ours(plan.size, 1, *plan.words).eval()
    theirs = build_torchvisions(plan.size, 1, ours).to(plan.device).eval()
    ours.fixed_shapes = True
    ours.to(plan.device)
    images = scenes(plan.size, batch, OBJECTS)[0]
    floats = [(image.float() / 255).to(plan.device) for image in images]
    ways: dict[str, Callable[[], object]] = {
        "together": lambda: on_host(ours.detect_together(images)),
        "one by one": lambda: on_host(ours(images)),
        "torchvision": lambda: [found["masks"].cpu() for found in theirs(floats)],
    }
    with torch.inference_mode():
        return {name: timed(plan, work, batch) for name, work in ways.items()}


def trace_step(plan: Plan, batch: int) -> dict[str, Any]:
    """Where a step's time goes: kernels by what they take, how many are queued, and how busy the device is."""
    _, step = our_step(plan, batch, "bf16")
    for _ in range(max(1, plan.warmup)):
        step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if plan.on_gpu else [])]
    started = time.perf_counter()
    with profile(activities=activities) as traced:
        step()
        if plan.on_gpu:
            torch.cuda.synchronize()
    wall = time.perf_counter() - started
    rows = traced.key_averages()
    spent = {row.key: row.self_device_time_total if plan.on_gpu else row.self_cpu_time_total for row in rows}
    counts = {row.key: row.count for row in rows}
    longest = sorted(spent, key=lambda key: -spent[key])[:30]
    return {
        "wall_s": wall,
        "busy_share": sum(spent.values()) / 1e6 / wall,
        "launched": counts.get("cudaLaunchKernel", 0) + counts.get("cudaLaunchKernelExC", 0),
        "waits": {name: count for name, count in counts.items() if "Synchronize" in name},
        "longest": [{"name": key[:90], "ms": spent[key] / 1e3, "count": counts[key]} for key in longest],
    }


def roofline(plan: Plan, batch: int) -> dict[str, float]:
    """What a step's convolutions and products would take at the speed that the device has for a matrix product."""
    side = plan.matrix
    matrix = torch.randn(side, side, device=plan.device, dtype=torch.bfloat16)
    product = timed(plan, lambda: matrix @ matrix, 1)["seconds"]
    copied = timed(plan, lambda: matrix.clone(), 1)["seconds"]
    _, step = our_step(plan, batch, "bf16")
    with FlopCounterMode(display=False) as counter:
        step()
    peak = 2 * side**3 / product
    taken = timed(plan, step, batch)["seconds"]
    return {
        "teraflops_of_a_product": peak / 1e12,
        "gigabytes_a_second_copied": 2 * matrix.nbytes / copied / 1e9,
        "teraflop_a_step": counter.get_total_flops() / 1e12,
        "share_of_the_peak": counter.get_total_flops() / taken / peak,
    }


def measure_compiled(plan: Plan, batch: int) -> dict[str, float]:
    """Backbone, pyramid and heads compiled; compiling is timed apart."""
    started = time.perf_counter()
    _, step = our_step(plan, batch, "bf16", compiled=plan.on_gpu)
    step()
    compiling = time.perf_counter() - started
    return timed(plan, step, batch) | {"first_step_s": compiling}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=FIGURES, help="file to write")
    parser.add_argument("--seconds", type=float, default=480.0, help="after which no further measurement begins")
    parser.add_argument("--dry", action="store_true", help="small sizes on the CPU")
    options = parser.parse_args(arguments)
    if not options.dry and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; --dry tries the script on the CPU")
    plan = DRY if options.dry else Plan(torch.device("cuda"))
    record = Record(options.json, options.seconds)
    first = plan.batches[0]
    record.take("placement", lambda: check_placement(plan))
    record.take("waits", lambda: count_waits(plan))
    for batch in plan.batches:
        measure_training(plan, record, "bf16", batch)
    record.take(f"prediction, batch {first}", lambda: measure_prediction(plan, first))
    record.take(f"trace, batch {first}", lambda: trace_step(plan, first))
    record.take(f"roofline, batch {first}", lambda: roofline(plan, first))
    record.take(f"compiled, batch {first}, bf16", lambda: measure_compiled(plan, first))
    for batch in plan.batches[:2]:
        measure_training(plan, record, "fp32", batch)
    print(f"wrote {options.json}")
    return 1 if any("failed" in found for found in record.measurements.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
