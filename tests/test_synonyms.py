"""Words of other tools: each leads to something that can be typed."""

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from finemask.cli import VERBS
from finemask.config import compose, config_dir, synonyms
from finemask.config.config_files import groups
from finemask.config.synonyms import MISSING_VERBS, SYNONYMS, VERB_SYNONYMS, Rows, Translation, translate
from finemask.errors import ConfigError

# A value for every form that a row tells apart.
SAMPLES = ("2", "true", "cpu", "cuda", "cuda:1", "0,1", "DIR", "set.yaml", "set.json", "best.pt", "false")


def suggestions(verb: str) -> Iterator[tuple[str, str, str, Translation]]:
    for word in SYNONYMS[verb]:
        for value in SAMPLES:
            if found := translate(verb, word, value):
                yield verb, word, value, found


@pytest.mark.parametrize("verb", SYNONYMS)
def test_every_suggestion_composes(verb: str) -> None:
    cfg = compose(verb, check=False)
    values = {".".join(map(str, path)) for path in paths(OmegaConf.to_container(cfg, resolve=False))}
    tried: set[str] = set()
    for _, word, _, found in suggestions(verb):
        keys = " ".join(part.partition("=")[0] for part in found.words)
        if found.why or keys in tried:
            continue
        tried.add(keys)
        if found.is_command:
            name = next(name for name in VERBS if " ".join(found.words).startswith(f"finemask {name} "))
            compose(name, found.words[1 + len(name.split()) :], check=False)
        elif not set(keys.split()) <= values:  # a group is chosen
            compose(verb, found.words, check=False)
        assert found.fits(values, groups([config_dir()])), word


def paths(node: object) -> Iterator[tuple[str, ...]]:
    for key, value in node.items() if isinstance(node, dict) else ():
        yield (key,)
        yield from ((key, *path) for path in paths(value))


def test_every_row_says_something_for_some_value() -> None:
    told = {(verb, word) for verb in SYNONYMS for _, word, _, _ in suggestions(verb)}
    assert [(verb, word) for verb, rows in SYNONYMS.items() for word in rows if (verb, word) not in told] == []


def test_no_word_stands_in_two_rows_of_a_table() -> None:
    """The later row would hide the earlier without a word."""
    calls = [
        node for node in ast.walk(ast.parse(Path(synonyms.__file__).read_text("utf-8"))) if isinstance(node, ast.Call)
    ]
    tables = [node.args[0] for node in calls if getattr(node.func, "id", "") == "_by_word"]
    assert len(tables) > 10
    for table in tables:
        assert isinstance(table, ast.Dict)
        words = [word for value in table.values for word in ast.literal_eval(value).split()]
        assert len(words) == len(set(words))


@pytest.mark.parametrize("verb", SYNONYMS)
def test_no_row_hides_a_key_of_the_verb(verb: str) -> None:
    """It would never be looked at; but for groups and sections, where the row tells values apart."""
    cfg = compose(verb, check=False)
    rows: Rows = SYNONYMS[verb]
    assert [word for word, row in rows.items() if word in cfg and isinstance(row, str)] == []


@pytest.mark.parametrize(
    ("verb", "word", "typed"),
    [
        ("train", "batch=4", ["data.batch_size=4"]),
        ("train", "imgsz=640", ["model.min_size=640", "model.max_size=640"]),
        ("train", "device=cpu", ["trainer.accelerator=cpu"]),
        ("train", "device=cuda:1", ["trainer.accelerator=gpu", "trainer.devices=[1]"]),
        ("train", "device=0,1", ["trainer.accelerator=gpu", "trainer.devices=[0,1]"]),
        ("train", "data=my photos", ["data.root=my photos"]),
        ("train", "model=best.pth", ["model.weights=best.pth"]),
        ("train", "epochs=7", ["trainer.max_epochs=7"]),
        ("train", "SOLVER.BASE_LR=0.1", ["optimizer.lr=0.1"]),
        ("train", "MODEL.WEIGHTS=a.pkl", ["model.weights=a.pkl"]),
        ("train", "train_dataloader.batch_size=3", ["data.batch_size=3"]),
        ("train", "patience=5", ["callbacks=early_stopping", "callbacks.early_stopping.patience=5"]),
        ("predict", "weights=m.safetensors", ["model=m.safetensors"]),
        ("predict", "conf=0.5", ["threshold=0.5"]),
        ("evaluate", "iou=0.5", ["nms_thresh=0.5"]),
        ("evaluate", "data=DIR", ["data.root=DIR"]),
        ("data check", "data.root=d", ["annotations=d/annotations/train.json", "images=d/images"]),
    ],
)
def test_the_value_is_carried_over(verb: str, word: str, typed: Sequence[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(verb, [word])
    shown = re.search(r"Type: (.+?)(?: \(finemask|$)", str(caught.value))
    assert shown is not None, str(caught.value)
    assert shlex.split(shown[1]) == list(typed)


def test_the_same_word_means_another_key_in_another_verb() -> None:
    assert translate("train", "weights", "x") == Translation(("model.weights=x",))
    assert translate("predict", "weights", "x") == Translation(("model=x",))


def test_a_suggestion_is_made_only_where_its_key_exists() -> None:
    with pytest.raises(ConfigError, match=r"Type: optimizer\.momentum=0\.8"):
        compose("train", ["optimizer=sgd", "momentum=0.8"])
    with pytest.raises(ConfigError, match=r"unknown key 'momentum'\. finemask train --help"):
        compose("train", ["optimizer=adamw", "momentum=0.8"])


def test_verbs_of_other_tools_lead_to_verbs() -> None:
    assert {verb for verb in VERB_SYNONYMS.values() if not verb.startswith("--")} <= VERBS.keys()
    assert not (VERB_SYNONYMS.keys() | MISSING_VERBS.keys()) & VERBS.keys()


def test_the_page_for_people_who_come_from_elsewhere_says_what_the_program_says() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs/guide/coming_from.md").read_text(encoding="utf-8")
    rows = 0
    for section in page.split("\n## ")[1:4]:
        verb = section.partition("\n")[0]
        for there, here in re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", section, re.MULTILINE):
            key, _, value = there.partition("=")
            assert translate(verb, key, value) == Translation(tuple(shlex.split(here))), there
            rows += 1
    assert rows > 50
