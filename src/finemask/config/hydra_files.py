"""Hydra's side of composing: the search path, the files that a composition is made of, and what they say.

Hydra merges what files say of one section key by key, and which file a key came from is no longer to be seen in the
result; where that matters, the files are read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from finemask.config import leaves
from finemask.config.overrides import arguments, one_line, parse_override
from finemask.errors import ConfigError

_ABOUT_THE_RUN = ("experiment/", "debug/")  # shipped files that a person chooses for what they set


@dataclass(frozen=True)
class Given:
    """What a person said, on the command line and in files: not what files say that merely come with finemask.

    Args:
        keys: dotted, of values and lists; of a section only where it was deleted.
        groups: of which an option was chosen, as ``model/anchors``.
        choices: option of every group, whoever chose it.
    """

    keys: frozenset[str]
    groups: frozenset[str]
    choices: dict[str, str | None]

    def has(self, key: str) -> bool:
        """Whether a person gave this key, a key inside it, or a section around it."""
        return any(key == given or given.startswith(f"{key}.") or key.startswith(f"{given}.") for given in self.keys)


class _UsersFolders(SearchPathPlugin):
    """Folders that Hydra searches before the one it is initialised on, primary configuration included."""

    folders: ClassVar[Sequence[Path]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.prepend(provider="user", path=str(folder), anchor="main")


def hydra_compose(name: str, folders: Sequence[Path], overrides: Sequence[Override]) -> DictConfig:
    """A primary configuration of these folders, by Hydra, which is left as it was found.

    Raises:
        ConfigError: it cannot be composed.
    """
    with _hydra_on(name, folders):
        cfg = compose(name, [str(override.input_line) for override in overrides])
        _drop_keys_of_replaced_parts(cfg, name, folders[-1], overrides)
        return cfg


def given_by_people(
    name: str, folders: Sequence[Path], overrides: Sequence[Override], unasked: Sequence[Override] = ()
) -> Given:
    """What was typed, what an experiment says, and what files of the user's own say.

    Args:
        name: of the primary configuration.
        folders: that are searched, the shipped one last.
        overrides: as typed; those that name an option stand as ``model/anchors=auto``.
        unasked: those that are composed with them, and nobody typed.

    Raises:
        ConfigError: it cannot be composed.
    """
    shipped = str(folders[-1])
    with _hydra_on(name, folders):
        loader = GlobalHydra.instance().config_loader()
        lines = [str(override.input_line) for override in (*overrides, *unasked)]
        listed = loader.compute_defaults_list(name, lines, RunMode.RUN)
        choices = {group: choice for group, choice in listed.overrides.known_choices.items() if "@" not in group}
        keys, groups = set[str](), set[str]()
        for path, values, prefix in _files(
            name, overrides, lambda source, path: source != shipped or path.startswith(_ABOUT_THE_RUN)
        ):
            own = {key: value for key, value in values.items() if key not in ("defaults", "hydra")}
            keys |= {key for key, _ in leaves(own, prefix)}
            groups |= set(_chosen_groups(path, values))
    for override in overrides:
        group = override.key_or_group
        if group in choices:
            groups.add(group)
        else:
            value = None if override.is_delete() else override.value()
            keys |= {key for key, _ in leaves({group.replace("/", "."): value})}
    return Given(frozenset(keys), frozenset(groups), choices)


@contextmanager
def with_experiment_files(
    overrides: Sequence[Override], folders: Sequence[Path]
) -> Iterator[tuple[list[Override], list[Path]]]:
    """``experiment=plans/mine.yaml``: a file, from where the user stands, is an option as those in folders are.

    Args:
        overrides: as typed.
        folders: that are searched.
    """
    with TemporaryDirectory(prefix="finemask_") as folder:
        named = list(overrides)
        for position, override in enumerate(overrides):
            if override.key_or_group == "experiment" and not override.is_delete():
                value = override.value()
                options = [_as_option(one, Path(folder)) for one in (value if isinstance(value, list) else [value])]
                text = arguments({"experiment": options if isinstance(value, list) else options[0]})
                named[position] = parse_override(text[0]) if text else override
        yield named, [Path(folder), *folders] if any(Path(folder).iterdir()) else list(folders)


def _as_option(value: Any, folder: Path) -> Any:
    """The name of an option of the group ``experiment`` in a folder, where a file was named."""
    file = Path(value).expanduser() if isinstance(value, str) and value.endswith((".yaml", ".yml")) else None
    if file is None or not file.is_file():
        return value
    option = folder / "experiment" / f"{file.stem}.yaml"
    option.parent.mkdir(exist_ok=True)
    option.write_bytes(file.read_bytes())
    return file.stem


@contextmanager
def _hydra_on(name: str, folders: Sequence[Path]) -> Iterator[None]:
    """Hydra initialised on these folders."""
    Plugins.instance().register(_UsersFolders)
    _UsersFolders.folders = folders[:-1]
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folders[-1]), job_name="finemask", version_base="1.3"):
            yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(one_line(error), where=f"{name}.yaml") from error
    finally:
        _UsersFolders.folders = ()
        GlobalHydra.instance().hydra = before


def _files(
    name: str, overrides: Sequence[Override], wanted: Callable[[str, str], bool]
) -> Iterator[tuple[str, Any, str]]:
    """Files of a composition as they are written: path in their folder, content, and where their keys stand."""
    loader = GlobalHydra.instance().config_loader()
    typed = [str(override.input_line) for override in overrides]
    for file in loader.compute_defaults_list(name, typed, RunMode.RUN).defaults:
        path = str(file.config_path)
        source = next((source for source in loader.get_sources() if source.is_config(path)), None)
        if source is not None and source.scheme() == "file" and wanted(source.path, path):
            content = OmegaConf.to_container(source.load_config(path).config, resolve=False)
            yield path, content, f"{file.package}." if file.package else ""


def _chosen_groups(path: str, values: Any) -> Iterator[str]:
    """Groups of which a file's defaults list chooses an option."""
    folder = path.rpartition("/")[0]
    for entry in values.get("defaults") or []:
        for name in entry if isinstance(entry, dict) else ():
            group = re.sub(r"^(override|optional)\s+", "", str(name)).partition("@")[0]
            yield group.removeprefix("/") if group.startswith("/") or not folder else f"{folder}/{group}"


