"""Each rule finds the fault that was planted for it, and no other rule does; what can be repaired is repaired."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from faults import FAULTS, clean_scene, rules_table, spoilt

from finemask.datatools.check.problems import CheckSettings, Dataset, Severity
from finemask.datatools.check.repair import repair
from finemask.datatools.check.run_rules import RULES, findings_of, load_document

RULE = {rule.name: rule for rule in RULES}


ASKED = CheckSettings(remove=True, crowds="objects", boxes="drop")


def dataset_of(scene, settings=None):
    documents = tuple(load_document(path, scene.images_dir) for path in scene.paths)
    return Dataset(documents, settings or CheckSettings())


def counts_of(found):
    return Counter(rule.name for rule, _ in found)


@pytest.fixture(scope="session")
def clean(tmp_path_factory):
    return clean_scene(tmp_path_factory.mktemp("clean") / "set")


@pytest.fixture
def scene(clean, tmp_path):
    shutil.copytree(clean.root, tmp_path / "set")
    return type(clean)(tmp_path / "set", clean.train, clean.val)


def test_the_clean_dataset_is_clean(clean):
    assert counts_of(findings_of(dataset_of(clean))) == {}


def test_every_rule_has_a_name_of_its_own_and_a_planted_fault():
    assert len(RULE) == len(RULES) >= 35
    assert set(FAULTS) == set(RULE)


@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_is_found_by_its_rule_and_by_no_other(scene, rule):
    found = list(findings_of(dataset_of(spoilt(scene, rule))))
    assert set(counts_of(found)) == {rule}
    assert any(finding.edits or finding.needs for _, finding in found) == (RULE[rule].repair is not None)
    assert all(finding.message and "\n" not in finding.message for _, finding in found)


@pytest.mark.parametrize("rule", [name for name in FAULTS if RULE[name].repair])
def test_a_repaired_dataset_is_clean_and_stays_as_it_is(scene, rule):
    dataset = dataset_of(spoilt(scene, rule), ASKED)
    before = json.dumps([document.raw for document in dataset.documents])
    repaired = repair(dataset)
    assert counts_of(repaired.left) == {}
    assert repaired.changes
    assert all(change.rule in RULE and "\n" not in str(change) for change in repaired.changes)
    assert json.dumps([document.raw for document in dataset.documents]) == before
    again = repair(repaired.dataset)
    assert again.changes == []
    assert again.dataset.documents == repaired.dataset.documents


def test_severities_are_those_of_the_contract():
    assert {str(rule.severity) for rule in RULES} == {"error", "warning"} == {str(s) for s in Severity}


def test_the_documentation_lists_every_rule_with_its_fault():
    page = Path(__file__).resolve().parents[3] / "docs" / "verbs" / "data_check_rules.md"
    table = rules_table(RULES)
    print(table)
    assert page.read_text(encoding="utf-8") == table, f"python tests/helpers/faults.py > {page.name} writes it anew"
