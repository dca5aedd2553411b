"""The wheel carries everything that an installed finemask reads."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from this source tree, without the network."""
    pytest.importorskip("hatchling", reason="building a wheel offline needs hatchling in this environment")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_configurations_travel_byte_for_byte(wheel: zipfile.ZipFile) -> None:
    prefix = "finemask/configs/"
    packed = {name.removeprefix(prefix): wheel.read(name) for name in wheel.namelist() if name.startswith(prefix)}
    assert packed == files_below(REPOSITORY / "configs")
    assert packed, "an empty tree would make this test worth nothing"


def test_every_file_of_the_package_travels(wheel: zipfile.ZipFile) -> None:
    source = files_below(REPOSITORY / "src" / "finemask")
    wanted = {f"finemask/{name}" for name in source if "__pycache__" not in name}
    assert wanted <= set(wheel.namelist())
    assert "finemask/py.typed" in wanted
    assert wanted == {
        name for name in wheel.namelist() if name.startswith("finemask/") and not name.startswith("finemask/configs/")
    }


def test_nothing_else_lands_in_site_packages(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {
        "finemask",
        f"finemask-{PROJECT['project']['version']}.dist-info",
    }


def test_licence_and_entry_point(wheel: zipfile.ZipFile) -> None:
    info = f"finemask-{PROJECT['project']['version']}.dist-info"
    assert wheel.read(f"{info}/entry_points.txt").decode().split() == [
        "[console_scripts]",
        "finemask",
        "=",
        "finemask.cli:main",
    ]
    licence = wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert "License-Expression: Apache-2.0" in wheel.read(f"{info}/METADATA").decode()


def test_the_wheel_works_from_where_it_lies(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import finemask.config as c; "
        "print(c.config_dir()); print(c.compose('doctor').json)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.splitlines() == [str(tmp_path / "site" / "finemask" / "configs"), "False"]


def test_every_dependency_bound_has_its_reason() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("\ndependencies = [\n")[2].partition("\n]\n")[0]
    assert [line for line in table.splitlines() if not re.search(r'^  ".*",\s*# \S', line)] == []


README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_ci_types_what_the_readme_says() -> None:
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line for block in BLOCKS[:2] for line in block.splitlines()]
    assert commands == [
        "pip install -e .",
        "finemask train experiment=quickstart",
        'pip install -e ".[dev]"',
        "pytest -n 2",
    ]
    assert "readme_block 1" in ci
    assert "readme_block 2" in ci


def test_every_finemask_command_in_the_documents_composes(tmp_path, monkeypatch) -> None:
    import shlex

    from finemask.cli import VERBS
    from finemask.config import compose

    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text("# @package _global_\nplan: none\n")  # which finemask plan writes
    documents = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    seen = 0
    for path in documents:
        for block in re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] != ["finemask"] or any(word.startswith("-") for word in words):
                    continue
                verb = " ".join(words[1:3]) if " ".join(words[1:3]) in VERBS else words[1]
                assert verb in VERBS, f"{path.name}: {line}"
                given = words[1 + len(verb.split()) :]
                compose(verb, [word for word in given if "=" in word], check=False)
                seen += 1
    assert seen > 5


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *(REPOSITORY / "docs").rglob("*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:", "mailto:")) and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(REPOSITORY)}: {target}")
    assert broken == []
