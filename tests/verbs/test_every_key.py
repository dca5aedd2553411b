"""Every key of every verb with values of other kinds, and with values that nobody expects: words, never a traceback.

What passes the check of the values is run, on tiny data, up to where the work would be long.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from finemask import cli
from finemask.command_line.failures import user_message
from finemask.config import compose, config_dir, plain
from finemask.config.kinds import check_values
from finemask.data.shapes import draw_shapes
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.model.build import build_model
from finemask.model.resolve import resolve_model
from finemask.model_file import save_model_file
from finemask.model_header import ModelHeader

VALUES: tuple[Any, ...] = (
    "word", "", "[", True, None, -1, 0, 1, 0.5, 1.5, 10**20, 1e300, float("nan"), float("inf"),
    [], [1], [0.5, "word"], [[]], {}, {"a": 1},
)  # fmt: skip

LABELS, IMAGES = "shapes/annotations/train.json", "shapes/images"
# What each verb is called with; {} is the folder to write to, a new one each time.
COMMANDS = {
    "evaluate": ["predictions=results.json", f"annotations={LABELS}", "output={}"],
    "evaluate of a model": ["model=model.safetensors", "data.root=shapes", "output={}"],
    "compare": ["a=results.json", "b=results.json", f"annotations={LABELS}", "output={}"],
    "predict": ["model=model.safetensors", f"source={IMAGES}/000001.jpg", "output={}"],
    "share": ["model=model.safetensors", "to={}"],
    "export": ["model=model.safetensors", "output={}/model.onnx", f"images={IMAGES}"],
    "info": ["model=model.safetensors"],
    "doctor": [],
    "config": ["action=copy", "name=model/tiny", "destination={}"],
    "data check": [f"annotations={LABELS}", f"images={IMAGES}", "report={}/report.json"],
    "data convert": ["source=shapes", "output={}"],
    "data split": [f"annotations={LABELS}", "output={}"],
    "data stats": [f"annotations={LABELS}", f"images={IMAGES}", "output={}", "model=tiny"],
    "data suspects": ["predictions=results.json", f"annotations={LABELS}", f"images={IMAGES}", "output={}"],
    "data synth": ["output={}", "images=2", "size=64"],
    "data tile": [f"annotations={LABELS}", f"images={IMAGES}", "output={}"],
    "data preview": ["data.root=shapes", "output={}", "model=tiny", "data.num_workers=0", "n=1"],
    "benchmark": ["output={}", "model=tiny", "images=1", "height=32", "width=32", "objects=1", "rounds=1"],
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, a results file and a model file."""
    folder = tmp_path_factory.mktemp("scene")
    draw_shapes(folder / "shapes", images=4, size=64, seed=1)
    truth = load_ground_truth(folder / LABELS)
    (folder / "results.json").write_text(json.dumps(ground_truth_as_predictions(truth)))
    config = resolve_model(plain(compose("train", ["model=tiny", "data.root=d"]).model), 20)
    model = build_model(config, num_classes=len(truth.categories) + 1)
    categories = tuple(truth.categories)
    header = ModelHeader(
        model=config,
        categories=categories,
        preprocessing=model.preprocessing,
        thresholds={"global": 0.5, "per_class": {}},
    )
    save_model_file(folder / "model.safetensors", model.state_dict(), header)
    return folder


@pytest.fixture(autouse=True)
def _little_work(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scene)
    monkeypatch.setenv("COLUMNS", "80")


