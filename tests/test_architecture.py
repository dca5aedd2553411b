"""The layers of the package, read off its imports; and the few rules of form that a linter does not know."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "finemask"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# What each part may import of the package, besides errors and types. The order is the reading order.
BASE = {"errors", "types"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "lean_torchvision": set(),
    "ops": {"lean_torchvision"},
    "named_parts": set(),
    "coco": {"ops"},
    "data": {"ops", "coco", "machine"},
    "model_hub": set(),
    "model": {"ops", "model_hub", "named_parts", "lean_torchvision"},
    "evaluation": {"ops", "coco"},
    "model_header": {"ops"},
    "model_file": {"ops", "config", "model", "model_header", "model_hub"},
    "pages": {"ops"},
    "datatools": {"ops", "coco", "data", "pages"},
    "reports": {"ops", "coco", "evaluation", "datatools", "pages"},
    "inference": {"ops", "coco", "model", "model_header", "model_file"},
    "training": {"ops", "model", "model_hub", "evaluation", "model_header", "model_file", "machine", "config"},
    "export": {"ops", "model", "model_header", "model_file", "inference"},
    "serving": {"ops", "model_header", "inference", "pages"},
    "machine": set(),
    "config": set(),
    "planning": {"ops", "coco", "data", "datatools", "machine", "config"},
    "command_line": {"ops", "config", "machine"},
}
ALLOWED["workflows"] = set(ALLOWED) - {"command_line"}
ALLOWED["bench"] = ALLOWED["workflows"] | {"workflows"}
EVERYTHING = set(ALLOWED)
ALLOWED |= {
    "verbs": EVERYTHING,
    "cli": EVERYTHING | {"verbs"},
    "__main__": {"cli"},
    "": {"data", "inference", "training", "workflows"},  # finemask/__init__.py
}

OPTIONAL = {
    "timm",
    "pyvips",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "nncf",
    "fastapi",
    "uvicorn",
    "starlette",
    "h11",
    "python_multipart",
    "prometheus_client",
    "optuna",
    "wandb",
    "mlflow",
    "submitit",
    "faster_coco_eval",
    "huggingface_hub",
    "av",
    "pandas",
    "supervision",
    "cvat_sdk",
    "pyarrow",
    "ray",
}
MOST_SIBLINGS = 15
# Imported by name here, and certain to be there because of the dependency named.
BROUGHT_ALONG = {
    "markupsafe": "jinja2",
    "fsspec": "torch",
    "lightning_fabric": "pytorch-lightning",
}
IMPORT_NAMES = {"pillow": "PIL", "hydra-core": "hydra", "opencv-python-headless": "cv2", "pyyaml": "yaml"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Dotted names of everything a file imports, inside functions as well; relative ones spelt out."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(PACKAGE.parent).parent.parts)
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}", node


def part_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


def at_import_time(path: Path) -> set[ast.stmt]:
    """Statements that run when a file is imported; blocks under ``if TYPE_CHECKING`` do not."""
    found: set[ast.stmt] = set()
    todo: list[ast.AST] = [tree_of(path)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo.extend(node.orelse)
            continue
        if isinstance(node, ast.stmt):
            found.add(node)
        todo.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_downward_only(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED, f"finemask.{part} is new: say in ALLOWED what it may import, and in docs/ where it stands"
    wrong = []
    for name, node in imported(path):
        words = name.split(".")
        if words[0] != "finemask" or (len(words) > 1 and words[1] == "__version__"):
            continue
        target = words[1] if len(words) > 1 else ""
        if target != part and target not in ALLOWED[part] | BASE:
            wrong.append(f"line {node.lineno}: {name}")
    assert wrong == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_frameworks_stay_where_they_belong(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    roots = {name.split(".")[0] for name, _ in imported(path)}
    if not (place.startswith(("training/", "workflows/")) or place == "data/datamodule.py"):
        assert not roots & {"pytorch_lightning", "lightning"}
    if place not in ("cli.py", "workflows/build_trainer.py") and not place.startswith(("config/", "verbs/")):
        assert "hydra" not in roots
    assert [name for name, _ in imported(path) if name.startswith("hydra._")] == [], "Hydra's private modules"
    if place.startswith("evaluation/"):
        assert not roots & {"torchvision"}, "a results file is scored without a model"
    late = {name.split(".")[0] for name, node in imported(path) if node in at_import_time(path)}
    assert not late & OPTIONAL, "optional packages are imported in the function that needs them"


def imports_of(path: Path, modules: Iterable[str]) -> set[str]:
    """The package's modules that a file imports, inside functions as well; those for type checkers alone left out."""
    for_types = {
        inner
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names = (name for name, node in imported(path) if node not in for_types)
    found = (name if name in modules else name.rpartition(".")[0] for name in names)
    return {name for name in found if name in modules}


def test_no_circle_of_imports() -> None:
    """Modules in an order in which each imports only those before it: ``CycleError`` names a circle."""
    dotted = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in SOURCES}
    modules = {name.removesuffix(".__init__"): path for path, name in dotted.items()}
    graph = {name: imports_of(path, modules) for name, path in modules.items()}
    assert sum(map(len, graph.values())) > len(graph), "they are read off the files"
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("finemask.errors") < order.index("finemask.workflows.train_model")


