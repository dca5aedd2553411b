"""Models by their address on the Hub: the client of ``huggingface_hub`` itself against a hub on loopback."""

import sys
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub, ask_there, fake_hub

from finemask.errors import ConfigError, MissingExtraError, ModelFileError
from finemask.model_file import find_model_file
from finemask.model_hub import HubAddress, download, hub_address

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with fake_hub() as served:
        served.files["org/bottles"] = {"model.safetensors": b"weights", "deploy/model.onnx": b"onnx"}
        ask_there(monkeypatch, served.url, tmp_path / "cache")
        yield served


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://org/name", HubAddress("org/name")),
        ("hf://org/name/", HubAddress("org/name")),
        ("hf://org/a_b.c-1@v1.0", HubAddress("org/a_b.c-1", "v1.0")),
        ("hf://org/name/deploy/model.onnx", HubAddress("org/name", None, "deploy/model.onnx")),
        ("hf://org/name@main/model.onnx", HubAddress("org/name", "main", "model.onnx")),
        (Path("hf://org/name"), HubAddress("org/name")),  # a slash is lost
        ("hf:\\org\\name", HubAddress("org/name")),  # by a path of Windows
        ("runs/mine", None),
        ("https://host/model", None),
        ("shf://org/name", None),
    ],
)
def test_addresses(text, expected) -> None:
    found = hub_address(text)
    assert found == expected
    assert found is None or hub_address(str(found)) == found


@pytest.mark.parametrize(
    "text", ["hf://", "hf://name", "hf:///org/name", "hf://org/../x", "hf://org/na me", "hf://org/x@"]
)
def test_what_is_no_address_is_refused_in_words(text) -> None:
    with pytest.raises(ConfigError, match=r"hf://OWNER/NAME@REVISION"):
        hub_address(text)


def test_files_come_once_and_then_from_the_cache(hub: FakeHub) -> None:
    path = find_model_file("hf://org/bottles")
    assert (path.name, path.read_bytes()) == ("model.safetensors", b"weights")
    assert COMMIT in path.parts
    assert find_model_file("hf://org/bottles/deploy/model.onnx").read_bytes() == b"onnx"
    fetched = hub.answers.count("GET /org/bottles/resolve/main/model.safetensors")
    assert find_model_file("hf://org/bottles") == path
    assert hub.answers.count("GET /org/bottles/resolve/main/model.safetensors") == fetched == 1


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://org/none", "no such model on the Hugging Face Hub, or it is private.*hf auth login"),
        ("hf://org/asks", "its owner wants to be asked first.*/org/asks"),
        ("hf://org/bottles@v9", "no revision v9"),
        ("hf://org/bottles/else.onnx", r"has no else\.onnx.*org/bottles/tree/main"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(hub: FakeHub, address, said) -> None:
    hub.gated.add("org/asks")
    with pytest.raises(ModelFileError, match=said):
        find_model_file(address)


def test_without_a_network_the_cache_answers_or_it_is_said(hub: FakeHub, monkeypatch, tmp_path, caplog) -> None:
    path = find_model_file("hf://org/bottles")
    nowhere = "http://127.0.0.1:9"
    ask_there(monkeypatch, nowhere, tmp_path / "cache")
    assert find_model_file("hf://org/bottles") == path
    assert "cannot be reached; taken from the cache" in caplog.text
    with pytest.raises(ModelFileError, match=rf"the Hub cannot be reached.*{nowhere}/org/other/resolve/main/model"):
        find_model_file("hf://org/other")


def test_offline_mode_asks_nobody(hub: FakeHub, monkeypatch) -> None:
    path = find_model_file("hf://org/bottles")
    asked = len(hub.answers)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model_file("hf://org/bottles") == path
    with pytest.raises(ModelFileError, match="HF_HUB_OFFLINE is set"):
        find_model_file("hf://org/other")
    assert len(hub.answers) == asked


def test_without_the_package_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"finemask\[hub\]"):
        download(HubAddress("org/bottles"), "model.safetensors")