def leaves(node: dict[str, Any], place: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{place}{key}.")
        elif not key.startswith("_"):
            yield f"{place}{key}"


def outcome(work: Callable[[], Any]) -> str:
    """``done``, or what a person is told, or the defect."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            work()
    except Exception as error:
        told = user_message(error)
        return f"DEFECT {type(error).__name__}: {error}" if told is None else told
    return "done"


def with_value(cfg: DictConfig, values: dict[str, Any], verb: str, key: str, value: Any) -> DictConfig | None:
    """The configuration with one value changed; None where it is refused before anything is imported.

    ``values`` are those of ``cfg`` in plain form, and are so again afterwards.
    """
    *sections, last = key.split(".")
    holder = values
    for section in sections:
        holder = holder[section]
    before, holder[last] = holder[last], value
    try:
        texts = check_values(values, verb)
    except Exception as error:
        told = user_message(error)
        assert told is not None, f"{key}={value!r}"
        assert f"{key} cannot be" in told, told
        return None
    finally:
        holder[last] = before
    changed = cfg.copy()
    OmegaConf.update(changed, key, texts.get(key, value), merge=False)
    return changed


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "benchmark"])
def test_no_value_of_a_verb_ends_in_a_traceback(command: str, scene: Path, monkeypatch) -> None:
    if command == "export":
        _without_exporters(monkeypatch)
    verb = command.partition(" of ")[0]
    main = import_module(cli.module_of(verb)).main
    first = compose(verb, [word.format(f"first {command}") for word in COMMANDS[command]])
    keys = list(leaves(cast(dict[str, Any], OmegaConf.to_container(first, resolve=False))))
    if verb == "data stats":
        keys = [key for key in keys if "." not in key]  # the others are those of train, below
    if verb == "data preview":  # likewise; of those it reads two
        own = OmegaConf.load(config_dir() / "data_preview.yaml")
        keys = [*(str(key) for key in own if key != "defaults"), "seed", "prepare"]
    if command == "evaluate of a model":
        keys = ["model", "data.root", "data.val", "split", "device", "num_workers", "threshold", "nms_thresh", "tta"]
    assert outcome(lambda: main(first)) == "done"
    refused, defects = 0, []
    for number, (key, value) in enumerate((key, value) for key in keys for value in VALUES):
        cfg = with_value(_moved(first, command, number), plain(first), verb, key, value)
        if cfg is None:
            refused += 1
            continue
        before = set(scene.rglob("*"))
        told = outcome(lambda cfg=cfg: main(cfg))
        if told.startswith("DEFECT"):
            defects.append(f"{key}={value!r}: {told}")
        elif told != "done" and "could not be read, or not in full" not in told:
            assert set(scene.rglob("*")) == before, f"{key}={value!r}: {told}"
    assert defects == []
    assert refused > len(keys)


def _without_exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporters take a minute; what comes before and after them is looked at."""
    from finemask.export.agreement import Agreement
    from finemask.export.certificate import Certificate
    from finemask.export.formats import FORMATS
    from finemask.workflows import export_model

    for name, form in FORMATS.items():
        light = replace(form, write=lambda model, header, path: path.touch(), open=lambda *_: None)
        monkeypatch.setitem(FORMATS, name, light)
    seen = [
        Agreement("drawn", (64, 64), 0.5, found, found, found, 0, 0, 0.0, 0, 0, 0.0, 0.0, 0.0, 0.0)
        for found in (0, 1, 2)
    ]
    times = {"model": 1.0, "exported": 1.0}
    monkeypatch.setattr(export_model, "certify", lambda *_: Certificate(seen, times))


def _moved(cfg: DictConfig, command: str, number: int) -> DictConfig:
    """The configuration with everything that it writes in another folder."""
    moved = cfg.copy()
    for key, value in OmegaConf.to_container(cfg, resolve=False).items():
        if isinstance(value, str) and value.startswith("first "):
            moved[key] = value.replace("first", str(number))
    return moved


def test_no_value_of_train_ends_in_a_traceback() -> None:
    words = ["model=tiny", "data.root=shapes", "data.num_workers=0", "data.cache=null", "callbacks=early_stopping"]
    cfg = compose("train", words)
    cfg.run_dir = "unused"
    values = plain(cfg)
    works = {"model": _model, "data": _data, "trainer": _trainer, "optimizer": _steps, "scheduler": _steps}
    works |= {"callbacks": _trainer, "logger": _trainer, "transfer": _model}
    built, defects = 0, []
    for key in leaves(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))):
        work = works.get(key.partition(".")[0])
        for value in VALUES:
            changed = with_value(cfg, values, "train", key, value)
            if changed is not None and work is not None:
                built += 1
                told = outcome(lambda changed=changed, work=work: work(changed))
                if told.startswith("DEFECT"):
                    defects.append(f"{key}={value!r}: {told}")
    assert defects == []
    assert built > 200


def _model(cfg: DictConfig) -> None:
    from finemask.model.pretrained.transfer import Transfer, apply_transfer, first_epochs

    config = resolve_model(plain(cfg.model), 20, instances_per_label=[1, 2])
    with torch.device("meta"):
        model = build_model(config, num_classes=3)
    transfer = Transfer(**plain(cfg.transfer))
    apply_transfer(model, transfer)
    first_epochs(transfer, 5)


def _data(cfg: DictConfig) -> None:
    from finemask.workflows.build_trainer import build_datamodule

    build_datamodule(cfg).setup()


def _trainer(cfg: DictConfig) -> None:
    from finemask.evaluation.evaluator import CocoEvaluator
    from finemask.training.callbacks.validation import CocoEvaluation
    from finemask.workflows.build_trainer import build_trainer

    build_trainer(cfg, CocoEvaluation(CocoEvaluator(load_ground_truth(LABELS))))


def _steps(cfg: DictConfig) -> None:
    from finemask.training.module import MaskRCNNModule
    from finemask.workflows.build_trainer import build, build_optimizer

    module = MaskRCNNModule(
        torch.nn.Linear(2, 2),
        optimizer=build_optimizer(cfg),
        scheduler=build(cfg.scheduler, "scheduler"),
        lr=cfg.optimizer.lr,
        weight_decay=cfg.optimizer.weight_decay or 0.0,
    )
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "callbacks": []})()
    module.configure_optimizers()
