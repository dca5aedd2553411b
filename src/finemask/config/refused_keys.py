"""What is wrong with a configuration, and the key or option that was meant."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from finemask.config import plain
from finemask.config.config_files import examples, group_options
from finemask.config.hydra_files import flatten
from finemask.config.kinds import check_values
from finemask.config.overrides import one_line, options_remedy
from finemask.config.synonyms import translate
from finemask.errors import ConfigError, did_you_mean


def check_key(override: Override, known: Mapping[str, Any], known_groups: Sequence[str], verb: str) -> None:
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


def check_option(override: Override, folders: Sequence[Path], verb: str) -> None:
    """Refuses an option that no file of its group is."""
    group, value = override.key_or_group, override.value()
    if isinstance(value, dict):
        return
    value = "null" if value is None else value
    known = group_options(group, folders)
    for option in value if isinstance(value, list) else [value]:
        if str(option).removesuffix(".yaml") not in known:
            if isinstance(value, str) and (found := translate(verb, group, value)):
                raise ConfigError(f"'{value}' is no option of the group '{group}'", remedy=str(found))
            raise ConfigError(
                f"'{option}' is no option of the group '{group}'",
                remedy=did_you_mean(str(option), known, f"{group}={{}}") + options_remedy(group, folders),
            )


def check_complete(cfg: DictConfig, verb: str) -> None:
    """Refuses mandatory values that are missing, references that lead nowhere, and values of the wrong kind."""
    missing = [key for key, value in flatten(cfg) if isinstance(value, str) and value == "???"]
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
