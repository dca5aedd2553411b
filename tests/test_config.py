"""Composing configurations: the rules on a small tree of our own, then every shipped file."""

import inspect
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import hydra
import hydra.utils
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from finemask.cli import BARE_WORDS, VERBS
from finemask.config import compose, config_dir, config_files, expand_sweeps, kinds, plain
from finemask.config.composing import Asked
from finemask.config.overrides import parse_override, quoted
from finemask.errors import ConfigError

TREE = {
    "train.yaml": """
        # Train something.
        #
        #   finemask train data.root=DIR model=small
        defaults:
          - data: coco
          - model: big
          - _self_
          - experiment: null
        name: default # name of the run
        output: runs/${name}
        """,
    "predict.yaml": """
        # Predict something.
        model: ??? # a model file
        threshold: 0.5
        data: {root: null, split: val}
        """,
    "data_synth.yaml": "size: 256\n",
    "data/coco.yaml": "root: ???\nbatch_size: 2\nsizes: [1, 2]\n",
    "model/big.yaml": "defaults:\n  - loss: plain\nbackbone: {name: deep}\n",
    "model/small.yaml": "defaults:\n  - big\nbackbone: {name: shallow}\n",
    "model/loss/plain.yaml": "_target_: torch.nn.L1Loss\nweight: 1.0\n",
    "model/loss/focal.yaml": "weight: 2.0\n",
    "experiment/quick.yaml": """
        # @package _global_
        defaults:
          - override /model: small
        data: {root: shapes}
        """,
}


