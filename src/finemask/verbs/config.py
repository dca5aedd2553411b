"""``finemask config``: list, show and copy the shipped configurations."""

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from finemask.config import search_path
from finemask.config.config_files import config_names, find_config, groups, read_config_text
from finemask.errors import ConfigError, did_you_mean
from finemask.ops.files.atomic_files import write_text


def main(cfg: DictConfig) -> int:
    """Runs the verb: ``action``, ``name`` and ``destination`` as in ``configs/config.yaml``.

    Raises:
        ConfigError: an unknown action or name, or a destination that exists.
    """
    name = None if cfg.name is None else str(cfg.name).removesuffix(".yaml")
    folders = search_path(cfg.config_dir)
    match cfg.action:
        case "list":
            print("\n".join(listing(folders, name)))
        case "show":
            print(find(folders, name).read_text(encoding="utf-8"), end="")
        case "copy":
            written = copy(folders, name, cfg.destination)
            print(f"wrote {written}")
        case other:
            hint = did_you_mean(str(other), ["list", "show", "copy"], "finemask config {}")
            raise ConfigError(f"config does not know '{other}'", remedy=f"{hint}It does list, show and copy.")
    return 0


def listing(folders: Sequence[Path], group: str | None = None) -> list[str]:
    """One line a configuration: its name and the first sentence of its header.

    Args:
        folders: where configurations lie; the first to hold a name has it.
        group: list this group alone.

    Raises:
        ConfigError: there is no such group.
    """
    known = config_names(folders)
    shown = [name for name in known if group is None or name.startswith(f"{group}/")]
    if not shown:
        hint = did_you_mean(str(group), groups(folders), "'{}'")
        raise ConfigError(f"there is no group '{group}'", remedy=f"{hint}There are: {', '.join(groups(folders))}.")
    width = max(map(len, shown)) + 2
    return [f"{name:<{width}}{_first_sentence(find(folders, name))}".rstrip() for name in shown]


def find(folders: Sequence[Path], name: str | None) -> Path:
    """The file of a configuration.

    Raises:
        ConfigError: no name given, or none such.
    """
    if name is None:
        raise ConfigError("which one?", remedy="Type: finemask config list")
    known = config_names(folders)
    path = find_config(name, folders)
    if name not in known or path is None:
        hint = did_you_mean(name, known, "'{}'")
        raise ConfigError(f"there is no configuration '{name}'", remedy=f"{hint}Type: finemask config list")
    return path


def copy(folders: Sequence[Path], name: str | None, destination: str | None) -> Path:
    """Copies a configuration, byte for byte.

    Args:
        folders: where configurations lie.
        name: as listed.
        destination: a new file ending in ``.yaml``, or a folder, in which the group becomes a folder too.

    Returns:
        The file written.

    Raises:
        ConfigError: no such configuration, no destination, or one that exists.
    """
    source = find(folders, name)
    if destination is None:
        raise ConfigError("where to?", remedy=f"Type: finemask config copy {name} DEST.")
    target = Path(destination)
    if target.suffix not in (".yaml", ".yml") or target.is_dir():
        target = target / f"{name}.yaml"
    if target.exists():
        raise ConfigError("exists already, and is left alone", where=target, remedy="Choose another destination.")
    write_text(target, source.read_text(encoding="utf-8"))
    return target


def _first_sentence(path: Path) -> str:
    header = " ".join(read_config_text(path).description.split())
    return re.split(r"(?<=[.?!]) ", header, maxsplit=1)[0]
