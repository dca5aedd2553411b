"""The page of each verb in docs/verbs names every key that its ``--help`` lists."""

import re
from pathlib import Path

import pytest

from finemask.cli import VERBS
from finemask.config.config_files import config_dir, read_config_text

PAGES = Path(__file__).resolve().parents[2] / "docs" / "verbs"


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_of_a_verb_names_its_keys(verb):
    name = verb.replace(" ", "_")
    code = " ".join(
        re.findall(r"```.*?```|`[^`\n]+`", (PAGES / f"{name}.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    )
    keys = [key.name for key in read_config_text(config_dir() / f"{name}.yaml").keys if key.comment]
    assert keys
    missing = [key for key in keys if not re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", code)]
    assert missing == [], f"docs/verbs/{name}.md says nothing of: {', '.join(missing)}"
