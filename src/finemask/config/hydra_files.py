"""Hydra's side of composing: the search path, the files that a composition is made of, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from inspect import unwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

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

from finemask.config.config_files import config_names
from finemask.config.overrides import arguments, one_line, parse_override
from finemask.errors import ConfigError

_T = TypeVar("_T")


class _UsersFolders(SearchPathPlugin):
    """Folders that Hydra searches before the one it is initialised on, primary configuration included."""

    folders: ClassVar[Sequence[Path]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.prepend(provider="user", path=str(folder), anchor="main")


@dataclass(frozen=True)
class Composed:
    """The files that a composition is made of.

    Args:
        choices: option of every group.
        files: path in its folder, the folder, and the key below which its keys stand, ``"model."``.
    """

    choices: Mapping[str, str | None]
    files: tuple[tuple[str, Path, str], ...]

    def contents(self, wanted: Callable[[Path, str], bool]) -> Iterator[tuple[str, Any, str]]:
        """Files as they are written: path in their folder, content, and where their keys stand."""
        for path, folder, prefix in self.files:
            if wanted(folder, path):
                content = OmegaConf.load(folder / f"{path.removesuffix('.yaml')}.yaml")
                yield path, OmegaConf.to_container(content, resolve=False), prefix


def hydra_compose(name: str, folders: Sequence[Path], chosen: Sequence[Override]) -> DictConfig:
    """A primary configuration of these folders, by Hydra, which is left as it was found.

    Args:
        name: of the primary configuration.
        folders: that are searched, the shipped one last.
        chosen: options of groups; keys are for ``apply_overrides``.

    Raises:
        ConfigError: it cannot be composed.
    """
    cfg = deepcopy(_remembered(_composed_tree, folders)(name, tuple(folders), _lines(chosen), _state(folders)))
    drop_keys_of_replaced_parts(cfg, name, folders, chosen)
    return cfg


def composed(name: str, folders: Sequence[Path], overrides: Sequence[Override]) -> Composed:
    """The files of a composition.

    Args:
        name: as for ``hydra_compose``.
        folders: likewise.
        overrides: options of groups, and others, which change nothing here.

    Raises:
        ConfigError: it cannot be composed.
    """
    return _remembered(_composed_files, folders)(name, tuple(folders), _lines(overrides), _state(folders))


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


def _lines(overrides: Sequence[Override]) -> tuple[str, ...]:
    return tuple(str(override.input_line) for override in overrides)


def _state(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """What tells that no shipped file has changed since, for one who edits them: name, time and size of each."""
    files = [folders[-1] / f"{name}.yaml" for name in config_names(folders[-1:])]
    return tuple((str(file), (stat := file.stat()).st_mtime_ns, stat.st_size) for file in files)


def _remembered(function: Callable[..., _T], folders: Sequence[Path]) -> Callable[..., _T]:
    """The function; with a user's folder what it does each time, since files there may name further folders."""
    return function if len(folders) == 1 else unwrap(function)


# Hydra takes a fifth of a second each time, and a command composes the same options several times, with other keys.
@lru_cache(maxsize=64)
def _composed_tree(name: str, folders: tuple[Path, ...], lines: tuple[str, ...], state: object) -> DictConfig:
    """By Hydra; it is shared, so nobody may change it."""
    with _hydra_on(name, folders):
        return compose(name, list(lines))


@lru_cache(maxsize=64)
def _composed_files(name: str, folders: tuple[Path, ...], lines: tuple[str, ...], state: object) -> Composed:
    """The files of a composition, by Hydra's defaults lists."""
    with _hydra_on(name, folders):
        loader = GlobalHydra.instance().config_loader()
        listed = loader.compute_defaults_list(name, list(lines), RunMode.RUN)
        files = []
        for file in listed.defaults:
            path = str(file.config_path)
            source = next((source for source in loader.get_sources() if source.is_config(path)), None)
            if source is not None and source.scheme() == "file":
                files.append((path, Path(source.path), f"{file.package}." if file.package else ""))
        return Composed(dict(listed.overrides.known_choices), tuple(files))


def drop_keys_of_replaced_parts(
    cfg: DictConfig, name: str, folders: Sequence[Path], overrides: Sequence[Override]
) -> None:
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
    for _, values, prefix in composed(name, folders, overrides).contents(lambda folder, _: folder != folders[-1]):
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
