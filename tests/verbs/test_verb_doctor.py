"""``finemask doctor``: facts parsed from given texts, conflicts found in given lists of packages."""

import io
import json
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from rich.console import Console

from finemask.machine import conflicts, hardware
from finemask.machine.conflicts import Problem
from finemask.machine.hardware import Gpu, Suggestion
from finemask.verbs import doctor

GOOD = {"torch": "2.6.0", "numpy": "2.1.0", "timm": "1.0.9"}
WANTED = [
    Requirement("torch>=2.6"),
    Requirement("NumPy>=1.26"),
    Requirement('timm>=1.0.9; extra == "timm"'),
    Requirement('onnx>=1.16; extra == "export"'),
    Requirement('pywin32>=300; sys_platform == "no-such-system"'),
]


def test_satisfied_requirements_are_no_problem() -> None:
    assert conflicts.check_requirements(WANTED, GOOD) == []


def test_missing_and_outdated_packages_are_named_with_the_command() -> None:
    assert conflicts.check_requirements(WANTED, {"torch": "2.5.1"}) == [
        Problem("torch 2.5.1 is installed, finemask needs >=2.6", "pip install 'torch>=2.6'"),
        Problem("numpy is not installed", "pip install 'numpy>=1.26'"),
    ]


def test_an_extra_counts_once_it_is_installed() -> None:
    found = conflicts.check_requirements(WANTED, {**GOOD, "timm": "0.9.0"})
    assert found == [Problem("timm 0.9.0 is installed, finemask needs >=1.0.9", "pip install 'timm>=1.0.9'")]


def test_local_and_development_builds_of_torch_are_accepted() -> None:
    for build in ("2.6.0+cu124", "2.9.0.dev20250801+cpu"):
        assert conflicts.check_requirements(WANTED, {**GOOD, "torch": build}) == []


def test_excluded_versions_are_found() -> None:
    wanted = [Requirement("pytorch-lightning>=2.5,<3,!=2.6.2")]
    assert (
        "finemask needs !=2.6.2,<3,>=2.5"
        in conflicts.check_requirements(wanted, {"pytorch-lightning": "2.6.2"})[0].what
    )


def test_dependencies_are_those_without_a_condition() -> None:
    assert conflicts.dependency_names(WANTED) == ["torch", "numpy"]
    assert {"torch", "hydra-core", "albumentations"} <= set(conflicts.dependency_names(conflicts.own_requirements()))


@pytest.mark.parametrize(
    ("installed", "part"),
    [
        (
            ["opencv-python", "opencv-python-headless"],
            "opencv-python and opencv-python-headless write into the same",
        ),
        (["albumentationsx", "albumentations"], "albumentationsx is installed"),
    ],
)
def test_packages_that_disturb_one_another(installed: list[str], part: str) -> None:
    (problem,) = conflicts.check_pairs(dict.fromkeys(installed, "1.0"))
    assert problem.what.startswith(part)
    assert problem.remedy.startswith("pip uninstall -y ")


def test_one_opencv_is_fine() -> None:
    assert conflicts.check_pairs({"opencv-python-headless": "4.12", "albumentations": "2.0.8"}) == []


def test_a_probe_that_raises_is_a_problem() -> None:
    def broken() -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    found = conflicts.check_probes({"this": (lambda: None, ""), "torchvision": (broken, "reinstall it")})
    assert found == [Problem("torchvision fails: operator torchvision::nms does not exist", "reinstall it")]


def test_this_environment_passes_its_probes() -> None:
    assert conflicts.check_probes(conflicts.default_probes()) == []


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", None), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("", None)],
)
def test_quota_of_a_container(text: str, cores: int | None) -> None:
    assert hardware.quota_cores(text) == cores


def test_memory_of_meminfo() -> None:
    text = "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:    8388608 kB\nHugePages_Total:   0\n"
    assert hardware.parse_meminfo(text) == (16.0, 8.0)
    assert hardware.parse_meminfo("MemTotal: 1048576 kB\n") == (1.0, 1.0)
    assert hardware.parse_meminfo("") is None


def test_memory_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB",
        "/sys/fs/cgroup/memory.max": str(4 * hardware.GIB),
        "/sys/fs/cgroup/memory.current": str(1 * hardware.GIB),
    }
    monkeypatch.setattr(hardware, "_read", lambda path: files[path])
    assert hardware.memory_gib() == (4.0, 3.0)
    files["/sys/fs/cgroup/memory.max"] = "max"
    assert hardware.memory_gib() == (16.0, 8.0)


A100 = Gpu("A100", 80.0, (8, 0), bf16=True)
T4 = Gpu("T4", 15.0, (7, 5), bf16=False)
TINY = Gpu("MX150", 2.0, (6, 1), bf16=False)


@pytest.mark.parametrize(
    ("gpus", "cores", "suggestion"),
    [
        ([], 8, Suggestion("light", "32-true", 4, 1)),
        ([], 1, Suggestion("light", "32-true", 4, 0)),
        ([A100], 32, Suggestion("resnet50_fpn", "bf16-mixed", 16, 8)),
        ([T4], 2, Suggestion("resnet50_fpn", "16-mixed", 4, 1)),
        ([A100, T4], 8, Suggestion("resnet50_fpn", "16-mixed", 4, 3)),
        ([TINY], 4, Suggestion("light", "16-mixed", 1, 3)),
    ],
)
def test_suggestions(gpus: list[Gpu], cores: int, suggestion: Suggestion) -> None:
    assert hardware.suggest(gpus, cores) == suggestion


def test_a_suggestion_can_be_typed_as_it_is() -> None:
    from finemask.config import compose

    words = hardware.suggest([], 8).overrides()
    assert words == ["model=light", "trainer.precision=32-true", "data.batch_size=4", "data.num_workers=1"]
    assert compose("train", ["data.root=DIR", *words]).data.batch_size == 4


def test_gpus_as_torch_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    properties = SimpleNamespace(name="T4", major=7, minor=5, total_memory=15 * hardware.GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    assert hardware.gpus() == [T4]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Problem:
    problem = Problem("torch 2.5 [old] is installed", "pip install 'torch>=2.6'")
    monkeypatch.setattr(doctor, "diagnose", lambda requirements, installed: [problem])
    return problem


def test_problems_give_exit_code_2_and_their_remedies(broken: Problem, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(OmegaConf.create({"json": True})) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == [{"what": broken.what, "remedy": broken.remedy}]
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["torch"]
    assert doctor.main(OmegaConf.create({"json": False})) == 2
    page = capsys.readouterr().out
    assert broken.what in page
    assert broken.remedy in page


def test_the_page_names_each_gpu_and_what_to_type() -> None:
    facts = {
        "python": "3.11.9",
        "system": "Linux",
        "cores": 4,
        "memory_total_gib": None,
        "memory_available_gib": None,
        "disk_free_gib": 10.0,
        "nvidia_driver": "560.1",
        "gpus": [{"name": "T4", "memory_gib": 15.0, "capability": "7.5", "bf16": False}],
    }
    console = Console(file=io.StringIO(), width=80)
    doctor.show(console, facts, {"torch": "2.6", "numpy": None}, [], hardware.suggest([T4], 4))
    page = console.file.getvalue()  # type: ignore[attr-defined]
    assert "T4, 15.0 GiB, compute capability 7.5" in page
    assert "missing" in page
    assert "nothing wrong was found" in page
    assert "finemask train data.root=DIR model=resnet50_fpn trainer.precision=16-mixed data.batch_size=4" in page
