"""The plan of a training: what a person left open, decided from the data, and composed beneath what they typed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from finemask.coco.index import CocoIndex
from finemask.config import plain
from finemask.config.composing import Asked
from finemask.config.config_files import groups, search_path
from finemask.config.given import Given
from finemask.errors import ConfigError, DataError
from finemask.ops.images.image_reading import ImageReading
from finemask.planning.decision import Decision
from finemask.planning.experiment_file import experiment_text, train_command, words_of_a_file, write_experiment
from finemask.planning.fingerprint import Fingerprint, Machine
from finemask.planning.make_plan import make_plan
from finemask.planning.plan_tables import in_words
from finemask.workflows.data.check_before_training import check_data


@dataclass(frozen=True)
class Planned:
    """A plan, before anything is written or trained.

    Args:
        decisions: one after another.
        data: that they rest on.
        machine: likewise.
    """

    decisions: list[Decision]
    data: Fingerprint
    machine: Machine


def plan_training(asked: Asked) -> Planned:
    """Decides what a training would.

    Args:
        asked: of the verb ``train``.

    Raises:
        ConfigError: there is nothing to plan.
        DataError: the annotations have errors; its remedy is the command that repairs them.
    """
    cfg = asked.compose()
    given = asked.given()
    if given is None:
        raise ConfigError(
            "this configuration says everything: there is nothing to plan",
            where=f"--config-name {asked.config_name}",
            remedy="Leave the flag out, and type what is to stay.",
        )
    if cfg.plan != "auto":
        raise ConfigError(
            f"plan={cfg.plan} says that nothing is to be planned",
            remedy="Type plan=auto, and the plan keeps to what the experiment says.",
        )
    if cfg.prepare is not None:
        from finemask.workflows.build_trainer import prepare_data  # and Lightning, which nobody else waits for

        prepare_data(cfg)
    planned = decide(cfg, given)
    if cfg.data.check:
        check_data(compose_planned(asked, given, [decision.as_record() for decision in planned.decisions]))
    return planned


def write_plan(asked: Asked, path: Path) -> tuple[Planned, list[str]]:
    """Plans, and writes the plan as an experiment file.

    Args:
        asked: of the verb ``train``.
        path: of the file.

    Returns:
        The plan, and the words of the command that trains with the file.

    Raises:
        ConfigError: there is nothing to plan, or a file that somebody has edited.
    """
    planned = plan_training(asked)
    held, left = words_of_a_file(asked.words)
    command = train_command(path, left)
    if asked.config_dir is not None:
        command[2:2] = ["--config-dir", str(asked.config_dir)]
    known = groups(search_path(asked.config_dir))
    about = ["What finemask plan decided, and why. Every line may be edited; what is typed beside it wins."]
    about += in_words(planned.data, planned.machine)
    write_experiment(path, experiment_text(planned.decisions, held, known, about, command))
    return planned, command


def decide(cfg: DictConfig, given: Given) -> Planned:
    """The plan for the data of a configuration.

    Args:
        cfg: of ``train``, without a plan.
        given: what people said of it.

    Raises:
        DataError: the annotations cannot be read.
    """
    values = plain(cfg)
    data = values["data"]
    root = Path(data["root"])
    try:
        reading = ImageReading.of(data.get("image"))
        # without the folder nobody looks whether all images are there; whoever trains does
        index = CocoIndex.read(root / data["train"], None, cache=data.get("cache", "auto"), reading=reading)
    except DataError:
        if cfg.data.check:
            check_data(cfg)  # says the same with the command that repairs
        raise
    fingerprint = Fingerprint.of(replace(index, images_dir=root / data["images"]))
    machine = Machine.here(str(values["trainer"].get("accelerator")))
    return Planned(make_plan(fingerprint, machine, values, given), fingerprint, machine)


def compose_planned(asked: Asked, given: Given, records: list[dict[str, Any]]) -> DictConfig:
    """What was asked for over what was decided, which stands in it as ``planned``.

    Args:
        asked: of ``train``.
        given: what people said; a decision of an earlier run that they have taken themselves since is left out.
        records: decisions, as ``Decision.as_record`` gives them.
    """
    words = [
        word
        for record in records
        if not record["kept"]
        for word in record["set"]
        if not _names_given(given, str(word).partition("=")[0])
    ]
    cfg = asked.compose(words)
    OmegaConf.update(cfg, "planned", records, force_add=True)
    return cfg


def _names_given(given: Given, key: str) -> bool:
    return key in given.groups or key.replace(".", "/") in given.groups or given.has(key)
