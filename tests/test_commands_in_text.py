"""Every command and every setting that is printed or written down can be pasted into a shell, zsh among them.

zsh, macOS's shell, ends with "no matches found" at a bracket, a star or a question mark outside quotes, and takes ~
at the beginning of a word for somebody's home folder.
"""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from finemask import cli
from finemask.config import config_dir

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
COMMAND = re.compile(r"^\s*(?:\$ )?((?:finemask|python -m finemask|pip install|docker|zsh) .*)$")
# key=[…] in running text or in a message; a quote before it is what is asked for.
BARE_LIST = re.compile(r"(?<![\w\"'.\[{}/])[A-Za-z_][\w.]*=\[[^\s\]`\"']")


def unquoted(command: str) -> list[str]:
    """Words of a command that zsh would expand: those with a glob character outside quotes, or with ~ in front."""
    wrong, word, quote, risky = [], "", "", False
    for char in f"{command.partition(' #')[0]} ":
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            if risky:
                wrong.append(word)
            word, risky = "", False
            continue
        elif char in "[]*?{}()^" or (char == "~" and not word):
            risky = True
        word += char
    return wrong


def commands(text: str) -> Iterator[str]:
    """Command lines of a text: in blocks of code, with continued lines joined, and between backticks."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if found := COMMAND.match(line):
            yield found[1]
        yield from re.findall(r"`((?:finemask|pip install) [^`]+)`", line)


def comments(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.partition("#")[2].removeprefix(" ") for line in lines if "#" in line)


TEXTS = {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in PAGES if path.is_file()}
TEXTS |= {f"configs/{path.relative_to(config_dir())}": comments(path) for path in sorted(config_dir().rglob("*.yaml"))}


def test_what_zsh_expands_is_seen() -> None:
    assert unquoted("finemask a b=[1,2] \"c=[1]\" ~d e=~/f 'g?' h=* # [i]") == ["b=[1,2]", "~d", "h=*"]
    assert list(commands("x\n    finemask a \\\n      b=1\nsee `finemask c d=[1]`")) == [
        "finemask a b=1",
        "finemask c d=[1]",
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_written_down_can_be_pasted(name: str) -> None:
    text = TEXTS[name]
    assert [word for command in commands(text) for word in unquoted(command) if "…" not in word] == []
    assert [match[0] for match in BARE_LIST.finditer(text)] == []


@pytest.mark.parametrize("verb", cli.VERBS)
def test_what_help_prints_can_be_pasted(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*verb.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]  # the first says usage, in brackets of its own
    assert [word for line in lines for command in commands(line) for word in unquoted(command)] == []
    settings = [found[1] for line in lines if (found := re.match(r"  (\S+=\S.*?)(?:  |$)", line))]
    assert [word for setting in settings for word in unquoted(setting)] == []


def test_what_messages_say_can_be_pasted() -> None:
    wrong = []
    for path in sorted((REPOSITORY / "src").rglob("*.py")):
        if path.name == "synonyms.py":  # what it suggests is quoted as it is printed
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        told = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        documentation = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for node in told:
            if node.value not in documentation and " " in node.value and "=[{" not in node.value:
                wrong += [f"{path.name}:{node.lineno}: {found[0]}" for found in BARE_LIST.finditer(node.value)]
    assert wrong == []


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_zsh_itself_takes_them(tmp_path: Path) -> None:
    words = {command.partition(" #")[0] for text in TEXTS.values() for command in commands(text)}
    shown = [command for command in sorted(words) if not re.search(r"[…<>|;&$!]", command)]
    script = "\n".join(f"print -r -- {command} >/dev/null || print -ru2 -- failed" for command in shown)
    done = subprocess.run(["zsh", "-f"], input=script, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr == ""
    assert len(shown) > 50
