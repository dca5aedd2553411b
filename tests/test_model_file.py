import json
import struct
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from finemask import model_file
from finemask.errors import ModelFileError
from finemask.model_file import load_model_file, read_header, save_model_file
from finemask.model_header import ModelHeader, TrainingSizes, header_from_json, header_to_json
from finemask.ops.images.image_reading import ImageReading
from finemask.types import Category, Preprocessing

CONFIG = {"_target_": "finemask.tests.Small", "width": 3}


class Small(nn.Module):
    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, num_classes)


@pytest.fixture(autouse=True)
def _fake_build(monkeypatch):
    def build_model(config, num_classes, *, allowed=None):
        assert allowed is not None
        if config["_target_"] not in allowed:
            raise ModelFileError(f"{config['_target_']} is not an allowed builder")
        return Small(num_classes, config["width"])

    fake = types.ModuleType("finemask.model.build")
    fake.build_model = fake.build_unfilled_model = build_model
    monkeypatch.setattr(
        "finemask.config.config_files.shipped_targets", lambda group: frozenset({"finemask.tests.Small"})
    )
    monkeypatch.setitem(sys.modules, "finemask.model.build", fake)
    import finemask.model

    monkeypatch.setattr(finemask.model, "build", fake, raising=False)


SIZES = {
    "images_px": [256, 300, 1024],
    "scale": [0.5, 1, 2.5],
    "objects_px": [3, 9.5, 40],
    "objects_seen_px": [4, 10, 50],
}


