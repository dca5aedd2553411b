"""``finemask config``: what is shipped can be listed, read and copied."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from finemask.config import config_dir
from finemask.config.config_files import config_names
from finemask.errors import ConfigError
from finemask.verbs import config as verb


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    for name, text in {
        "train.yaml": "# Fine-tune.\n#\n#   finemask train data.root=DIR\nseed: 0\n",
        "model/light.yaml": "# For laptops.\nwidth: 1\n",
        "model/loss/plain.yaml": "weight: 1\n",
        "experiment/quick.yaml": "# @package _global_\n# A minute, on\n# two cores. No more.\nseed: 1\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_listing_names_every_file_with_the_first_sentence_of_its_header(shipped: Path) -> None:
    assert verb.listing([shipped]) == [
        "train             Fine-tune.",
        "experiment/quick  A minute, on two cores.",
        "model/light       For laptops.",
        "model/loss/plain",
    ]
    assert verb.listing([shipped], "model/loss") == ["model/loss/plain"]


def test_listing_an_unknown_group_names_those_there_are(shipped: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no group 'modle'\. Did you mean 'model'\? There are: experiment, model, mo"
    ):
        verb.listing([shipped], "modle")


def test_finding(shipped: Path) -> None:
    assert verb.find([shipped], "model/light") == shipped / "model/light.yaml"
    with pytest.raises(ConfigError, match="Did you mean 'model/light'"):
        verb.find([shipped], "model/ligt")
    with pytest.raises(ConfigError, match="Did you mean 'model/light'"):
        verb.find([shipped], "light")
    with pytest.raises(ConfigError, match="which one"):
        verb.find([shipped], None)
    (shipped.parent / "outside.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match="no configuration"):
        verb.find([shipped], "../outside")


def test_copying_into_a_folder_keeps_the_group(shipped: Path, tmp_path: Path) -> None:
    written = verb.copy([shipped], "experiment/quick", str(tmp_path / "mine"))
    assert written == tmp_path / "mine/experiment/quick.yaml"
    assert written.read_bytes() == (shipped / "experiment/quick.yaml").read_bytes()


def test_copying_to_a_file_and_never_over_one(shipped: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.yaml"
    assert verb.copy([shipped], "train", str(target)) == target
    target.write_text("edited: true\n")
    with pytest.raises(ConfigError, match=r"new\.yaml: exists already, and is left alone"):
        verb.copy([shipped], "train", str(target))
    assert target.read_text() == "edited: true\n"
    with pytest.raises(ConfigError, match="where to"):
        verb.copy([shipped], "train", None)


def test_the_verb_on_the_shipped_files(capsys: pytest.CaptureFixture[str]) -> None:
    cfg = OmegaConf.create({"action": "list", "name": None, "config_dir": None, "destination": None})
    assert verb.main(cfg) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == config_names([config_dir()])
    cfg.action, cfg.name = "show", "config.yaml"
    assert verb.main(cfg) == 0
    assert capsys.readouterr().out == (config_dir() / "config.yaml").read_text()
    cfg.action = "lst"
    with pytest.raises(ConfigError, match=r"config does not know 'lst'\. Did you mean finemask config list\?"):
        verb.main(cfg)
