"""Diagnosis of the installed packages: bounds, packages that disturb one another, small trials."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True, slots=True)
class Problem:
    """Something broken, and its remedy as a command or sentence."""

    what: str
    remedy: str


def installed_versions() -> dict[str, str]:
    """Canonical name to version of every distribution that Python sees, the first on the path winning."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def own_requirements() -> list[Requirement]:
    """What finemask asks for, its extras included."""
    return [Requirement(line) for line in requires("finemask") or []]


def dependency_names(requirements: Iterable[Requirement]) -> list[str]:
    """Names of the requirements that always apply, in the order of the project file."""
    return [canonicalize_name(r.name) for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def check_requirements(requirements: Iterable[Requirement], installed: Mapping[str, str]) -> list[Problem]:
    """Packages that are missing or outside their bounds. Extras count only once they are installed.

    Args:
        requirements: what is asked for.
        installed: canonical name to version.
    """
    problems: dict[Problem, None] = {}
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        version = installed.get(name)
        wanted = f"{name}{requirement.specifier}"
        if version is None:
            if always:
                problems[Problem(f"{name} is not installed", f"pip install '{wanted}'")] = None
        elif not requirement.specifier.contains(version, prereleases=True):
            what = f"{name} {version} is installed, finemask needs {requirement.specifier}"
            problems[Problem(what, f"pip install '{wanted}'")] = None
    return list(problems)


def check_pairs(installed: Mapping[str, str]) -> list[Problem]:
    """Packages that disturb one another.

    Args:
        installed: canonical name to version.
    """
    problems = []
    names = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
    flavours = [name for name in names if name in installed]
    if len(flavours) > 1:
        problems.append(
            Problem(
                f"{' and '.join(flavours)} write into the same folder cv2, the later one over the earlier",
                f"pip uninstall -y {' '.join(flavours)} && pip install opencv-python-headless",
            )
        )
    if "albumentationsx" in installed:
        problems.append(
            Problem(
                "albumentationsx is installed: it takes the place of albumentations and is under the AGPL",
                "pip uninstall -y albumentationsx && pip install --force-reinstall 'albumentations<2.1'",
            )
        )
    return problems


def check_probes(probes: Mapping[str, tuple[Callable[[], object], str]]) -> list[Problem]:
    """Runs probes, since compiled packages can be installed and broken all the same.

    Args:
        probes: what is tried -> the function that tries it, the remedy when it raises.
    """
    problems = []
    for what, (probe, remedy) in probes.items():
        try:
            probe()
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            problems.append(Problem(f"{what} fails: {reason}", remedy))
    return problems


def default_probes() -> dict[str, tuple[Callable[[], object], str]]:
    """The probes of ``finemask doctor``; each takes milliseconds once its package is imported."""
    reinstall = "pip install --force-reinstall --no-cache-dir"
    return {
        "importing torch": (_torch, "see https://pytorch.org/get-started for the build that fits this machine"),
        "torch working with numpy": (
            _torch_numpy,
            f"{reinstall} torch numpy (one was built for another numpy)",
        ),
        "torchvision's compiled operators": (
            _torchvision_nms,
            "pip install --upgrade torch torchvision (each torchvision is built for one torch)",
        ),
        "pycocotools": (_pycocotools, f"{reinstall} pycocotools (it was built for another numpy)"),
        "OpenCV": (
            _opencv,
            "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless",
        ),
    }


def diagnose(requirements: Sequence[Requirement], installed: Mapping[str, str]) -> list[Problem]:
    """Every problem found, by bounds, by pairs and by trying."""
    return [*check_requirements(requirements, installed), *check_pairs(installed), *check_probes(default_probes())]


def _torch() -> None:
    import torch

    torch.zeros(1).sum().item()


def _torch_numpy() -> None:
    import torch

    torch.zeros(1).numpy()


def _torchvision_nms() -> None:
    import torch
    from torchvision.ops import nms

    nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)


def _pycocotools() -> None:
    import numpy as np
    from pycocotools import mask

    mask.area(mask.encode(np.ones((2, 2), dtype=np.uint8, order="F")))


def _opencv() -> None:
    import cv2
    import numpy as np

    cv2.resize(np.zeros((2, 2, 3), np.uint8), (4, 4))
