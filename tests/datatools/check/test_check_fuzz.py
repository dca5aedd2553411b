"""Whatever stands in an annotation file, checking and repairing end well, and what is left without errors is usable."""

import copy
import json

import pytest
from faults import clean_scene
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finemask.coco.index import CocoIndex
from finemask.datatools.check.problems import Dataset, Problem, Severity
from finemask.datatools.check.repair import log_path, repair, write_repaired
from finemask.datatools.check.run_rules import RULES, findings_of, load_document
from finemask.evaluation.ground_truth import load_ground_truth

LISTS = ("images", "annotations", "categories")
FAST = [rule for rule in RULES if rule.fast]

numbers = st.one_of(
    st.integers(-3, 90),
    st.sampled_from([0, 1, 2, 2.0, 0.5, -1, 1e6, 10**12, 2**53, 2**63, 10**400, 1e308, float("nan"), float("inf")]),
    st.floats(width=32),
)
text = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["1", " 2 ", "../x.png", "/etc/passwd", "C:\\a.png", "a\0b", "\ud800", "leaf", "Leaf ", "", "²"]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, text)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=7),
        st.dictionaries(st.sampled_from(["id", "size", "counts", "name", "x"]), inner, max_size=3),
    ),
    max_leaves=12,
)
coordinates = st.lists(st.one_of(st.floats(-20, 100), numbers), max_size=9)
likely = st.one_of(
    values,
    coordinates,
    st.lists(coordinates, max_size=3),
    st.fixed_dictionaries(
        {
            "size": st.one_of(st.just([60, 80]), st.just([80, 60]), values),
            "counts": st.one_of(st.text("0123456789PQo`b'", max_size=8), st.lists(numbers, max_size=4)),
        }
    ),
)


@st.composite
def mutations(draw):
    """A few changes, each at a random depth of the document: a value replaced, removed, or copied to another place."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["replace", "replace", "replace", "remove", "copy"]),
                st.lists(st.integers(0, 200), min_size=1, max_size=5),
                likely,
            ),
            min_size=1,
            max_size=4,
        )
    )


def mutated(document, changes):
    document = copy.deepcopy(document)
    for action, path, value in changes:
        parent, key, node = None, None, document
        for step in path:
            if isinstance(node, dict) and node:
                parent, key = node, sorted(node, key=str)[step % len(node)]
            elif isinstance(node, list) and node:
                parent, key = node, step % len(node)
            else:
                break
            node = parent[key]
        if parent is None:
            continue
        if action == "replace":
            parent[key] = copy.deepcopy(value)
        elif action == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            parent[f"{key} too"] = copy.deepcopy(parent[key])
    return document


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Two images are enough, and quicker."""
    scene = clean_scene(tmp_path_factory.mktemp("fuzz") / "set")
    scene.train["images"] = scene.train["images"][:2]
    scene.train["annotations"] = [a for a in scene.train["annotations"] if a["image_id"] <= 2]
    return scene


def check_and_repair(scene, document):
    """Checks and repairs a document; whether the result may be used, and where it is."""
    path = scene.root / "annotations" / "mutated.json"
    path.write_text(json.dumps(document))
    dataset = Dataset((load_document(path, scene.images_dir),))
    before = path.read_bytes()
    found = list(findings_of(dataset, FAST))
    for rule, finding in found:
        Problem.of(rule, finding).message.encode()
    repaired = repair(dataset, found, FAST) if isinstance(dataset.documents[0].raw, dict) else None
    assert path.read_bytes() == before
    if repaired is None:
        return False, path
    assert all(not finding.edits for _, finding in repaired.left), "what can be repaired is repaired"
    assert repair(repaired.dataset, rules=FAST).changes == []
    fixed = scene.root / "annotations" / "fixed.json"
    write_repaired(repaired, [fixed])
    assert len(log_path(fixed).read_text().splitlines()) >= len(repaired.changes)
    return all(rule.severity is not Severity.ERROR for rule, _ in repaired.left), fixed


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=mutations())
@example(changes=[("replace", [1, 4, 3], {"size": [60, 80], "counts": "\ud800"})])
@example(changes=[("replace", [1, 4, 6], [[1e308, -1e308, 1e308, 1e308, 0, 0]])])
@example(changes=[("replace", [2, 2, 2], "../../secret")])
def test_a_mutated_file_never_ends_in_a_traceback_and_training_accepts_what_has_no_errors(scene, changes):
    usable, path = check_and_repair(scene, mutated(scene.train, changes))
    if usable:
        index = CocoIndex.read(path, scene.images_dir)
        for i in range(len(index)):
            for k in range(len(index.instances(i))):
                index.instances(i).crop(k)
        load_ground_truth(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=st.one_of(values, st.fixed_dictionaries(dict.fromkeys(("images", "annotations", "categories"), values)))
)
def test_any_json_at_all_is_judged(scene, document):
    usable, _ = check_and_repair(scene, document)
    assert not usable
