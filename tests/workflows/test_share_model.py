"""Sharing: what a folder or a hub gets is loaded again by its address; the card says what the header says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_hub import TOKEN, FakeHub, ask_there, fake_hub
from inference_data import CATEGORIES, colour_header
from PIL import Image
from safetensors.torch import load_file

import finemask
from finemask.errors import ConfigError
from finemask.export.model_card import write_card
from finemask.model_file import read_header, save_model_file
from finemask.workflows.share_model import share

METRICS = {
    "segm": {"AP": 0.61, "AP50": 0.82, "AP75": None},
    "bbox": {"AP": 0.55, "AP50": 0.8, "AP75": 0.7},
    "operating_point": {"threshold": 0.4, "precision": 0.75, "recall": 0.9, "f1": 0.8},
    "per_class": {
        "red fig": {"segm_AP": 0.7, "precision": 0.9, "recall": 0.8, "ground_truths": 120},
        "green/date": {"segm_AP": None, "precision": None, "recall": 0.5, "ground_truths": 3},
    },
    "confidence_interval": {
        "level": 0.95,
        "segm": {"AP": [0.5, 0.7], "AP50": [0.75, 0.9], "AP75": None},
        "bbox": {"AP": [0.45, 0.65]},
        "operating_point": {"precision": [0.7, 0.8], "recall": None},
        "per_class": {"red fig": {"segm_AP": [0.6, 0.8]}},
    },
    "slices": [
        {"kind": "size", "name": "under 16 px", "ground_truths": 40, "recall": 0.25},
        {"kind": "border", "name": "at the border", "ground_truths": 40, "recall": 0.85},
    ],
    "confusion": {"names": ["red fig", "blue", "background"], "counts": [[9, 4, 2], [0, 5, 0], [7, 1, 0]]},
    "images": 30,
    "ground_truths": 123,
    "source": {"annotations": "/home/me/secret/val.json", "images": "/home/me/secret"},
}


@pytest.fixture(scope="module")
def model_file(tiny_model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with measurements, and with paths of the machine that it was made on."""
    header = read_header(tiny_model_file)
    model = {**header.model, "weights": "/home/me/secret/start.pth"}
    header = replace(header, model=model, metrics=METRICS, data_fingerprint="f" * 64)
    path = tmp_path_factory.mktemp("measured") / "model.safetensors"
    save_model_file(path, load_file(tiny_model_file), header)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3)).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_a_folder_gets_the_model_its_card_and_a_preview_and_no_path_of_this_machine(
    model_file: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "figs"
    for _ in range(2):  # the second time replaces the first
        shared = share(model_file, folder, [f"pictures={pictures}", "license=apache-2.0"])
    assert shared.page is None
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors", "preview.jpg"]
    assert same_weights(model_file, folder / "model.safetensors")
    assert b"secret" not in (folder / "model.safetensors").read_bytes()
    assert read_header(folder).model["weights"] == "start.pth"
    assert finemask.load(folder, device="cpu").thresholds == finemask.load(model_file, device="cpu").thresholds
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "secret" not in card
    assert "# figs" in card
    assert "](preview.jpg)" in card
    assert Image.open(folder / "preview.jpg").width > 800


def test_a_folder_with_other_files_is_left_alone(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"holds other files, such as thesis\.tex"):
        share(model_file, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pytest.importorskip("huggingface_hub")
    with fake_hub() as served:
        ask_there(monkeypatch, served.url, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield served


def test_what_goes_to_a_hub_is_loaded_by_its_address(hub: FakeHub, model_file: Path, tmp_path: Path) -> None:
    shared = share(model_file, "hf://lab/figs")
    assert shared.page == f"{hub.url}/lab/figs"
    assert hub.visibility == {"lab/figs": "private"}
    assert sorted(hub.files["lab/figs"]) == ["README.md", "model.safetensors"]
    card = hub.files["lab/figs"]["README.md"].decode()
    assert 'finemask.load("hf://lab/figs")' in card
    loaded = finemask.load("hf://lab/figs", device="cpu")
    assert loaded.categories == CATEGORIES
    share(model_file, "hf://lab/figs", ["private=false"])
    assert hub.visibility == {"lab/figs": "private"}  # one that is there stays as it is


def test_the_verbs_take_an_address(hub: FakeHub, model_file: Path, pictures: Path, tmp_path: Path, capsys) -> None:
    from finemask.cli import main

    share(model_file, "hf://lab/figs")
    found = tmp_path / "found"
    assert main(["predict", "model=hf://lab/figs", f"source={pictures}", f"output={found}", "save=[csv]"]) == 0
    assert (found / "predictions.csv").is_file()
    assert main(["info", "model=hf://lab/figs@main"]) == 0
    assert main(["info", "model=hf://lab/none"]) == 2
    assert "error: hf://lab/none: there is no such model on the Hugging Face Hub" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("token", "url", "said"),
    [
        (None, None, "nobody is logged in.*hf auth login"),
        ("hf_reader", None, "may not write there.*owner"),
        (TOKEN, "http://127.0.0.1:9", r"cannot be reached.*to=FOLDER"),
    ],
)
def test_what_keeps_a_model_from_the_hub_is_said(
    hub: FakeHub, model_file: Path, monkeypatch, tmp_path: Path, token, url, said
) -> None:
    ask_there(monkeypatch, url or hub.url, tmp_path / "cache")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match=said):
        share(model_file, "hf://lab/figs")
    assert hub.files == {}


def test_a_licence_that_the_hub_does_not_know_is_said(hub: FakeHub, model_file: Path) -> None:
    with pytest.raises(ConfigError, match=r'"license" must be one of a list.*Check license='):
        share(model_file, "hf://lab/figs", ["license=none-such"])


def card_of(model_file: Path, **changes) -> str:
    values = {"name": "figs", "address": None, "license": None, "preview": None} | changes
    header = values.pop("header", read_header(model_file))
    return write_card(header, model_file, **values)


def test_the_hub_can_read_the_front_of_the_card(model_file: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(card_of(model_file, license="cc-by-4.0"))
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "cc-by-4.0",
        "finemask",
        "image-segmentation",
    )
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found == {"segm_AP": 0.61, "segm_AP50": 0.82, "bbox_AP": 0.55, "bbox_AP50": 0.8, "bbox_AP75": 0.7}
    assert "license" not in hub.ModelCard(card_of(model_file)).data.to_dict()


def test_the_card_says_how_well_and_where_not_to_trust_it(model_file: Path) -> None:
    card = card_of(model_file)
    for text in (
        "Finds `red fig`, `green/date`, `blue` in images",
        "Measured on 30 images with 123 labelled objects that it was not trained on; in brackets the 95 % interval",
        "| masks | 0.61 (0.50 to 0.70) | 0.82 (0.75 to 0.90) | – |",
        "75 % (70 % to 80 %) of what it reports is right, and it finds 90 % of the objects",
        "| red fig | 0.50 | 0.70 (0.60 to 0.80) | 90 % | 80 % | 120 |",
        "| green/date | 0.50 | – | – | 50 % | 3 |",
        "nine of ten objects measured 7 to 1,050 px",
        "Fewer than 20 labelled objects were there to measure `green/date` (3)",
        "It finds 25 % of the objects in this group: objects of under 16 px (40).",
        "It took 4 objects labelled `red fig` for `blue`.",
        f"fingerprint `{'f' * 64}`",
        "Pretrained weights: none at all.",
        "Licence of this model: none was stated",
        f"SHA-256 of the weights `{read_header(model_file).sha256}`",
    ):
        assert text in card
    assert "at the border" not in card  # its recall is near that of all
    assert "background" not in card
    assert "Licence of this model: `mit`." in card_of(model_file, license="mit")


def test_its_example_runs(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_file.parent)
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(model_file.parent / "photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", card_of(model_file), flags=re.DOTALL)
    assert len(code.splitlines()) == 3
    scope: dict = {}
    exec(code, scope)
    assert scope["instances"].image_size_hw == (50, 60)


def test_a_model_that_was_never_measured_has_a_card(model_file: Path) -> None:
    card = card_of(model_file, header=colour_header(categories=CATEGORIES[:1]))
    assert "The model file holds no measurement" in card
    assert "Training data: not recorded." in card
    front = card.split("---")[1]
    assert "model-index" not in front
    assert json.loads(front.split("tags: ")[1].splitlines()[0])[-1] == "finemask"
