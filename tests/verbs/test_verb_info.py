import json

import pytest

from finemask import cli
from finemask.model_file import load_model_file


def test_tables_say_what_the_model_is(tiny_model_file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["info", str(tiny_model_file)]) == 0
    text = capsys.readouterr().out
    expected = ["red fig", "fruit", "70", "0.50", "tiny: ", "LinearBoxPredictor", "FCNMaskPredictor"]
    expected += ["masks", "0.500", "f1 0.300", "none at all", "torchvision", "128 px", "finemask 0."]
    expected += [
        "longer side 256 to 1,024 px, median 320",
        "measure 7 to 1,050 px, median 20; as resized 2 to 170 px, median 7",
    ]
    for words in expected:
        assert words in text


def test_json_holds_the_header_and_the_true_number_of_weights(tiny_model_file, capsys):
    assert cli.main(["info", f"model={tiny_model_file}", "json=true"]) == 0
    content = json.loads(capsys.readouterr().out)
    model, header = load_model_file(tiny_model_file)
    assert content["file"]["numbers"] == sum(value.numel() for value in model.state_dict().values())
    assert content["file"]["bytes"] == tiny_model_file.stat().st_size
    assert content["sha256"] == header.sha256
    assert [category["id"] for category in content["categories"]] == [3, 70, 9]


@pytest.mark.parametrize("at", [-1, -5_000, 0.5])
def test_a_flipped_bit_among_the_weights_is_found(tiny_model_file, tmp_path, at, capsys):
    content = bytearray(tiny_model_file.read_bytes())
    content[int(len(content) * at) if isinstance(at, float) else at] ^= 1
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert cli.main(["info", str(path)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, "the weights are damaged" in printed.err) == ("", True)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04junkjunkjunk", b"text " * 50])
def test_other_files_end_in_one_line_and_exit_2(tmp_path, content, capsys):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["info", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {path}: ")
    assert printed.err.count("\n") == 1
