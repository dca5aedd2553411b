"""What of a configuration people said, and what merely comes with finemask.

Hydra merges what files say of one section key by key, and which file a key came from is no longer to be seen in the
result; so the files are read again.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from finemask.config import leaves
from finemask.config.hydra_files import composed

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
    made_of = composed(name, folders, [*overrides, *unasked])
    choices = {group: choice for group, choice in made_of.choices.items() if "@" not in group}
    keys, groups = set[str](), set[str]()
    for path, values, prefix in made_of.contents(
        lambda folder, path: folder != folders[-1] or path.startswith(_ABOUT_THE_RUN)
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


def _chosen_groups(path: str, values: Any) -> Iterator[str]:
    """Groups of which a file's defaults list chooses an option."""
    folder = path.rpartition("/")[0]
    for entry in values.get("defaults") or []:
        for name in entry if isinstance(entry, dict) else ():
            group = re.sub(r"^(override|optional)\s+", "", str(name)).partition("@")[0]
            yield group.removeprefix("/") if group.startswith("/") or not folder else f"{folder}/{group}"
