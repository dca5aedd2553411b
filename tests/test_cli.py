"""The command line as a person meets it: words in, lines and an exit code out."""

import errno
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from omegaconf import DictConfig

from finemask import cli
from finemask.command_line.failures import explain, own_modules, print_error
from finemask.command_line.multirun import run_to_the_end
from finemask.errors import ConfigError, DataError, FinemaskError, MissingExtraError


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    """``finemask doctor`` with its work replaced: collects the configurations it is called with."""
    seen: list[DictConfig] = []

    def work(cfg: DictConfig) -> int:
        seen.append(cfg)
        return 0

    monkeypatch.setitem(sys.modules, "finemask.verbs.doctor", SimpleNamespace(main=work))
    return seen


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def work(cfg: DictConfig) -> int:
        raise error

    monkeypatch.setitem(sys.modules, "finemask.verbs.doctor", SimpleNamespace(main=work))


def test_help_lists_the_verbs_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from finemask.cli import main; main(['--help']); main(['config', '--help']); "
        "print(sorted({'torch', 'hydra', 'omegaconf', 'numpy', 'yaml', 'rich'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 2, "half a second is the promise; a loaded machine gets some more"
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    for name, summary in cli.VERBS.items():
        assert any(line.split(maxsplit=len(name.split()))[:-1] == name.split() and summary in line for line in lines)


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_listed_verb_exists(name: str) -> None:
    spec = find_spec(cli.module_of(name))
    assert spec is not None
    assert spec.origin is not None
    arguments = "cfg: DictConfig, asked: Asked" if name in cli.TOLD_WHAT_WAS_TYPED else "cfg: DictConfig"
    assert f"\ndef main({arguments}) -> int:\n" in Path(spec.origin).read_text(encoding="utf-8")


def test_every_verb_that_exists_is_listed() -> None:
    folder = Path(cli.__file__).parent / "verbs"
    files = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py")}
    assert {name.replace("/", " ") for name in files if not name.endswith("__init__")} == {*cli.VERBS}


@pytest.mark.parametrize("name", cli.VERBS)
def test_the_page_of_a_verb(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: finemask {name} ")
    assert "examples:\n  finemask " in page
    assert "keys:\n" in page


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_key_of_a_page_says_what_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    silent = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        key = re.fullmatch(r"  [a-z][\w.]*=\S*", line)  # nothing stands beside it
        if key and "/" not in line and not following.startswith("      "):
            silent.append(line.strip())
    assert silent == []


def test_the_page_of_train_lists_groups_their_options_and_their_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["train", "-h"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "model=resnet50_fpn or light, mobilenet_v2_fpn" in page
    assert "experiment=null or " in page
    assert "data.root=… " in page


def test_a_page_lists_the_groups_of_its_own_verb_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "stats", "--help"]) == 0
    page = capsys.readouterr().out
    assert "  model=resnet50_fpn " in page
    assert "  model/box_loss=" in page
    assert "  optimizer=" not in page


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"finemask {version('finemask')}\n"


def test_a_verb_gets_its_configuration(verb: list[DictConfig]) -> None:
    assert cli.main(["doctor", "json=true"]) == 0
    assert verb == [{"json": True}]


