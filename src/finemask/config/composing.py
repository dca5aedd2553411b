"""Composing a configuration.

Two kinds of primary configuration exist. One with a ``defaults`` list (``train.yaml``) is composed by Hydra
from the groups, each a folder. One without (the other verbs, and the ``config.yaml`` that a run writes) is a
plain tree: there a key such as ``model`` is a key, even though a group of that name exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from finemask.config import config_files, plain
from finemask.config.config_files import config_names, find_config, groups, search_path
from finemask.config.given import Given, given_by_people
from finemask.config.hydra_files import drop_keys_of_replaced_parts, flatten, hydra_compose, with_experiment_files
from finemask.config.moved_targets import present_target
from finemask.config.overrides import apply_overrides, arguments, parse_override
from finemask.config.refused_keys import check_complete, check_key, check_option
from finemask.config.synonyms import translate
from finemask.errors import ConfigError, did_you_mean


def compose(
    verb: str,
    overrides: Sequence[str] = (),
    *,
    config_dir: Path | str | None = None,
    config_name: str | None = None,
    check: bool = True,
) -> DictConfig:
    """Composes the configuration of a verb.

    Args:
        verb: as typed, for example ``"train"`` or ``"data synth"``.
        overrides: Hydra's grammar, ``key=value``, ``+key=value``, ``~key``, ``group=option``.
        config_dir: a folder of the user's own YAML files, searched before the shipped ones.
        config_name: primary configuration to use instead of the verb's own, without ``.yaml``.
        check: refuse mandatory values that are missing and references that lead nowhere.

    Returns:
        The configuration; interpolations are resolved on access, unknown keys cannot be set.

    Raises:
        ConfigError: an unknown key, group or option, a value that cannot be read, or something missing.
    """
    name = (config_name or verb.replace(" ", "_")).removesuffix(".yaml")
    folders = search_path(config_dir)
    path = _find(folders, name, verb)
    parsed = [parse_override(override) for override in overrides]
    for override in parsed:
        if override.is_sweep_override():
            key, _, value = str(override.input_line).partition("=")
            if (found := translate(verb, key, value)) and not found.words[0].startswith(f"{key}="):
                raise ConfigError(f"unknown key '{key}'", remedy=str(found))
            raise ConfigError(
                f"'{override.input_line}' names several values",
                remedy="A list is written 'key=[a,b]'; add --multirun for one run a value.",
            )
    plain_tree = _load(path)
    if "defaults" in plain_tree:
        with with_experiment_files(parsed, folders) as (parsed, folders):
            cfg = _compose_groups(name, folders, parsed, verb)
    else:
        cfg = _apply(_over_shipped(plain_tree, path, verb), parsed, verb)
    for key, value in list(flatten(cfg)):
        if key.endswith("_target_") and isinstance(value, str) and (present := present_target(value)) != value:
            OmegaConf.update(cfg, key, present)
    if check:
        check_complete(cfg, verb)
    return cfg


def given(
    verb: str,
    overrides: Sequence[str] = (),
    *,
    config_dir: Path | str | None = None,
    config_name: str | None = None,
) -> Given | None:
    """What of a configuration a person said: typed, in an experiment, in ``debug=``, in files of their own.

    Args:
        verb: as for ``compose``, which has composed it.
        overrides: likewise.
        config_dir: likewise.
        config_name: likewise.

    Returns:
        None where it is all of it: a tree without a defaults list, such as the ``config.yaml`` of a run.
    """
    name = (config_name or verb.replace(" ", "_")).removesuffix(".yaml")
    folders = search_path(config_dir)
    if "defaults" not in _load(_find(folders, name, verb)):
        return None
    with with_experiment_files([parse_override(override) for override in overrides], folders) as (parsed, folders):
        known_groups = groups(folders)
        parsed = [_as_group(override, known_groups) for override in parsed]
        preset = _preset(hydra_compose(name, folders, _options(parsed, known_groups)), parsed)
        return given_by_people(name, folders, parsed, [preset] if preset else [])


@dataclass(frozen=True)
class Asked:
    """What somebody asked of a verb, on the command line or from Python, to be composed with more beneath it.

    Args:
        verb: as typed.
        words: overrides, in Hydra's grammar.
        config_dir: as for ``compose``.
        config_name: likewise.
    """

    verb: str
    words: tuple[str, ...] = ()
    config_dir: Path | str | None = None
    config_name: str | None = None

    def compose(self, beneath: Sequence[str] = (), *, check: bool = True) -> DictConfig:
        """The configuration.

        Args:
            beneath: overrides that those asked for win over; of groups, only such as nobody chose an option of.
            check: as for ``compose``.
        """
        words = [*beneath, *self.words]
        return compose(self.verb, words, config_dir=self.config_dir, config_name=self.config_name, check=check)

    def given(self) -> Given | None:
        """What of it a person said; None: all of it."""
        return given(self.verb, self.words, config_dir=self.config_dir, config_name=self.config_name)

    def as_verb(self, verb: str, *, without: str) -> Asked:
        """The same asked of another verb, which has no such key, or another one of that name."""
        words = tuple(word for word in self.words if parse_override(word).key_or_group != without)
        return replace(self, verb=verb, words=words)


def verb_options(verb: str, values: Mapping[str, object], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The options of a verb as its workflow takes them: ``verb_options("compare", {"a": "runs/a", "b": "runs/b"})``.

    Args:
        verb: as typed, for example ``"data suspects"``.
        values: Python's own values by key, ``data.root`` for one of a section; None leaves a key as it is.
        overrides: as on the command line, after them.

    Raises:
        ConfigError: see ``compose``.
    """
    return plain(compose(verb, [*arguments(values), *overrides]))