def make_header(**changes) -> ModelHeader:
    values = {
        "model": CONFIG,
        "categories": (Category(3, "fig", "fruit"), Category(17, "müsli ☂")),
        "preprocessing": Preprocessing((320, 400), 640, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "thresholds": {"global": 0.6, "per_class": {"fig": 0.7}},
        "metrics": {"segm": {"AP": 0.5, "APl": None}},
        "data_fingerprint": "abc",
        "training_sizes": TrainingSizes((256, 300, 1024), (0.5, 1.0, 2.5), (3.0, 9.5, 40.0), (4.0, 10.0, 50.0)),
        "licenses": {"backbone": "BSD-3-Clause"},
    }
    return ModelHeader(**(values | changes))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model_file(path, Small(3, 3).state_dict(), make_header())
    return path


def rewritten(path: Path, edit) -> bytes:
    """The file's bytes with its JSON front edited and all lengths made right again."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    front = json.loads(data[8 : 8 + length])
    edit(front)
    encoded = json.dumps(front).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :]


def test_weights_and_header_come_back_unchanged(tmp_path):
    module = Small(3, 3)
    written = save_model_file(tmp_path / "m.safetensors", module.state_dict(), make_header())
    model, header = load_model_file(tmp_path / "m.safetensors")
    assert header == written == read_header(tmp_path / "m.safetensors")
    assert header.categories[1] == Category(17, "müsli ☂", "")
    assert not model.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in module.state_dict().items())


def test_what_is_read_of_images_comes_back_and_older_files_have_none(saved, tmp_path):
    reading = ImageReading(page=2, range=(0, 4095), channels=(4, 1, 0))
    path = tmp_path / "m.safetensors"
    save_model_file(path, Small(3, 3).state_dict(), make_header(reading=reading))
    assert read_header(path).reading == reading
    content = header_to_json(make_header(reading=reading))
    assert content["preprocessing"]["image"] == {"page": 2, "range": [0, 4095], "channels": [4, 1, 0]}
    del content["preprocessing"]["image"]
    assert header_from_json(content).reading == ImageReading()
    content["preprocessing"]["image"] = {"range": [9, 1]}
    with pytest.raises(ValueError, match=r"image\.range"):
        header_from_json(content)


def test_any_safetensors_reader_reads_it_and_the_hash_is_that_of_the_tensor_bytes(saved):
    import hashlib

    with safe_open(saved, "pt") as file:
        assert set(file.keys()) == set(Small(3, 3).state_dict())
        header = json.loads(file.metadata()["finemask"])
    data = saved.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    assert header["sha256"] == hashlib.sha256(data[8 + length :]).hexdigest()
    assert header["format_version"] == 1
    assert header["thresholds"] == {"global": 0.6, "per_class": {"fig": 0.7}}


def test_shared_strided_and_half_tensors_are_written(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    module = Small(3, 3).half()
    state = module.state_dict()
    state["first.weight"] = base.half()
    state["last.weight"] = base.half().t()[:3].contiguous().t()
    state["last.bias"] = state["first.bias"]  # two names, one memory
    save_model_file(tmp_path / "m.safetensors", state, make_header())
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("last.weight"), state["last.weight"])
        assert torch.equal(file.get_tensor("last.bias"), state["first.bias"])


def test_loading_leaves_the_random_state_alone(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model_file(saved)
    assert torch.equal(torch.rand(3), expected)


def test_thresholds_of_operating_points():
    points = {"precision_90": {"global": 0.7, "per_class": {"fig": 0.9, "date": None}}, "recall_90": {"global": None}}
    header = make_header(thresholds={"global": 0.5, "per_class": {}, "points": points})
    assert header_from_json(json.loads(json.dumps(header_to_json(header)))) == header
    others = {category.name: 0.7 for category in header.categories}
    assert header.thresholds_at("precision_90") == others | {"fig": 0.9}
    assert header.thresholds_at("recall_90") is None  # reached nowhere
    assert header.thresholds_at("best_f1") is None  # not in the file
    assert make_header(thresholds={"global": 0.5}).thresholds_at("precision_90") is None  # an older file
    assert make_header(thresholds={"global": 0.5}).thresholds == {"global": 0.5, "per_class": {}}
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        make_header(thresholds={"points": {"best_f1": {"global": 7}}})


def test_thresholds_per_class_and_otherwise_overall():
    header = make_header()
    assert (header.threshold_of("fig"), header.threshold_of("müsli ☂")) == (0.7, 0.6)
    unknown = make_header(thresholds={"global": None, "per_class": {"fig": None}})
    assert unknown.threshold_of("fig") == 0.5


def test_not_a_tensor_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ModelFileError, match="'extra' is a dict"):
        save_model_file(tmp_path / "m.safetensors", {"extra": {}}, make_header())  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def foreign_files(folder: Path) -> dict[str, Path]:
    torch.save({"a": torch.zeros(3)}, folder / "other.pth")
    save_file({"a": torch.zeros(3)}, folder / "other.safetensors")
    save_file({"a": torch.zeros(3)}, folder / "odd.safetensors", {"finemask": "[]"})
    (folder / "text.safetensors").write_text("hello, this is a text file\n" * 10)
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "deep.safetensors").write_bytes(struct.pack("<Q", 200_000) + b"[" * 200_000)
    (folder / "list.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]")
    (folder / "folder").mkdir()
    names = ["other.pth", "other.safetensors", "odd.safetensors", "text.safetensors", "empty.safetensors"]
    names += ["deep.safetensors", "list.safetensors", "folder", "missing.safetensors"]
    return {name: folder / name for name in names}


def test_foreign_files_are_told_apart(tmp_path):
    messages = {}
    for name, path in foreign_files(tmp_path).items():
        for read in (read_header, load_model_file):
            with pytest.raises(ModelFileError) as caught:
                read(path)
            assert str(path) in str(caught.value)
        messages[name] = str(caught.value)
    assert "PyTorch checkpoint" in messages["other.pth"]
    assert "metadata lacks the key 'finemask'" in messages["other.safetensors"]
    assert "no such model file" in messages["missing.safetensors"]
    assert "a folder" in messages["folder"]


def test_header_edits_are_found_even_when_the_json_stays_valid(saved, tmp_path):
    def rename_class(front):
        front["__metadata__"]["finemask"] = front["__metadata__"]["finemask"].replace("fig", "fog")

    def swap_tensors(front):
        front["first.bias"], front["norm.bias"] = front["norm.bias"], front["first.bias"]

    for edit in (rename_class, swap_tensors):
        path = tmp_path / "edited.safetensors"
        path.write_bytes(rewritten(saved, edit))
        with pytest.raises(ModelFileError, match="checksum"):
            read_header(path)


def test_newer_format_asks_for_an_upgrade(saved, tmp_path):
    save_model_file(tmp_path / "new.safetensors", {}, make_header(format_version=99))
    with pytest.raises(ModelFileError, match=r"format version 99.*Upgrade"):
        read_header(tmp_path / "new.safetensors")


def test_only_allowed_builders_run(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model_file(path, Small(3, 3).state_dict(), make_header(model={"_target_": "os.system", "width": 3}))
    assert read_header(path).model["_target_"] == "os.system"
    with pytest.raises(ModelFileError, match=r"m\.safetensors: os\.system is not an allowed builder"):
        load_model_file(path)
    load_model_file(path, trust=["os.system"])  # the fake builder ignores the name; it is let through


def test_weights_that_do_not_fit_the_described_model(tmp_path):
    path = tmp_path / "m.safetensors"
    for state, config in [
        (Small(3, 5).state_dict(), CONFIG),
        ({}, CONFIG),
        (Small(3, 3).state_dict(), CONFIG | {"width": "x"}),
    ]:
        save_model_file(path, state, make_header(model=config))
        with pytest.raises(ModelFileError, match="cannot be rebuilt"):
            load_model_file(path)


def test_a_file_from_before_training_sizes_says_nothing_of_them():
    content = header_to_json(make_header())
    assert content["training_sizes"] == SIZES
    del content["training_sizes"]
    assert header_from_json(content).training_sizes is None


@pytest.mark.parametrize(
    "change",
    [
        {"categories": []},
        {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]},
        {"thresholds": {"global": 1.5, "per_class": {}}},
        {"thresholds": {"global": float("nan"), "per_class": {}}},
        {"model": []},
        {"preprocessing": {}},
        {"metrics": 3},
        {"training_sizes": 3},
        {"training_sizes": {"scale": [1, 2, 3]}},
        {"training_sizes": {**SIZES, "scale": [1, 3, 2]}},
        {"training_sizes": {**SIZES, "scale": [float("nan"), 3, 4]}},
        {"training_sizes": {**SIZES, "objects_px": [0, 3, 4]}},
    ],
)
def test_headers_that_cannot_be_meant(change):
    with pytest.raises((ValueError, KeyError, TypeError)):
        header_from_json(header_to_json(make_header()) | change)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_or_harmless(saved, tmp_path, data):
    original = saved.read_bytes()
    damaged = bytearray(original)
    if data.draw(st.booleans(), "truncate"):
        damaged = damaged[: data.draw(st.integers(0, len(original) - 1), "length")]
    else:
        for _ in range(data.draw(st.integers(1, 3), "flips")):
            position = data.draw(st.integers(0, len(original) - 1), "position")
            damaged[position] ^= 1 << data.draw(st.integers(0, 7), "bit")
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damaged)
    try:
        model, header = load_model_file(path)
    except ModelFileError:
        return
    reference, reference_header = load_model_file(saved)
    assert header == reference_header
    assert model.state_dict().keys() == reference.state_dict().keys()
    for name, value in reference.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_public_names():
    public = {name for name in vars(model_file) if not name.startswith("_")}
    assert public >= {"ModelHeader", "save_model_file", "read_header", "load_model_file", "verify_model_file"}


def test_a_number_beyond_all_floats_in_the_front_of_a_file(tmp_path):
    """JSON may say 1e999, which is read as infinity and is no position in a file."""
    front = b'{"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(front).to_bytes(8, "little") + front)
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        read_header(path)
