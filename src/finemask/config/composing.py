"""Composing a configuration, and saying what is wrong with it.

Two kinds of primary configuration exist. One with a ``defaults`` list (``train.yaml``) is composed by Hydra
from the groups, each a folder. One without (the other verbs, and the ``config.yaml`` that a run writes) is a
plain tree: there a key such as ``model`` is a key, even though a group of that name exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from finemask.config import config_files, plain
from finemask.config.config_files import config_names, examples, find_config, group_options, groups, search_path
from finemask.config.kinds import check_values
from finemask.config.moved_targets import present_target
from finemask.config.overrides import arguments, one_line, options_remedy, parse_override
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
        cfg = _compose_groups(name, folders, parsed, verb)
    else:
        cfg = _apply(_over_shipped(plain_tree, path, verb), parsed, verb)
    for key, value in list(_flatten(cfg)):
        if key.endswith("_target_") and isinstance(value, str) and (present := present_target(value)) != value:
            OmegaConf.update(cfg, key, present)
    if check:
        _check_complete(cfg, verb)
    return cfg


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
    known = [key for key, _ in _flatten(shipped)]
    for key, _ in _flatten(cfg):
        if key not in known:
            remedy = did_you_mean(key, known, "'{}'").strip() or None
            raise ConfigError(f"unknown key '{key}'", where=path, remedy=remedy)
    merged = OmegaConf.merge(shipped, cfg)
    assert isinstance(merged, DictConfig)
    return merged


def _apply(cfg: DictConfig, overrides: Sequence[Override], verb: str) -> DictConfig:
    """A configuration without a defaults list, with overrides applied."""
    OmegaConf.set_struct(cfg, True)
    for override in overrides:
        _check_key(override, dict(_flatten(cfg)), (), verb)
        key, value = override.key_or_group.replace("/", "."), override.value()
        if override.is_delete():
            parent, _, last = key.rpartition(".")
            with open_dict(cfg):
                (OmegaConf.select(cfg, parent) if parent else cfg).pop(last)
        else:
            adds = override.is_add() or override.is_force_add()
            OmegaConf.update(cfg, key, value, merge=True, force_add=adds)
    return cfg


def _check_key(override: Override, known: Mapping[str, Any], known_groups: Sequence[str], verb: str) -> None:
    """Refuses a key that does not exist, and one value in the place of several keys."""
    key, value = override.key_or_group, override.value()
    if override.is_hydra_override() or override.is_add() or override.is_force_add():
        return
    if key not in known:
        _refuse_other_tools_key(override, known, known_groups, verb)
        hint = did_you_mean(key, [*known_groups, *known], "'{}'")
        holder = known.get(key.rpartition(".")[0])
        if isinstance(holder, dict) and "_target_" in holder:
            hint += f"If {holder['_target_']} takes it, write +{override.input_line}. "
        raise ConfigError(f"unknown key '{key}'", remedy=f"{hint}finemask {verb} --help lists the keys.")
    inside = [name for name, held in known.items() if name.startswith(f"{key}.") and not isinstance(held, dict)]
    if override.type is OverrideType.CHANGE and isinstance(known[key], dict) and not isinstance(value, dict | None):
        _refuse_other_tools_key(override, known, known_groups, verb)
        shown = ", ".join(inside[:6]) + (", …" if len(inside) > 6 else "")
        raise ConfigError(f"'{key}' holds several keys and cannot become '{value}'", remedy=f"Set one of: {shown}.")


def _refuse_other_tools_key(
    override: Override, known: Collection[str], known_groups: Collection[str], verb: str
) -> None:
    """Refuses a key of Ultralytics, Detectron2 or others with what to type here."""
    key = override.key_or_group
    found = translate(verb, key, str(override.input_line).partition("=")[2].strip("'\""))
    if found is not None and found.fits(known, known_groups):
        what = f"'{key}' does not take '{override.value()}'" if key in known else f"unknown key '{key}'"
        raise ConfigError(what, remedy=f"{found} (finemask {verb} --help lists the keys)")


def _compose_groups(name: str, folders: Sequence[Path], overrides: Sequence[Override], verb: str) -> DictConfig:
    """A configuration with a defaults list, composed by Hydra."""
    known_groups = groups(folders)
    overrides = [_as_group(override, known_groups) for override in overrides]
    for override in overrides:
        if override.key_or_group in known_groups and not override.is_delete():
            _check_option(override, folders, verb)
    chosen = [override for override in overrides if override.key_or_group in known_groups]
    others = [override for override in overrides if override not in chosen]
    cfg = _hydra_compose(name, folders, chosen)
    if preset := _preset(cfg, overrides):
        _check_option(preset, folders, verb)
        chosen.append(preset)
        cfg = _hydra_compose(name, folders, chosen)
    if others:
        known = dict(_flatten(cfg))
        for override in others:
            _check_key(override, known, known_groups, verb)
        cfg = _hydra_compose(name, folders, [*chosen, *others])
    _let_budget_end(cfg, overrides)
    return cfg


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


class _UsersFolders(SearchPathPlugin):
    """Folders that Hydra searches before the one it is initialised on, primary configuration included."""

    folders: ClassVar[Sequence[Path]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.prepend(provider="user", path=str(folder), anchor="main")


def _hydra_compose(name: str, folders: Sequence[Path], overrides: Sequence[Override]) -> DictConfig:
    """A primary configuration of these folders, by Hydra, which is left as it was found."""
    Plugins.instance().register(_UsersFolders)
    _UsersFolders.folders = folders[:-1]
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folders[-1]), job_name="finemask", version_base="1.3"):
            typed = [str(override.input_line) for override in overrides]
            cfg = hydra_compose(name, typed)
            _drop_keys_of_replaced_parts(cfg, name, folders[-1], overrides)
            return cfg
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(one_line(error), where=f"{name}.yaml") from error
    finally:
        _UsersFolders.folders = ()
        GlobalHydra.instance().hydra = before


def _drop_keys_of_replaced_parts(cfg: DictConfig, name: str, shipped: Path, overrides: Sequence[Override]) -> None:
    """A part of the user's own has the keys that the user gave it, and none of the shipped part that it replaces.

    Hydra merges what files say of one section key by key: of a ``backbone`` with another ``_target_``, ``norm`` and the
    rest would stay. Which file a key came from is no longer to be seen in the result; so the user's files are read
    again. ``_partial_`` and its like stay: they say how a part of that kind is called.
    """
    parts = [
        key.removesuffix("._target_")
        for key, value in _flatten(cfg)
        if key.startswith("model.") and key.endswith("._target_") and not str(value).startswith("finemask.")
    ]
    if not parts:
        return
    given: set[str] = set()
    loader = GlobalHydra.instance().config_loader()
    typed = [str(override.input_line) for override in overrides]
    for file in loader.compute_defaults_list(name, typed, RunMode.RUN).defaults:
        source = next((source for source in loader.get_sources() if source.is_config(file.config_path)), None)
        if source is not None and source.path != str(shipped):
            prefix = f"{file.package}." if file.package else ""
            given |= {key for key, _ in _flatten(source.load_config(file.config_path).config, prefix)}
    for override in overrides:
        if not override.is_delete():
            key = override.key_or_group.replace("/", ".")
            given |= {key, *(inner for inner, _ in _flatten(override.value(), f"{key}."))}
    with open_dict(cfg):
        for part in (part for part in parts if f"{part}._target_" in given):
            node = OmegaConf.select(cfg, part)
            for key in [str(key) for key in node]:
                if not key.startswith("_") and f"{part}.{key}" not in given:
                    node.pop(key)


def _check_option(override: Override, folders: Sequence[Path], verb: str) -> None:
    group, value = override.key_or_group, override.value()
    if isinstance(value, dict) or value is None:
        return
    known = group_options(group, folders)
    for option in value if isinstance(value, list) else [value]:
        if str(option).removesuffix(".yaml") not in known:
            if isinstance(value, str) and (found := translate(verb, group, value)):
                raise ConfigError(f"'{value}' is no option of the group '{group}'", remedy=str(found))
            raise ConfigError(
                f"'{option}' is no option of the group '{group}'",
                remedy=did_you_mean(str(option), known, f"{group}={{}}") + options_remedy(group, folders),
            )


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted keys with their unresolved values, containers included."""
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=False)
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield f"{prefix}{key}", value
        yield from _flatten(value, f"{prefix}{key}.")


def _check_complete(cfg: DictConfig, verb: str) -> None:
    missing = [key for key, value in _flatten(cfg) if isinstance(value, str) and value == "???"]
    if missing:
        example = next((line for line in examples(verb) if f"{missing[0]}=" in line), f"{missing[0]}=…")
        raise ConfigError(f"{' and '.join(missing)} must be given", remedy=f"For example: {example}")
    try:
        values = plain(cfg)
    except OmegaConfBaseException as error:
        where = error.full_key or None
        raise ConfigError(f"the value cannot be resolved: {one_line(error)}", where=where) from error
    for key, text in check_values(values, verb).items():
        OmegaConf.update(cfg, key, text)
