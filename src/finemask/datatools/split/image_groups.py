"""Which images of a split belong together: by a part of their name, their folder, or because they look alike."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from finemask.datatools.image_facts import hash_images
from finemask.datatools.image_hash import NO_HASH, clusters
from finemask.errors import ConfigError, DataError
from finemask.ops.terminal import Progress
from finemask.ops.wording import plural, word

FOLDER, HASH = "folder", "hash"


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of images that must not be torn apart.

    Args:
        of_image: int64 [n], number of each image's group, 0 to g - 1.
        notes: what a person should know about how they came about, a sentence each.
    """

    of_image: NDArray[np.int64]
    notes: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64 [g], images of each group."""
        return np.bincount(self.of_image)

    def members(self) -> list[list[int]]:
        """Images of each group of two or more, the largest group first."""
        order = np.argsort(self.of_image, kind="stable")
        found = np.split(order, np.cumsum(self.sizes)[:-1]) if len(order) else []
        return sorted((rows.tolist() for rows in found if len(rows) > 1), key=lambda rows: (-len(rows), rows))


def grouping_rules(group_by: Sequence[object], *, has_images: bool) -> list[str]:
    """The rules that ``group_by`` means: ``auto`` looks at the images where it is known where they are."""
    rules = [str(rule) for rule in group_by if rule not in (None, "none", "")]
    if "auto" in rules:
        rules = [rule for rule in rules if rule not in ("auto", HASH)] + [HASH] * has_images
    return rules


def grouped(file_names: Sequence[str], rules: Sequence[str], images_dir: Path | None) -> Groups:
    """As ``group_images``, with a bar, and a word on a folder that cannot be the right one.

    Raises:
        ConfigError: see ``group_images``.
        DataError: there is no such folder, or none of the images in it.
    """
    if images_dir is not None and not images_dir.is_dir():
        raise DataError("there is no such folder of images", where=images_dir, remedy="Check images=")
    if HASH in rules and images_dir is not None:
        missing = [name for name in file_names if not (images_dir / name).is_file()]
        if len(missing) == len(file_names):
            raise DataError(
                f"none of the images is there, the first would be {missing[0]}",
                where=images_dir,
                remedy="Check images=",
            )
    with Progress("comparing images", len(file_names), "images") as progress:
        return group_images(file_names, rules, images_dir, progress.advance)


def group_images(
    file_names: Sequence[str],
    group_by: Sequence[str],
    images_dir: Path | None = None,
    progress: Callable[[], object] | None = None,
) -> Groups:
    """Groups images; whatever any of several rules joins stays together.

    Entries with one and the same file are always together.

    Args:
        file_names: of n images, relative to ``images_dir``, with forward slashes.
        group_by: any of ``folder``, ``hash`` (near-duplicates by perceptual hash) and regular expressions, searched
            for in the file name: images with the same first capture group, or the same match where there is none,
            belong together. Names that do not match stand alone.
        images_dir: where the images are, for ``hash``.
        progress: called after each image that is hashed.

    Raises:
        ConfigError: a broken expression, one that no file name matches, or a rule that joins everything.
    """
    notes: list[str] = []
    keys: list[list[object]] = [list(file_names)]
    for rule in group_by:
        if rule == FOLDER:
            found: list[object] = [str(PurePosixPath(name).parent) for name in file_names]
        elif rule == HASH:
            found = _by_hash(file_names, images_dir, notes, progress)
        else:
            found = _by_expression(file_names, rule, notes)
        if len(file_names) > 1 and len(set(found)) == 1 and found[0] is not None:
            raise ConfigError(
                f"group_by={rule} puts all {len(file_names):,} images into one group: nothing is left to split",
                remedy=f"The first file name is {file_names[0]!r}. Choose another rule, or group_by=none.",
            )
        keys.append(found)
    return Groups(_joined(keys, len(file_names)), notes)


def _joined(keys: Sequence[Sequence[object]], n: int) -> NDArray[np.int64]:
    """Numbers of the groups of n images that share any key of the same rule; None is no key."""
    numbers: dict[tuple[int, object], int] = {}
    pairs = [
        (i, numbers.setdefault((rule, key), n + len(numbers)))
        for rule, found in enumerate(keys)
        for i, key in enumerate(found)
        if key is not None
    ]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    side = n + len(numbers)
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (rows, columns)), shape=(side, side))
    component = connected_components(graph, directed=False)[1][:n]
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # groups numbered in the order of their first image
    return order[inverse.reshape(-1)].astype(np.int64)


def _by_expression(file_names: Sequence[str], expression: str, notes: list[str]) -> list[object]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ConfigError(
            f"group_by={expression} is no regular expression: {error}",
            remedy="group_by is none, auto, folder, hash or a regular expression such as '^(.+)_\\d+'",
        ) from None
    matches = [pattern.search(name) for name in file_names]
    alone = [name for name, match in zip(file_names, matches, strict=True) if match is None]
    if len(alone) == len(file_names):
        raise ConfigError(
            f"group_by={expression} matches none of the {len(file_names):,} file names",
            remedy=f"The first one is {file_names[0]!r}" if file_names else None,
        )
    if alone:
        notes.append(
            f"not matched by {expression} and each alone: {len(alone):,} of "
            f"{plural(len(file_names), 'file name')}, the first is {alone[0]!r}."
        )
    return [None if match is None else _key_of(match) for match in matches]


def _key_of(match: re.Match[str]) -> str:
    captured = match.group(1) if match.re.groups else None
    return match.group() if captured is None else captured


def _by_hash(
    file_names: Sequence[str], images_dir: Path | None, notes: list[str], progress: Callable[[], object] | None
) -> list[object]:
    if images_dir is None:
        raise ConfigError("group_by=hash looks at the images", remedy="Say where they are: images=DIR.")
    hashes = hash_images([images_dir / name for name in file_names], progress)
    unknown = [name for name, value in zip(file_names, hashes.tolist(), strict=True) if value == NO_HASH]
    if unknown:
        notes.append(
            f"{plural(len(unknown), 'image is', 'images are')} blank or cannot be read and "
            f"{word(len(unknown), 'stands', 'stand')} alone, the first is {unknown[0]!r}; "
            "finemask data check tells more."
        )
    keys: list[object] = [None] * len(file_names)
    found = clusters(hashes)
    for number, rows in enumerate(found):
        for row in rows:
            keys[row] = number
    joined = sum(map(len, found))
    notes.append(
        f"{joined:,} images are near-duplicates of another, in {plural(len(found), 'set')}."
        if found
        else "No near-duplicate images."
    )
    return keys