def _find(folders: Sequence[Path], name: str, verb: str) -> Path:
    if path := find_config(name, folders):
        return path
    known = [known for known in config_names(folders) if "/" not in known]
    raise ConfigError(
        f"there is no configuration '{name}' for finemask {verb} in {' or '.join(map(str, folders))}",
        remedy=did_you_mean(name, known, "--config-name {}").strip() or None,
    )


def _load(path: Path) -> DictConfig:
    try:
        cfg = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"not readable as YAML: {' '.join(str(error).split())}", where=path) from error
    if not isinstance(cfg, DictConfig):
        raise ConfigError("a configuration is a mapping of keys to values; this is a list", where=path)
    return cfg


def _over_shipped(cfg: DictConfig, path: Path, verb: str) -> DictConfig:
    """A configuration of the user's own over the verb's shipped one, which also says which keys there are."""
    shipped_path = config_files.config_dir() / f"{verb.replace(' ', '_')}.yaml"
    if path == shipped_path or not shipped_path.is_file() or "defaults" in (shipped := _load(shipped_path)):
        return cfg
    known = [key for key, _ in flatten(shipped)]
    for key, _ in flatten(cfg):
        if key not in known:
            remedy = did_you_mean(key, known, "'{}'").strip() or None
            raise ConfigError(f"unknown key '{key}'", where=path, remedy=remedy)
    merged = OmegaConf.merge(shipped, cfg)
    assert isinstance(merged, DictConfig)
    return merged


def _apply(cfg: DictConfig, overrides: Sequence[Override], verb: str) -> DictConfig:
    """A configuration without a defaults list, with overrides applied."""
    OmegaConf.set_struct(cfg, True)
    known = dict(flatten(cfg))
    for override in overrides:
        check_key(override, known, (), verb)
    apply_overrides(cfg, overrides)
    return cfg


def _compose_groups(name: str, folders: Sequence[Path], overrides: Sequence[Override], verb: str) -> DictConfig:
    """A configuration with a defaults list, composed by Hydra."""
    known_groups = groups(folders)
    overrides = [_as_group(override, known_groups) for override in overrides]
    for override in overrides:
        if override.key_or_group in known_groups and not override.is_delete():
            check_option(override, folders, verb)
    chosen = _options(overrides, known_groups)
    others = [override for override in overrides if override not in chosen]
    cfg = hydra_compose(name, folders, chosen)
    if preset := _preset(cfg, overrides):
        check_option(preset, folders, verb)
        chosen.append(preset)
        cfg = hydra_compose(name, folders, chosen)
    if others:
        known = dict(flatten(cfg))
        for override in others:
            check_key(override, known, known_groups, verb)
        apply_overrides(cfg, others)
        drop_keys_of_replaced_parts(cfg, name, folders, [*chosen, *others])
    _let_budget_end(cfg, overrides)
    return cfg


def _options(overrides: Sequence[Override], known_groups: Sequence[str]) -> list[Override]:
    """Those for Hydra itself: options of groups, and its own settings."""
    return [one for one in overrides if one.key_or_group in known_groups or one.is_hydra_override()]


def _let_budget_end(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """A time budget takes the place of the number of epochs, unless somebody typed one beside it."""
    budgets = (OmegaConf.select(cfg, "budget"), OmegaConf.select(cfg, "trainer.max_time"))
    if any(budgets) and "trainer.max_epochs" not in {override.key_or_group for override in overrides}:
        OmegaConf.update(cfg, "trainer.max_epochs", -1)


def _preset(cfg: DictConfig, overrides: Sequence[Override]) -> Override | None:
    """The model's own option of the group ``preset``, where nobody chose another and the verb trains.

    Hydra lets no option that another option's name leads to override groups, so it is chosen between two compositions.
    """
    typed = {override.key_or_group: override.value() for override in overrides}
    wanted = typed.get("model.preset", OmegaConf.select(cfg, "model.preset"))
    default = OmegaConf.select(cfg, "preset.name")
    if "preset" in typed or default is None or wanted in (None, default):
        return None
    return parse_override(f"preset={wanted}")


def _as_group(override: Override, known_groups: Sequence[str]) -> Override:
    """``model.anchors=auto`` for ``model/anchors=auto``: a word in the place of a group's keys names an option."""
    group = override.key_or_group.replace(".", "/")
    chooses = override.type is OverrideType.CHANGE and isinstance(override.value(), str)
    if chooses and group != override.key_or_group and group in known_groups:
        return parse_override(f"{group}={override.value()}")
    return override