def _drop_keys_of_replaced_parts(cfg: DictConfig, name: str, shipped: Path, overrides: Sequence[Override]) -> None:
    """A part of the user's own has the keys that the user gave it, and none of the shipped part that it replaces.

    Of a ``backbone`` with another ``_target_``, ``norm`` and the rest would stay. ``_partial_`` and its like do: they
    say how a part of that kind is called.
    """
    parts = [
        key.removesuffix("._target_")
        for key, value in flatten(cfg)
        if key.startswith("model.") and key.endswith("._target_") and not str(value).startswith("finemask.")
    ]
    if not parts:
        return
    given: set[str] = set()
    for _, values, prefix in _files(name, overrides, lambda source, _: source != str(shipped)):
        given |= {key for key, _ in flatten(values, prefix)}
    for override in overrides:
        if not override.is_delete():
            key = override.key_or_group.replace("/", ".")
            given |= {key, *(inner for inner, _ in flatten(override.value(), f"{key}."))}
    with open_dict(cfg):
        for part in (part for part in parts if f"{part}._target_" in given):
            node = OmegaConf.select(cfg, part)
            for key in [str(key) for key in node]:
                if not key.startswith("_") and f"{part}.{key}" not in given:
                    node.pop(key)


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted keys with their unresolved values, containers included."""
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=False)
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield f"{prefix}{key}", value
        yield from flatten(value, f"{prefix}{key}.")