def write_tree(folder: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        margin = len(lines[0]) - len(lines[0].lstrip())
        path.write_text("\n".join(line[margin:] for line in lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree above in the place of the shipped configurations."""
    folder = write_tree(tmp_path / "shipped", TREE)
    monkeypatch.setattr(config_files, "config_dir", lambda: folder)
    monkeypatch.setattr(kinds, "KINDS", {})  # its verbs have other keys
    return folder


def test_defaults_groups_and_keys_end_up_in_one_tree(tree: Path) -> None:
    assert plain(compose("train", ["data.root=d", "model/loss=focal", "name=mine"])) == {
        "data": {"root": "d", "batch_size": 2, "sizes": [1, 2]},
        "model": {"backbone": {"name": "deep"}, "loss": {"weight": 2.0}},
        "name": "mine",
        "output": "runs/mine",
    }


def test_an_experiment_may_choose_the_options_of_groups(tree: Path) -> None:
    cfg = compose("train", ["experiment=quick", "data.batch_size=8"])
    assert (cfg.model.backbone.name, cfg.data.root, cfg.data.batch_size) == ("shallow", "shapes", 8)


def test_the_order_of_the_words_does_not_matter(tree: Path) -> None:
    words = ["data.root=d", "model=small", "+extra.key=1"]
    assert plain(compose("train", words)) == plain(compose("train", words[::-1]))


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (["data.rot=1"], "unknown key 'data.rot'", "Did you mean 'data.root'?"),
        (["batch_size=1"], "unknown key 'batch_size'", "Type: data.batch_size=1"),
        (["modle=small"], "unknown key 'modle'", "Did you mean 'model'?"),
        (["loss=focal"], "unknown key 'loss'", "Did you mean 'model/loss'?"),
        (["experimnt=quick"], "unknown key 'experimnt'", "Did you mean 'experiment'?"),
        (["~data.rot"], "unknown key 'data.rot'", "Did you mean 'data.root'?"),
        (
            ["model.loss.beta=1"],
            "unknown key 'model.loss.beta'",
            "If torch.nn.L1Loss takes it, write +model.loss.beta=1.",
        ),
        (["zzz=1"], "unknown key 'zzz'", "finemask train --help lists the keys."),
        (
            ["model=smal"],
            "'smal' is no option of the group 'model'",
            "Did you mean model=small? There are: big, small.",
        ),
        (["model=null"], "'null' is no option of the group 'model'", "There are: big, small."),
        (["model/loss=x"], "'x' is no option of the group 'model/loss'", "There are: focal, plain."),
        (["model.backbone=deep"], "'model.backbone' holds several keys", "Set one of: model.backbone.name."),
        (["data.root=[1,2"], "the value of 'data.root=[1,2' cannot be read", "A list is [a,b]"),
        (["data.root='a"], "cannot be read", "stands in quotes"),
        (["name=my", "run"], "'run' is not of the form key=value", "needs quotes"),
        (["=3"], "'=3' is not of the form key=value", "quotes"),
        (["data.root=a,b"], "'data.root=a,b' names several values", "--multirun"),
        (["data.root=d", "name=${nothing}"], "name: the value cannot be resolved", "nothing"),
        ([], "data.root must be given", "For example: finemask train data.root=DIR model=small"),
        (["hydra.nothing=1"], "Could not override 'hydra.nothing'", ""),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tree: Path, words: list[str], what: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("train", words)
    message = str(caught.value)
    assert what in message
    assert hint in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["data.batch_size=7", "name=a", "data.sizes=[3]"],
        ["model=small", "model/loss=focal", "model.loss.weight=null"],
        ["experiment=quick", "model.backbone.name='${name}'"],
        ["+model.backbone.depth=3", "++name=b", "++extra={a: {b: 1}}"],
        ["+model.backbone={depth: 3}", "model.backbone={name: other}"],
        ["+data.sizes=[4]", "~data.batch_size"],
        ["~model.loss", "+model.loss.alpha=0.1"],
        ["~model/loss", "+model.loss={weight: 4}"],
    ],
)
def test_the_tree_is_the_one_that_hydra_composes_of_all_words(tree: Path, words: list[str]) -> None:
    words = ["data.root=d", *words]
    with hydra.initialize_config_dir(str(tree), version_base="1.3"):
        expected = OmegaConf.to_container(hydra.compose("train", words))
    for _ in range(2):  # the second is made from what the first left
        assert OmegaConf.to_container(compose("train", words)) == expected


@pytest.mark.parametrize(
    ("word", "what", "remedy"),
    [
        ("+name=a", "there is a key 'name' already", "name=a"),
        ("~data.batch_size=3", "'data.batch_size' is 2, not 3", "~data.batch_size deletes it"),
    ],
)
def test_what_cannot_be_added_or_deleted_is_said(tree: Path, word: str, what: str, remedy: str) -> None:
    with pytest.raises(HydraException), hydra.initialize_config_dir(str(tree), version_base="1.3"):
        hydra.compose("train", ["data.root=d", word])
    for verb, other in (("train", ["data.root=d"]), ("predict", ["model=m"])):
        if verb == "predict":
            word = word.replace("name", "threshold").replace("data.batch_size=3", "data.split=test")
            what = what.replace("name", "threshold").replace(
                "data.batch_size' is 2, not 3", "data.split' is val, not test"
            )
            remedy = remedy.replace("name", "threshold").replace("batch_size", "split")
        with pytest.raises(ConfigError) as caught:
            compose(verb, [*other, word])
        assert what in str(caught.value)
        assert remedy in str(caught.value)


def test_a_file_that_was_edited_is_read_again(tree: Path) -> None:
    assert compose("train", ["data.root=d"]).model.backbone.name == "deep"
    (tree / "model" / "big.yaml").write_text("backbone: {name: deeper}\n")
    assert compose("train", ["data.root=d"]).model.backbone.name == "deeper"


def test_a_verb_without_defaults_takes_keys_that_are_groups_elsewhere(tree: Path) -> None:
    cfg = compose("predict", ["model=m.safetensors", "data={root: d}", "+new=1", "~threshold"])
    assert plain(cfg) == {"model": "m.safetensors", "data": {"root": "d", "split": "val"}, "new": 1}
    with pytest.raises(ConfigError, match=r"unknown key 'treshold'\. Did you mean 'threshold'\?"):
        compose("predict", ["model=m", "treshold=1"])
    with pytest.raises(ConfigError, match="'data' holds several keys and cannot become 'd'"):
        compose("predict", ["model=m", "data=d"])
    with pytest.raises(ConfigError, match="model must be given"):
        compose("predict")


def test_two_word_verbs_have_one_file(tree: Path) -> None:
    assert compose("data synth", ["size=64"]).size == 64


def test_missing_values_may_be_left_for_printing(tree: Path) -> None:
    assert OmegaConf.is_missing(compose("train", check=False).data, "root")


def test_a_saved_configuration_composes_as_it_stands(tree: Path, tmp_path: Path) -> None:
    run = tmp_path / "a run"
    run.mkdir()
    cfg = compose("train", ["experiment=quick"])
    OmegaConf.save(cfg, run / "config.yaml", resolve=True)
    again = compose("train", ["data.batch_size=4"], config_dir=run, config_name="config")
    assert plain(again) == {**plain(cfg), "data": {**plain(cfg)["data"], "batch_size": 4}}  # type: ignore[dict-item, index]
    with pytest.raises(ConfigError, match="'model' holds several keys and cannot become 'big'"):
        compose("train", ["model=big"], config_dir=run, config_name="config")


def test_a_users_folder_adds_options_and_comes_before_the_shipped(tree: Path, tmp_path: Path) -> None:
    own = write_tree(
        tmp_path / "my own",
        {
            "model/mine.yaml": "defaults:\n  - big\nbackbone: {name: own}\n",
            "experiment/quick.yaml": "# @package _global_\ndata: {root: edited}\n",
            "all_mine.yaml": "defaults:\n  - train\n  - _self_\nname: inherited\ndata: {root: d}\n",
            "gentle.yaml": "model: m\nthreshold: 0.1\n",
            "wrong.yaml": "model: m\ntreshold: 0.1\n",
            "broken.yaml": "a: [1, 2\n",
        },
    )
    assert compose("train", ["model=mine", "data.root=d"], config_dir=own).model.backbone.name == "own"
    assert compose("train", ["experiment=quick"], config_dir=own).data.root == "edited"
    assert compose("train", config_dir=own, config_name="all_mine").output == "runs/inherited"
    gentle = compose("predict", config_dir=own, config_name="gentle.yaml")
    assert (gentle.threshold, gentle.data.split) == (0.1, "val"), "shipped values stay where the user's file is silent"
    with pytest.raises(ConfigError, match=r"wrong\.yaml: unknown key 'treshold'\. Did you mean 'threshold'"):
        compose("predict", config_dir=own, config_name="wrong")
    with pytest.raises(ConfigError, match=r"broken\.yaml: not readable as YAML"):
        compose("predict", config_dir=own, config_name="broken")
    with pytest.raises(ConfigError, match=r"no configuration 'gentl'.*Did you mean --config-name gentle\?"):
        compose("predict", config_dir=own, config_name="gentl")
    with pytest.raises(ConfigError, match="no such folder"):
        compose("predict", config_dir=tmp_path / "nowhere")


def test_a_users_primary_configuration_comes_before_the_shipped_and_may_name_further_folders(
    tree: Path, tmp_path: Path
) -> None:
    third = write_tree(tmp_path / "third", {"model/big.yaml": "late: 1\n", "model/loss/own.yaml": "weight: 3.0\n"})
    primary = f"""
        hydra: {{searchpath: ['{third}']}}
        defaults:
          - model: big
          - override model/loss: own
          - _self_
        name: theirs
        """
    own = write_tree(tmp_path / "their own, été", {"train.yaml": primary})
    assert plain(compose("train", config_dir=own)) == {
        "model": {"backbone": {"name": "deep"}, "loss": {"weight": 3.0}},
        "name": "theirs",
    }, "the shipped big, and the loss of the third folder"
    (third / "model" / "loss" / "own.yaml").write_text("weight: 4.0\n")
    assert compose("train", config_dir=own).model.loss.weight == 4.0, "which was edited since"
    assert compose("train", ["data.root=d"]).name == "default", "their folder is searched when it is given, only"


def test_an_own_part_has_none_of_the_keys_of_the_part_it_replaces(tmp_path: Path) -> None:
    own = write_tree(
        tmp_path / "own",
        {
            "model/mine.yaml": "defaults: [light, _self_]\nname: mine\nbackbone: {_target_: lab.net, width: 12}\n",
            "model/backbone/mine.yaml": "_target_: lab.other\nwidth: 8\n",
            "model/sampler/mine.yaml": "_target_: lab.Sampler\nmost: 3\n",
            "experiment/mine.yaml": """
                # @package _global_
                defaults: [{override /model: light}, {override /model/sampler: mine}, {override /model/rpn: mine}]
                model: {mask_predictor: {_target_: lab.Predictor}}
                """,
            "model/rpn/mine.yaml": "_target_: lab.rpn\n",
        },
    )

    def model_of(*overrides: str) -> dict[str, Any]:
        return cast(dict[str, Any], plain(compose("train", ["data.root=d", *overrides], config_dir=own).model))

    assert model_of("model=mine")["backbone"] == {"_target_": "lab.net", "width": 12}
    assert model_of("model=mine", "model.backbone.width=20")["backbone"] == {"_target_": "lab.net", "width": 20}
    other = {"_target_": "lab.other", "width": 8}
    assert model_of("model=tiny", "model/backbone=mine")["backbone"] == other
    assert model_of("model.backbone=mine", "+model.backbone.deep=1")["backbone"] == {**other, "deep": 1}
    # the preset sets keys of the sampler that it has itself, after the group was chosen
    assert model_of("model=tiny", "model/sampler=mine")["sampler"] == {"_target_": "lab.Sampler", "most": 3}
    of_experiment = model_of("experiment=mine")
    assert of_experiment["sampler"] == {"_target_": "lab.Sampler", "most": 3}
    assert of_experiment["rpn"] == {"_target_": "lab.rpn"}
    assert of_experiment["mask_predictor"] == {"_target_": "lab.Predictor", "_partial_": True}
    assert of_experiment["backbone"] == model_of("model=light")["backbone"]
    typed = model_of("model.backbone._target_=lab.net", "+model.backbone.width=3", "model.backbone.name=x")
    assert typed["backbone"] == {"_target_": "lab.net", "width": 3, "name": "x"}
    with pytest.raises(ConfigError, match=r"unknown key 'model\.backbone\.norm'"):
        model_of("model=mine", "model.backbone.norm=gn")


def test_composing_leaves_hydra_as_it_found_it(tree: Path) -> None:
    with hydra.initialize_config_dir(str(tree), version_base="1.3"):
        theirs = GlobalHydra.instance().hydra
        compose("train", ["data.root=d"], config_dir=tree)
        assert GlobalHydra.instance().hydra is theirs
        assert "shipped" in hydra.compose("data_synth", return_hydra_config=True).hydra.runtime.config_sources[1].path
    GlobalHydra.instance().clear()
    compose("train", ["data.root=d"])
    assert not GlobalHydra.instance().is_initialized()
    with pytest.raises(ConfigError):
        compose("train", ["data.rot=d"])
    assert not GlobalHydra.instance().is_initialized()


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(lambda text: f"(é{text}"))
def test_a_value_outside_the_grammar_is_taken_literally(value: str) -> None:
    override = parse_override(f"data.root={value}")
    assert override.value() == value
    assert parse_override(str(override.input_line)).value() == value


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_a_quoted_value_arrives_as_it_was(value: str) -> None:
    assert parse_override(f"data.root={quoted(value)}").value() == value


@pytest.mark.parametrize(
    "value", ["photos/*.jpg", "https://host/a.jpg?x=1&y=#2", "a (1).jpg", "été/日本.png", "C:\\a\\"]
)
def test_paths_and_addresses_need_no_quotes(value: str) -> None:
    assert parse_override(f"source={value}").value() == value


def test_the_home_folder_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse_override("data.root=~/images").value() == "/home/someone/images"


def test_sweeps_become_their_product(tree: Path) -> None:
    assert expand_sweeps(["a=1,2", "name=x", "model=glob(*)", "b=range(0,2)"]) == [
        [f"a={a}", "name=x", f"model={model}", f"b={b}"] for a in (1, 2) for model in ("big", "small") for b in (0, 1)
    ]
    assert expand_sweeps([]) == [[]]
    assert expand_sweeps(["a=[1,2]"]) == [["a=[1,2]"]]
    with pytest.raises(ConfigError, match="matches nothing"):
        expand_sweeps(["model=glob(z*)"])


def test_the_text_of_a_configuration_says_what_its_yaml_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "# @package _global_\n# What it is.\n#\n#   finemask train data.root=DIR\n\n"
        "defaults:\n  - base\n  - loss: plain # not a key\n  - override /model: small\n  - _self_\n\n"
        "# above\n# and more\nname: 'a: b' # beside\nnested:\n  _target_: a.b\n  deep:\n    value: [1, 2]\n"
        "  after: x#y\nlist:\n  - item: 1\nlast:\n"
    )
    text = config_files.read_config_text(path)
    assert (text.description, text.examples) == ("What it is.", ["finemask train data.root=DIR"])
    assert (text.defaults, text.inherited, text.is_global) == (
        {"loss": "plain", "model": "small"},
        ["base"],
        True,
    )
    assert [(key.name, key.value, key.comment) for key in text.keys] == [
        ("name", "'a: b'", "above and more beside"),
        ("nested", "", ""),
        ("nested.deep", "", ""),
        ("nested.deep.value", "[1, 2]", ""),
        ("nested.after", "x#y", ""),
        ("list", "", ""),
        ("last", "", ""),
    ]
    loaded = OmegaConf.load(path)
    for key in text.keys:
        if key.value:
            assert OmegaConf.select(loaded, key.name) == OmegaConf.create(f"v: {key.value}").v


def test_groups_and_options_are_folders_and_files(tree: Path, tmp_path: Path) -> None:
    assert config_files.groups([tree]) == ["data", "experiment", "model", "model/loss"]
    own = write_tree(tmp_path / "own", {"model/mine.yaml": "a: 1\n", "far/too/deep/x.yaml": "a: 1\n"})
    assert config_files.groups([own, tree]) == ["data", "experiment", "model", "model/loss"]
    assert config_files.group_options("model", [own, tree]) == ["big", "mine", "small"]


def test_every_key_read_off_the_text_is_a_key_of_the_yaml() -> None:
    for path in SHIPPED:
        loaded = dict(walk(OmegaConf.to_container(OmegaConf.load(config_dir() / path), resolve=False), ""))
        read = [key.name for key in config_files.read_config_text(config_dir() / path).keys]
        assert set(read) == {name for name in loaded if not name.split(".")[-1].startswith("_")}, path


def walk(node: object, prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in node.items() if isinstance(node, dict) else ():
        if not (prefix == "" and key in ("defaults", "hydra")):
            yield f"{prefix}{key}", value
            yield from walk(value, f"{prefix}{key}.")


# The shipped files.

SHIPPED = sorted(path.relative_to(config_dir()) for path in config_dir().rglob("*.yaml"))
OPTIONS = [path for path in SHIPPED if len(path.parts) > 1 and path.parts[0] != "launcher"]


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_shipped_file_says_what_it_is(path: Path) -> None:
    OmegaConf.load(config_dir() / path)
    assert config_files.read_config_text(config_dir() / path).description, "the header comment is its documentation"


def chosen_together() -> Iterator[list[str]]:
    """Every shipped option: those that change much alone, those of the other groups one of each group at a time."""
    by_group: dict[str, list[str]] = {}
    for path in OPTIONS:
        by_group.setdefault(path.parent.as_posix(), []).append(f"{path.parent.as_posix()}={path.stem}")
    for group in ("experiment", "model", "space"):
        yield from ([option] for option in by_group.pop(group))
    for options in zip_longest(*by_group.values()):
        yield [option for option in options if option is not None]


@pytest.mark.parametrize("options", list(chosen_together()), ids=" ".join)
def test_a_shipped_option_composes_into_what_its_targets_take(options: list[str]) -> None:
    verb = "sweep" if options[0].startswith("space=") else "train"
    cfg = compose(verb, options, check=False)
    if OmegaConf.is_missing(cfg.data, "root"):
        cfg.data.root = "DIR"
    kinds.check_values(plain(cfg), verb)
    assert [key for key in own_keys(plain(cfg)) if kinds.kind_of(plain(cfg), verb, key) is None] == []
    wrong = [
        f"{place}: {target} takes no {key}"
        for place, target, keys in targets(OmegaConf.to_container(cfg, resolve=False), "")
        for key in keys
        if not takes(target, key)
    ]
    assert wrong == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_of_a_verb_has_a_kind(verb: str) -> None:
    """A key without one would take anything, and fail late: say what it takes in finemask/config/keys.py."""
    cfg = compose(verb, check=False)
    values = cast(dict[str, object], OmegaConf.to_container(cfg, resolve=False))
    assert [key for key in own_keys(values) if kinds.kind_of(values, verb, key) is None] == []


def own_keys(node: dict[str, object], place: str = "") -> Iterator[str]:
    """Dotted names of the values that finemask, torch or Lightning read; albumentations checks its own."""
    if not str(node.get("_target_", "finemask.")).startswith(("finemask.", "torch.", "pytorch_lightning.")):
        return
    for key, value in node.items():
        if isinstance(value, dict):
            yield from own_keys(value, f"{place}{key}.")
        elif not key.startswith("_"):
            yield f"{place}{key}"


def targets(node: object, place: str) -> Iterator[tuple[str, str, list[str]]]:
    """Every node that names a callable: where it is, the name, the arguments it gives."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield place, node["_target_"], [key for key in node if not key.startswith("_")]
        for key, value in node.items():
            yield from targets(value, f"{place}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from targets(value, place)


def takes(target: str, key: str) -> bool:
    parameters = inspect.signature(located(target)).parameters
    return key in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


@cache
def located(target: str) -> Callable[..., object]:
    found = hydra.utils.get_object(target)
    assert callable(found), target
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_in_a_header_composes(verb: str) -> None:
    text = config_files.read_config_text(config_dir() / f"{verb.replace(' ', '_')}.yaml")
    assert text.examples
    for example in text.examples:
        name, words = take_verb(shlex.split(example)[1:])
        if "--config-dir" not in words:
            positional = [
                f"{key}='{word}'" for key, word in zip(BARE_WORDS.get(name, ()), words, strict=False) if "=" not in word
            ]
            compose(name, positional or words, check=False)


def take_verb(words: list[str]) -> tuple[str, list[str]]:
    pair = " ".join(words[:2])
    return (pair, words[2:]) if pair in VERBS else (words[0], words[1:])


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_of_a_verb_has_a_comment(verb: str) -> None:
    text = config_files.read_config_text(config_dir() / f"{verb.replace(' ', '_')}.yaml")
    assert [key.name for key in text.keys if key.value and not key.comment] == []


def test_a_node_becomes_pythons_own_values() -> None:
    cfg = OmegaConf.create({"side": 64, "model": {"sizes": ["${side}", 2], "name": None}})
    values = plain(cfg.model)
    assert values == {"sizes": [64, 2], "name": None}
    assert type(values) is dict
    assert type(values["sizes"]) is list


@pytest.mark.parametrize(
    ("typed", "optimizer", "lr", "batch"),
    [
        ([], "SGD", 0.005, 2),
        (["model=light"], "AdamW", 0.0005, 4),
        (["model=tiny"], "AdamW", 0.0005, 4),  # built on light, whose preset it inherits
        (["model=light", "optimizer=sgd"], "SGD", 0.005, 4),  # the rate is the typed optimiser's own
        (["model=light", "data.batch_size=3"], "AdamW", 0.0005, 3),
        (["model=light", "optimizer.lr=0.001"], "AdamW", 0.001, 4),
        (["model=light", "preset=standard"], "SGD", 0.005, 2),
        (["model=light", "model.preset=standard"], "SGD", 0.005, 2),
        (["model.preset=light"], "AdamW", 0.0005, 4),
        (["model=light", "experiment=mine"], "SGD", 0.005, 7),  # an experiment counts as typed
        (["model=mine"], "AdamW", 0.0005, 4),
        (["model=light", "data=mine"], "AdamW", 0.0005, 5),  # and so does a file of one's own
    ],
)
def test_a_model_brings_its_preset_and_whatever_is_typed_wins(
    tmp_path: Path, typed: list[str], optimizer: str, lr: float, batch: int
) -> None:
    own = write_tree(
        tmp_path / "own",
        {
            "model/mine.yaml": "defaults:\n  - light\n  - _self_\nname: mine\n",
            "data/mine.yaml": "defaults:\n  - coco\n  - _self_\nbatch_size: 5\n",
            "experiment/mine.yaml": """
                # @package _global_
                defaults:
                  - override /optimizer: sgd
                data: {batch_size: 7}
                """,
        },
    )
    cfg = plain(compose("train", ["data.root=d", *typed], config_dir=own))
    assert cfg["optimizer"]["_target_"] == f"torch.optim.{optimizer}"
    assert (cfg["optimizer"]["lr"], cfg["data"]["batch_size"]) == (lr, batch)


def test_what_a_person_gave_is_told_from_what_came_with_it(tmp_path: Path) -> None:
    own = write_tree(
        tmp_path / "own",
        {
            "data/mine.yaml": "defaults:\n  - coco\n  - _self_\nbatch_size: 5\n",
            "experiment/mine.yaml": """
                # @package _global_
                defaults:
                  - override /optimizer: sgd
                  - override /model/mask_loss: edge
                model: {min_size: 400, rpn: {nms_thresh: 0.5}}
                """,
        },
    )
    words = ["data.root=d", "model=light", "data=mine", "experiment=mine", "debug=limit"]
    words += ["model.anchors=auto", "+extra.key=[1,2]", "~model.clahe", "data.image={page: 3}"]
    found = Asked("train", tuple(words), own).given()
    assert found is not None
    assert found.keys == {
        *("data.root", "data.batch_size", "data.image.page", "extra.key", "model.clahe"),
        *("model.min_size", "model.rpn.nms_thresh"),
        *(
            "trainer.max_epochs",
            "trainer.limit_train_batches",
            "trainer.limit_val_batches",
            "trainer.log_every_n_steps",
        ),
    }
    assert found.groups == {"model", "data", "experiment", "debug", "model/anchors", "optimizer", "model/mask_loss"}
    assert (found.choices["optimizer"], found.choices["model/anchors"], found.choices["preset"]) == (
        "sgd",
        "auto",
        "light",
    )
    assert [found.has(key) for key in ("model.min_size", "model.rpn", "model.max_size", "data.image.range")] == [
        *(True, True, False, False)
    ]
    plain_words = Asked("train", ("data.root=d", "model=light")).given()
    assert plain_words is not None
    assert (plain_words.keys, plain_words.groups) == ({"data.root"}, {"model"}), "the preset is nobody's choice"
    (tmp_path / "config.yaml").write_text("data: {root: d}\n")
    assert Asked("train", (), tmp_path, "config").given() is None, "all of it"


def test_an_experiment_may_be_a_file_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "# @package _global_\ndefaults: [{override /model: light}]\nmodel: {min_size: 400}\ndata: {root: d}\n"
    write_tree(
        tmp_path, {"my plans/first try.yaml": text, "own/experiment/mine.yaml": "# @package _global_\nseed: 7\n"}
    )
    cfg = compose("train", ["experiment=my plans/first try.yaml"])
    assert (cfg.model.name, cfg.model.min_size, cfg.data.root, cfg.preset.name) == ("light", 400, "d", "light")
    cfg = compose("train", ["experiment=[my plans/first try.yaml,mine]"], config_dir=tmp_path / "own")
    assert (cfg.model.min_size, cfg.seed) == (400, 7)
    found = Asked("train", ("experiment='my plans/first try.yaml'",)).given()
    assert found is not None
    assert found.keys == {"model.min_size", "data.root"}
    with pytest.raises(ConfigError, match=r"'no\.yaml' is no option of the group 'experiment'"):
        compose("train", ["experiment=no.yaml"])


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean preset=light"):
        compose("train", ["data.root=d", "model.preset=ligth"])