@pytest.mark.parametrize("words", [["data"], ["data", "--help"], ["data", "help"]])
def test_a_family_of_verbs_lists_them(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    page = capsys.readouterr().out
    listed = [name for name in cli.VERBS if f"  {name} " in page]
    assert listed == [name for name in cli.VERBS if name.startswith("data ")]


def test_the_exit_code_of_a_verb_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finemask.verbs.doctor", SimpleNamespace(main=lambda cfg: 2))
    assert cli.main(["doctor"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["docter"], "'docter' is not a verb. Did you mean finemask doctor? finemask --help lists them."),
        (
            ["data", "check", "data.root=photos"],
            "unknown key 'data.root'. Type: annotations=photos/annotations/train.json images=photos/images",
        ),
        (
            ["data", "synt"],
            "'data synt' is not a verb. Did you mean finemask data synth? There is: finemask data check",
        ),
        (
            ["doctor", "jsn=true"],
            "unknown key 'jsn'. Did you mean 'json'? finemask doctor --help lists the keys.",
        ),
        (["val"], "'val' is not a verb. Did you mean finemask evaluate? finemask --help lists them."),
        (["tune", "model=m"], "'tune' is not a verb. Did you mean finemask sweep? finemask --help lists them."),
        (["segment", "train", "lr0=0.1"], "unknown key 'lr0'. Type: optimizer.lr=0.1"),
        (
            ["train", "--batch-size", "4"],
            "unknown flag --batch-size. Keys are written without dashes. Type: data.batch",
        ),
        (["train", "--lr=0.1"], "unknown flag --lr=0.1. Keys are written without dashes. Type: optimizer.lr=0.1"),
        (["doctor", "--json=true"], "unknown flag --json=true. Keys are written without dashes: json=true"),
        (["doctor", "--json"], "unknown flag --json. Keys are written without dashes: json=…"),
        (["doctor", "--json", "true"], "unknown flag --json. Keys are written without dashes: json=true"),
        (["doctor", "--multrun"], "unknown flag --multrun. Did you mean --multirun?"),
        (["doctor", "--cfg", "all"], "--cfg all is not known. There is: --cfg job."),
        (["doctor", "--config-dir"], "--config-dir needs a value. finemask VERB --help lists the flags."),
        (
            ["doctor", "--resolve"],
            "--resolve belongs to --cfg job. Type: finemask doctor --cfg job --resolve.",
        ),
        (["doctor", "true"], "'true' is not of the form key=value."),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    verb: list[DictConfig], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}")
    assert captured.err.count("\n") == 1
    assert verb == []


def test_cfg_job_prints_yaml_and_runs_nothing(verb: list[DictConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--cfg", "job", "json=true"]) == 0
    assert cli.main(["doctor", "--cfg=job", "--resolve"]) == 0
    assert capsys.readouterr().out == "json: true\njson: false\n"
    assert verb == []


def test_config_dir_and_name_reach_composition(verb: list[DictConfig], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("json: true\n")
    assert cli.main(["doctor", "--config-dir", str(tmp_path), "--config-name=mine"]) == 0
    assert verb == [{"json": True}]


@pytest.mark.parametrize("destination", ["it's here/été (1).yaml", "C:\\mine\\", "a,b", "[x"])
def test_bare_words_fill_the_keys_of_config(monkeypatch: pytest.MonkeyPatch, destination: str) -> None:
    seen: list[DictConfig] = []
    monkeypatch.setitem(sys.modules, "finemask.verbs.config", SimpleNamespace(main=lambda cfg: seen.append(cfg) or 0))
    assert cli.main(["config", "copy", "experiment/quickstart", destination]) == 0
    assert seen == [{"action": "copy", "name": "experiment/quickstart", "config_dir": None, "destination": destination}]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            DataError("no annotations", where="train.json", remedy="Draw some."),
            "train.json: no annotations. Draw some.",
        ),
        (
            MissingExtraError("timm", "timm", needed_for="This"),
            "This needs the package timm, which is not installed.",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "x.ckpt"), "x.ckpt: no space left on the device."),
        (
            RuntimeError("SafetensorError: No space left on device (os error 28)"),
            "no space left on the device.",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.jpg"),
            "a.jpg: no such file or directory",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "photos/x"), "photos/x: permission denied"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."), "the GPU ran out of memory"),
        (MemoryError(), "memory ran out."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_person_can_mend_has_exit_code_2_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    failing(monkeypatch, error)
    assert cli.main(["doctor"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert "Traceback" not in err


def test_a_full_disk_is_found_behind_another_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("could not save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert explain(error) == 2
    assert "no space left" in capsys.readouterr().err


def test_an_error_of_a_loading_worker_is_shown_without_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\nfinemask.errors.DataError: a.jpg: cannot be read. Remove it.\n'
    )
    assert explain(DataError(text)) == 2
    assert explain(RuntimeError(text)) == 2
    assert capsys.readouterr().err == "error: a.jpg: cannot be read. Remove it.\n" * 2


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), FileNotFoundError("no name"), KeyError("k")], ids=repr)
def test_a_defect_has_exit_code_1_and_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    failing(monkeypatch, error)
    assert cli.main(["doctor"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert f"error: this is a defect of finemask ({type(error).__name__}: " in err


def test_a_file_missing_inside_the_package_is_a_defect() -> None:
    inside = str(Path(cli.__file__).parent / "lost.html")
    assert explain(FileNotFoundError(errno.ENOENT, "No such file or directory", inside)) == 1


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FINEMASK_DEBUG", "1")
    failing(monkeypatch, FinemaskError("wrong"))
    assert cli.main(["doctor"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_has_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert cli.main(["doctor"]) == 130


def test_an_error_is_wrapped_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "a sentence of some words. " * 8
    print_error(message)
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    print_error(message)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 60


def finemask(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finemask", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_a_reader_who_leaves_early_sees_no_complaint() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "finemask", "config", "list"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(find_spec("triton") is None, reason="torch comes without triton here")
def test_what_was_imported_before_a_verb_is_freed_at_exit() -> None:
    # triton, which training imports, writes 27 lines of "nanobind: leaked …" when what it has made is not freed
    code = "import sys, triton; from finemask.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "config", "list"], capture_output=True, text=True, check=False)
    assert "experiment" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_called_from_python_it_leaves_the_garbage_collector_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", ModuleType("triton"))
    frozen = gc.get_freeze_count()
    assert frozen > 0, "conftest.py sees to it"
    assert cli.main(["--version"]) == 0
    assert (gc.get_freeze_count(), gc.isenabled()) == (frozen, True)


def test_multirun_runs_each_combination_and_sums_up(tmp_path: Path) -> None:
    done = finemask("config", "action=show", "name=config,doctor,nothing", "-m", cwd=tmp_path)
    assert done.returncode == 2
    assert "== run 1 of 3: name=config" in done.stdout
    summary = done.stdout.partition("== 3 runs\n")[2].splitlines()
    told = [line.split() for line in summary if "name=" in line]
    assert [words[0] for words in told] == ["ok", "ok", "exit"]
    assert [words[-1] for words in told] == ["name=config", "name=doctor", "name=nothing"]
    assert done.stderr == "error: there is no configuration 'nothing'. Type: finemask config list\n"


def test_multirun_ends_with_ap_folder_and_the_mean_over_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aps = iter([0.5, 0.7, 0.25, 0.25])
    (tmp_path / "d").mkdir()
    (tmp_path / "runs/tiny/old").mkdir(parents=True)
    (tmp_path / "runs/tiny/old/metrics.json").write_text("{}")
    os.utime(tmp_path / "runs/tiny/old/metrics.json", (1, 1))

    def run(command: Sequence[str]) -> int:
        ap = next(aps)
        folder = tmp_path / "runs" / "tiny" / f"run{len(list((tmp_path / 'runs' / 'tiny').iterdir()))}"
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps({"segm": {"AP": ap}, "bbox": {"AP": 0.9}}))
        os.utime(folder / "metrics.json", (time.time() + len(list(folder.parent.iterdir())),) * 2)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("finemask.command_line.multirun.run_to_the_end", run)
    words = ["train", "-m", "data.root=d", "model=tiny", "optimizer.lr=0.1,0.2", "seed=1,2"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out.partition("== 4 runs\n")[2]
    rows = [line.split() for line in said.splitlines() if "optimizer.lr=" in line]
    assert [row[2:] for row in rows[:4]] == [
        ["0.500", "optimizer.lr=0.1", "seed=1"],
        ["0.700", "optimizer.lr=0.1", "seed=2"],
        ["0.250", "optimizer.lr=0.2", "seed=1"],
        ["0.250", "optimizer.lr=0.2", "seed=2"],
    ]
    assert rows[4:] == [["optimizer.lr=0.1", "2", "0.600", "0.141"], ["optimizer.lr=0.2", "2", "0.250", "0.000"]]
    assert [f"runs/tiny/run{number}" in said for number in range(1, 5)] == [True] * 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.root=d", "trainer.max_epochs=2,1.5"], "trainer.max_epochs cannot be 1.5"),
        (["data.root=d,gone"], "data.root=gone: there is no such folder"),
        (["data.root=d", "hydra/launcher=joblib", "seed=1,2"], "There is submitit_local and submitit_slurm."),
        (["data.root=d", "hydra.launcher.partition=gpu", "seed=1,2"], "Choose one: hydra/launcher=submitit_slurm."),
        (["data.root=d", "hydra/sweeper=optuna", "seed=1,2"], "sweepers of Hydra are not supported"),
        (
            ["data.root=d", "hydra/launcher=submitit_slurm", "hydra.launcher.partitoin=gpu", "seed=1,2"],
            "unknown key 'partitoin'. Did you mean 'partition'?",
        ),
    ],
)
def test_multirun_starts_nothing_where_one_combination_can_never_work(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("finemask.command_line.multirun.run_to_the_end", lambda command: pytest.fail("started"))
    assert cli.main(["train", "-m", "model=tiny", *words]) == 2
    assert message in capsys.readouterr().err


def test_multirun_refuses_a_bad_value_before_the_first_run(tmp_path: Path) -> None:
    done = finemask("config", "nme=config,doctor", "--multirun", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown key 'nme'" in done.stderr


def test_an_interrupted_run_may_save_before_it_ends(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    code = (
        "import signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(2); "
        f"open({str(saved)!r}, 'w').close(); sys.exit(130)"
    )
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert run_to_the_end([sys.executable, "-c", code]) == 130
    assert saved.exists()


def test_the_doors_in_scripts_open_the_same_verbs() -> None:
    scripts = Path(__file__).resolve().parents[1] / "scripts"
    for verb in ("train", "evaluate", "predict"):
        done = subprocess.run(
            [sys.executable, scripts / f"{verb}.py", "--help"], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"usage: finemask {verb} ")


def test_errors_name_what_where_and_remedy() -> None:
    assert str(ConfigError("wrong.", where="a.yaml", remedy="Mend it.")) == "a.yaml: wrong. Mend it."
    assert str(FinemaskError("wrong")) == "wrong"


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_torch_is_asked_for_huge_pages_unless_the_user_said_otherwise(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", before or "")
    if before is None:
        monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    assert cli.main(["--version"]) == 0
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == after


def test_a_missing_dataset_is_refused_before_anything_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from finemask.cli import main; codes = [main(['train', 'data.root=gone']), "
        "main(['data', 'preview', 'data.root=gone', 'output=o'])]; print(codes, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[2, 2] False\n"
    assert done.stderr.count("error: data.root=gone: there is no such folder.") == 2


OWN_LOSS = """
def of_loss(masks):
    return masks.nothing


def in_worker(worker):
    return 1 / worker
"""


@pytest.fixture
def own_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "ownloss.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    return import_module("ownloss")


def with_own_loss(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(sys.modules, "finemask.verbs.doctor", SimpleNamespace(main=lambda cfg: work()))
    return cli.main(["doctor", "+loss={_target_: ownloss.of_loss}"])


def test_a_bug_in_a_part_of_the_users_own_is_reported_as_theirs(
    own_loss: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_own_loss(lambda: own_loss.of_loss([1]), monkeypatch) == 2
    err = capsys.readouterr().err
    place = f"{own_loss.__file__}, line 3, in of_loss"
    assert err.startswith(f"error: an error in your own code: {place}: AttributeError: 'list' object has no attribute")
    assert "Traceback" not in err

    def built() -> None:  # as the builder of models wraps what a part raises
        try:
            own_loss.of_loss([1])
        except AttributeError as error:
            raise ConfigError("the parts do not fit together") from error

    assert with_own_loss(built, monkeypatch) == 2
    assert f"your own code: {place}" in capsys.readouterr().err


def test_a_bug_in_an_own_part_in_a_loading_worker(
    own_loss: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise ZeroDivisionError(
            "Caught ZeroDivisionError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            f'  File "/x/torch/worker.py", line 5, in loop\n  File "{own_loss.__file__}", line 7, in in_worker\n'
            "    return 1 / worker\nZeroDivisionError: division by zero\n"
        )

    assert with_own_loss(work, monkeypatch) == 2
    err = capsys.readouterr().err
    assert f"your own code: {own_loss.__file__}, line 7, in in_worker: ZeroDivisionError: division by zero." in err


def test_a_defect_of_ours_stays_ours_beside_an_own_part(
    own_loss: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_own_loss(lambda: {}["k"], monkeypatch) == 1
    assert "a defect of finemask (KeyError" in capsys.readouterr().err
    assert own_modules({"a": [{"_target_": "ownloss.of_loss"}], "b": {"_target_": "torch.optim.SGD"}}) == {"ownloss"}


def test_the_page_of_train_begins_with_what_most_people_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--help"]) == 0
    block = capsys.readouterr().out.partition("what most people set:\n")[2].partition("\n\n")[0]
    keys = [re.split(r"[='\"]+", line.strip(" '\""))[0] for line in block.splitlines() if re.match(r"  ['\"]?\w", line)]
    assert len(keys) == 10
    assert keys[:3] == ["data.root", "name", "model"]
    assert "data.batch_size=2 " in block  # which refers to the preset's
    assert "$" not in block


def test_options_of_an_own_folder_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# Narrow and quick.\ndefaults: [light, _self_]\nmin_size: 200\n")
    assert cli.main(["train", "--config-dir", str(tmp_path), "--help"]) == 0
    assert "model=resnet50_fpn or light, mine, " in " ".join(capsys.readouterr().out.split())
    assert cli.main(["config", "list", "model", "--config-dir", str(tmp_path)]) == 0
    assert re.search(r"^model/mine +Narrow and quick\.$", capsys.readouterr().out, re.MULTILINE)
    assert cli.main(["config", "show", "model/mine", f"--config-dir={tmp_path}"]) == 0
    assert capsys.readouterr().out.endswith("min_size: 200\n")


def test_a_comment_that_goes_on_in_the_next_line_is_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "suspects", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    keys = [line.split("=")[0].strip() for line in lines[lines.index("keys:") + 1 :] if re.match(r"  \w", line)]
    assert "data" not in [key.split()[0] for key in keys]
    assert "judge what they did not see" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("remedy", "lines"), [("word " * 40, 3), ("To repair: finemask data check " + "word " * 40, 1)]
)
def test_on_a_terminal_a_paragraph_is_wrapped_and_a_command_can_be_pasted(monkeypatch, capsys, remedy, lines):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    print_error(f"something is wrong. {remedy}")
    assert capsys.readouterr().err.rstrip("\n").count("\n") == lines - 1