def test_every_package_imported_is_asked_for() -> None:
    asked = {canonicalize_name(Requirement(line).name) for line in requires("finemask") or []}
    known = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in asked} | OPTIONAL | {"finemask"}
    known |= {name for name, bringer in BROUGHT_ALONG.items() if bringer in asked}
    foreign = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in SOURCES
        for name, _ in imported(path)
        if name.split(".")[0] not in known | set(sys.stdlib_module_names)
    }
    assert foreign == set()


def test_no_grab_bags() -> None:
    assert [path for path in SOURCES if path.stem in ("utils", "util", "helpers", "misc", "common")] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_fits_in_a_head(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def siblings(paths: Iterable[Path]) -> Counter[str]:
    """How many modules and packages stand in each folder of the package."""
    inside = (path for path in paths if path != PACKAGE / "__init__.py")
    places = (path.parent if path.stem == "__init__" else path for path in inside)
    return Counter(place.parent.relative_to(PACKAGE).as_posix() for place in places)


def test_a_folder_is_seen_at_a_glance() -> None:
    rooms = siblings(SOURCES)
    del rooms["."]  # the layers themselves: ALLOWED lists them
    full = {folder: count for folder, count in rooms.items() if count > MOST_SIBLINGS}
    assert full == {}, "it needs another place, or a sibling to stand in"


def stems(paths: Iterable[Path]) -> Counter[str]:
    """How many modules have each name."""
    return Counter(path.stem for path in paths if path.stem != "__init__")


def test_a_name_is_given_once() -> None:
    shared = {name: count for name, count in stems(SOURCES).items() if count > 1}
    assert shared == {}, "the first name was too general"


def documented(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, bool]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            overloads = {ast.unparse(item) for item in getattr(node, "decorator_list", [])}
            if not overloads & {"overload", "typing.overload", "override", "typing.override"}:
                yield f"{prefix}{node.name}", ast.get_docstring(node) is not None
            if isinstance(node, ast.ClassDef):
                yield from documented(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_everything_public_says_what_it_does(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), "a module begins with what it is for"
    assert [name for name, has in documented(tree.body, "") if not has] == []


def test_no_file_names_a_place_on_the_machine_it_was_written_on() -> None:
    texts = [*SOURCES, *(REPOSITORY / "configs").rglob("*.yaml"), *(REPOSITORY / "scripts").rglob("*.py")]
    told = [path for path in texts if re.search(r"/(work|home|root|Users)/|\.\./shared", path.read_text("utf-8"))]
    assert told == []


def test_the_rules_above_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = PACKAGE / "ops" / "imagined.py"
    text = "from finemask.model import build\nfrom ..coco import index\nimport timm\n"
    text += "def f():\n    import hydra.utils\n"
    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: text if self == bad else real(self, *a, **k))
    names = {name for name, _ in imported(bad)}
    assert names == {"finemask.model.build", "finemask.coco.index", "timm", "hydra.utils"}
    assert {name for name, node in imported(bad) if node in at_import_time(bad)} == names - {"hydra.utils"}
    with pytest.raises(AssertionError, match=r"finemask\.model\.build"):
        test_imports_go_downward_only(bad)
    with pytest.raises(AssertionError):
        test_frameworks_stay_where_they_belong(bad)
    with pytest.raises(AssertionError, match="what it is for"):
        test_everything_public_says_what_it_does(bad)
    assert siblings([bad, bad.parent / "inner" / "__init__.py", bad.parent / "__init__.py"]) == {"ops": 2, ".": 1}
    assert stems([bad, PACKAGE / "data" / "imagined.py", bad.parent / "__init__.py"]) == {"imagined": 2}
    tree_of.cache_clear()
