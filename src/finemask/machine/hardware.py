"""Hardware of this machine, and the training settings that it suggests."""

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_IMAGE_SHARE = 0.9
GIB = 1024**3
_PACKAGES = (  # that decide what a run comes to
    "finemask", "torch", "torchvision", "pytorch-lightning", "pycocotools", "albumentations",
    "opencv-python-headless", "hydra-core", "numpy", "scipy", "pillow", "safetensors", "timm",
)  # fmt: skip

# torchvision's own training of maskrcnn_resnet50_fpn, 800 px, float32, takes 5.4 GB with two images a GPU.
_GIB_FIXED = 1.0
_GIB_AN_IMAGE = 2.2


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device. ``memory_gib`` is its total memory, ``capability`` the compute capability."""

    name: str
    memory_gib: float
    capability: tuple[int, int]
    bf16: bool


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Values to start from, as they are typed."""

    model: str
    precision: str
    batch_size: int
    num_workers: int

    def overrides(self) -> list[str]:
        """The suggestion as words of a command line."""
        return [
            f"model={self.model}",
            f"trainer.precision={self.precision}",
            f"data.batch_size={self.batch_size}",
            f"data.num_workers={self.num_workers}",
        ]


def suggest(gpus: Sequence[Gpu], cores: int) -> Suggestion:
    """Model preset, precision, batch size and workers to start with.

    Args:
        gpus: what there is; the smallest decides, since each gets the same batch.
        cores: CPU cores this process may use.
    """
    if not gpus:
        # Loading and training share the cores: one worker keeps up with a CPU that trains.
        return Suggestion(model="light", precision="32-true", batch_size=4, num_workers=1 if cores > 1 else 0)
    smallest = min(gpu.memory_gib for gpu in gpus)
    fitting = max(1, math.floor((smallest - _GIB_FIXED) / _GIB_AN_IMAGE))
    return Suggestion(
        model="resnet50_fpn" if smallest >= 4 else "light",
        precision="bf16-mixed" if all(gpu.bf16 for gpu in gpus) else "16-mixed",
        batch_size=min(16, 2 ** int(math.log2(fitting))),
        num_workers=max(0, min(8, cores // len(gpus) - 1)),
    )


def cores() -> int:
    """CPU cores this process may use: scheduler affinity and container quota respected."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, quota_cores(_read("/sys/fs/cgroup/cpu.max")) or allowed)


def quota_cores(cpu_max: str) -> int | None:
    """Whole cores that a cgroup's ``cpu.max`` ("200000 100000") allows, at least 1; None without a limit."""
    words = cpu_max.split()
    if len(words) != 2 or words[0] == "max":
        return None
    return max(1, int(words[0]) // int(words[1]))


def memory_gib() -> tuple[float, float] | None:
    """Total and available memory in GiB, a container's limit respected; None where it cannot be told."""
    known = parse_meminfo(_read("/proc/meminfo"))
    if known is None:
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" not in names:
            return None
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
        return total, total
    total, available = known
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit() and int(limit) / GIB < total:
        total = int(limit) / GIB
        available = min(available, max(0.0, total - int(used) / GIB))
    return total, available


def bytes_for_an_image() -> float | None:
    """What the pixels of one image may take of the memory that is free; None where it cannot be told."""
    memory = memory_gib()
    return None if memory is None else memory[1] * GIB * _IMAGE_SHARE


def parse_meminfo(text: str) -> tuple[float, float] | None:
    """Total and available GiB off ``/proc/meminfo``; None when it does not say."""
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in text.splitlines()) if rest}
    if "MemTotal" not in kib:
        return None
    return kib["MemTotal"] / 1024**2, kib.get("MemAvailable", kib["MemTotal"]) / 1024**2


def processor_name() -> str:
    """What the processor calls itself, where the system tells it."""
    names = (line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").splitlines() if "model name" in line)
    return next(names, "") or platform.processor() or platform.machine()


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run comes to, by name; without those that are not installed."""
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def disk_free_gib(folder: Path) -> float:
    """Free space in GiB where ``folder`` lies."""
    return shutil.disk_usage(folder).free / GIB


def gpus() -> list[Gpu]:
    """The CUDA devices that torch can use; none when torch cannot be imported."""
    try:
        import torch
    except Exception:
        return []
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        capability = (properties.major, properties.minor)
        # Compute capability 8.0 is where bfloat16 has matrix units; below it is emulated.
        found.append(Gpu(properties.name, properties.total_memory / GIB, capability, bf16=capability >= (8, 0)))
    return found


def nvidia_driver() -> str | None:
    """Version of the NVIDIA driver; None when there is none or it does not answer."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return answer[0] if answer else None


def facts(folder: Path) -> dict[str, Any]:
    """Everything above in one JSON object.

    Args:
        folder: where a run would be written; its disk is measured.
    """
    memory = memory_gib()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": cores(),
        "memory_total_gib": None if memory is None else round(memory[0], 1),
        "memory_available_gib": None if memory is None else round(memory[1], 1),
        "disk_free_gib": round(disk_free_gib(folder), 1),
        "nvidia_driver": nvidia_driver(),
        "gpus": [
            {
                "name": gpu.name,
                "memory_gib": round(gpu.memory_gib, 1),
                "capability": ".".join(map(str, gpu.capability)),
                "bf16": gpu.bf16,
            }
            for gpu in gpus()
        ],
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
