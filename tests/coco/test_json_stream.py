"""The stream of entries against the standard library's parser, faults and their places included."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finemask.coco import json_stream
from finemask.coco.json_stream import JsonStream
from finemask.errors import DataError
from finemask.ops.files.documents import parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)
documents = st.dictionaries(st.text(max_size=3), values, max_size=5) | values
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False, "indent": "\t"}])


def dump(value, layout):
    return json.dumps(value, **layout).encode("utf-8", "surrogatepass" if layout.get("ensure_ascii") else "replace")


def read_by_entries(path):
    """What ``json.loads`` makes of a file that holds an object, put together from the stream."""
    found = {}
    with JsonStream(path, "a test") as stream:
        for key in stream.members():
            found[key] = list(stream.entries()) if stream.at_list() else stream.value()
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("stream") / "file.json"


@pytest.fixture(params=[1, 7, 2**20], autouse=True)
def window(request, monkeypatch):
    """Entries, numbers and even characters fall on the border of a window."""
    monkeypatch.setattr(json_stream, "_READ_BYTES", request.param)


fixtures_stay = settings(max_examples=60, deadline=None, suppress_health_check=["function_scoped_fixture"])


@fixtures_stay
@given(documents, layouts)
@example({"a": [1.5e3, -7, 12345678901234567890], "b": float("-inf"), "é": ["𝄞\\u00e9"]}, {"ensure_ascii": False})
def test_reads_what_the_standard_library_reads(file, document, layout):
    content = dump(document, layout)
    file.write_bytes(content)
    expected = json.loads(content)
    found = read_by_entries(file)
    assert repr(found) == repr(expected if isinstance(expected, dict) else {})  # repr: NaN equals NaN


def outcome(read):
    try:
        return repr(read())
    except DataError as error:
        return str(error)


@fixtures_stay
@given(
    documents,
    layouts,
    st.integers(0, 2**16),
    st.integers(0, 4),
    st.sampled_from([b"", b",", b"]", b"}", b'"', b"\n:", b"x", b"1"]),
)
@example([], {}, 0, 0, b"")
def test_faults_are_named_in_the_same_words_at_the_same_place(file, document, layout, where, length, patch):
    content = dump({"images": document, "more": [document, 1]}, layout)
    where %= len(content) + 1
    content = content[:where] + patch + content[where + length :]
    file.write_bytes(content)
    expected = outcome(lambda: parse_json(content, file, "a test"))
    if "railing comma" not in expected:  # newer Pythons point at such a comma, not at what follows it
        found = outcome(lambda: read_by_entries(file))
        assert found == (expected if expected[0] in "{/" else "{}")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "line 1, column 1: Expecting value"),
        ('{"a": [1, 2', "line 1, column 12: Expecting ',' delimiter"),
        ('{"a": [1,\n 2 3]}', "line 2, column 4: Expecting ',' delimiter"),
        ('{"a": 1}\n\n  x', "line 3, column 3: Extra data"),
        ('{"a" 1}', "line 1, column 6: Expecting ':' delimiter"),
        ("{\n\n a: 1}", "line 3, column 2: Expecting property name"),
        ('{"a": [1, "\n"]}', "line 1, column 12: Invalid control character"),
    ],
)
def test_places_by_hand(file, text, place):
    file.write_text(text)
    with pytest.raises(DataError, match=f"^{file}: broken JSON at {place}"):
        read_by_entries(file)


def test_what_is_not_taken_is_skipped(file):
    file.write_text('{"a": [1, {"b": [2]}], "c": {"d": 1}, "e": [], "f": 5}')
    with JsonStream(file, "a test") as stream:
        assert [(key, stream.value() if key == "f" else None) for key in stream.members()][-1] == ("f", 5)


def test_a_list_is_never_held_as_a_whole(file, monkeypatch):
    monkeypatch.setattr(json_stream, "_READ_BYTES", 1000)
    file.write_text(json.dumps({"a": [{"number": i} for i in range(5000)]}))
    with JsonStream(file, "a test") as stream:
        for _ in stream.members():
            for _ in stream.entries():
                assert len(stream._text) < 3000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\xc3', "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "thousands of digits"),
    ],
)
def test_what_no_parser_takes(file, content, message):
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_by_entries(file)


def test_the_hash_is_of_the_whole_file(file):
    import hashlib

    file.write_bytes(b'\xef\xbb\xbf{"a": [1, 2]}  \n')
    with JsonStream(file, "a test") as stream:
        assert list(stream.members()) == ["a"]
        assert stream.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
