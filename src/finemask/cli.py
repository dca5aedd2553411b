"""The command line: ``finemask VERB key=value …``.

A table of verbs, one late import, one call; and the place where errors become one paragraph and an exit code:
0 done, 2 the user can mend it, 1 a defect of finemask, 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from finemask.command_line.failures import explain, own_modules
from finemask.config import plain, search_path
from finemask.config.synonyms import MISSING_VERBS, TASKS, VERB_SYNONYMS, translate
from finemask.errors import INTERRUPTED, ConfigError, FinemaskError, did_you_mean
from finemask.machine.processes import is_first_process, launched

if TYPE_CHECKING:
    from omegaconf import DictConfig


# Name to what it does. ``data check`` is ``finemask/verbs/data/check.py``.
VERBS = {
    "train": "fine-tune on a COCO dataset, evaluate the best weights, write a model file",
    "evaluate": "score a model file on a split, or a COCO results file",
    "plan": "what your data ask for: sizes, anchors, batch, length; says why",
    "sweep": "search for better settings: many trainings, chosen one after another",
    "compare": "two runs or results files: differences with confidence intervals",
    "predict": "find and outline instances in images: overlays and COCO JSON",
    "export": "write a model file for other runtimes, proven to find the same",
    "serve": "a model over HTTP: images in, JSON or overlays out",
    "demo": "a page on a model, in the browser",
    "share": "a model file with its card, in a folder or on the Hugging Face Hub",
    "info": "what a model file is: classes, architecture, metrics, provenance",
    "data check": "find what is wrong with annotations and images, and repair it",
    "data suspects": "labels that a model contradicts, ranked, with pictures to tick",
    "data split": "train, val and test, or k folds: classes in proportion",
    "data stats": "sizes, classes, crowding, brightness; what it means for training",
    "data preview": "contact sheets of what is on disk and of what the model sees",
    "data synth": "draw a small COCO dataset of overlapping shapes",
    "data convert": "other tools' datasets to COCO, and COCO to theirs",
    "data tile": "cut large images and their instances into overlapping tiles",
    "benchmark": "how fast this machine loads, trains, predicts and evaluates",
    "doctor": "what this machine has, what is wrong with it, what it suggests",
    "config": "list, show NAME or copy NAME DEST: start from a shipped configuration",
}
GO_ON = {"predict": "skip_existing=true"}  # what goes on with an interrupted run, where it is not resume=auto
TOLD_WHAT_WAS_TYPED = ("train", "plan", "sweep")  # beside the configuration: a plan keeps to it, trials repeat it
BARE_WORDS = {"info": ["model"], "config": ["action", "name", "destination"]}  # keys that bare words fill in


@dataclass(slots=True)
class Request:
    """A command line, taken apart."""

    verb: str
    overrides: list[str] = field(default_factory=list)
    help: bool = False
    show_config: bool = False
    resolve: bool = False
    multirun: bool = False
    config_dir: str | None = None
    config_name: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: the words after ``finemask``; those of the process by default.

    Returns:
        The exit code.
    """
    # torch then asks Linux for huge pages under large tensors: 5 to 10 % of a training step on a CPU.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's GPU cannot do, the processor does
    if argv is None:  # the process is ours
        gc.disable()  # until all is imported: to look through it for garbage again and again takes a tenth of the time
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        if is_first_process():
            print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return explain(error)
    finally:
        if argv is None and "triton" in sys.modules:  # it complains at exit of what it has made and what is not freed
            gc.unfreeze()
    return code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        from finemask.command_line.help import overview

        print(overview(VERBS, _version()))
        return 0
    if family := _family_asked_for(words):
        from finemask.command_line.help import family_page

        print(family_page(words[0], {name: VERBS[name] for name in family}))
        return 0
    if words[0] in ("--version", "-V"):
        print(f"finemask {_version()}")
        return 0
    request = _read(words)
    if request.help:
        from finemask.command_line.help import verb_page

        print(verb_page(request.verb, _usage(request.verb), search_path(request.config_dir)))
        return 0
    if request.multirun:
        from finemask.command_line.multirun import run_all

        return run_all(request.verb, request.overrides, request.config_dir, request.config_name, _refuse_missing_root)
    from omegaconf import OmegaConf

    from finemask.config.composing import Asked
    from finemask.config.overrides import quoted

    if request.verb == "config" and request.config_dir:
        request.overrides.append(f"config_dir={quoted(request.config_dir)}")
    asked = Asked(request.verb, tuple(request.overrides), request.config_dir, request.config_name)
    cfg = asked.compose(check=not request.show_config or request.resolve)
    if request.show_config:
        print(OmegaConf.to_yaml(cfg, resolve=request.resolve), end="")
        return 0
    _refuse_missing_root(cfg)
    try:
        verb = import_module(module_of(request.verb))
        if not gc.isenabled():
            gc.freeze()  # what is imported stays
            gc.enable()
        code: int = verb.main(cfg, asked) if request.verb in TOLD_WHAT_WAS_TYPED else verb.main(cfg)
    except BrokenPipeError:
        raise
    except Exception as error:
        return explain(error, own_modules(OmegaConf.to_container(cfg, resolve=False)))
    if code == INTERRUPTED and is_first_process():
        print(f"To go on, type: {_starter()}{_again(request)}")
    return code


def _refuse_missing_root(cfg: DictConfig) -> None:
    """Seconds of imports are not waited for to hear of a folder that is not there; ``prepare`` may make it."""
    values = plain(cfg)
    root = values["data"].get("root") if isinstance(values.get("data"), dict) else None
    if isinstance(root, str) and values.get("prepare") is None and not Path(root).is_dir():
        what = "this is a file" if Path(root).exists() else "there is no such folder"
        raise ConfigError(
            what,
            where=f"data.root={root}",
            remedy=f"Give the folder of the dataset, from the root or from here, {Path.cwd()}.",
        )


def _starter() -> str:
    """What stands before a command that several processes run."""
    together = launched()
    if together is None:
        return ""
    if together.by == "srun":
        return f"srun --nodes={together.machines} --ntasks-per-node={together.per_machine} "
    several = f"--nnodes={together.machines} … " if together.machines > 1 else ""
    return f"torchrun {several}--nproc_per_node={together.per_machine} -m "


def _again(request: Request) -> str:
    """The command that goes on with an interrupted run, for the shell."""
    from shlex import join

    flags = {"--config-dir": request.config_dir, "--config-name": request.config_name}
    words = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
    go_on = GO_ON.get(request.verb, "resume=auto")
    words += [override for override in request.overrides if not override.startswith(go_on.partition("=")[0] + "=")]
    return join(["finemask", *request.verb.split(), *words, go_on])


def module_of(verb: str) -> str:
    """Where a verb lives: ``finemask.verbs.data.check`` for ``data check``."""
    return f"finemask.verbs.{verb.replace(' ', '.')}"


def _version() -> str:
    from importlib.metadata import version

    return version("finemask")


def _usage(verb: str) -> str:
    if verb == "config":
        return "finemask config list [GROUP] | show NAME | copy NAME DEST"
    return f"finemask {verb} key=value …"


def _read(words: list[str]) -> Request:
    verb, rest = _split_verb(words)
    request = Request(verb)
    positions = list(BARE_WORDS.get(verb, ()))
    while rest:
        word = rest.pop(0)
        flag, equals, attached = word.partition("=") if word.startswith("--") else (word, "", "")
        if flag in ("--help", "-h"):
            request.help = True
        elif flag in ("--multirun", "-m"):
            request.multirun = True
        elif flag == "--resolve":
            request.resolve = True
        elif flag in ("--cfg", "-c"):
            what = attached if equals else _value_of(flag, rest)
            if what != "job":
                raise ConfigError(f"--cfg {what} is not known", remedy="There is: --cfg job.")
            request.show_config = True
        elif flag in ("--config-dir", "-cd"):
            request.config_dir = attached if equals else _value_of(flag, rest)
        elif flag in ("--config-name", "-cn"):
            request.config_name = attached if equals else _value_of(flag, rest)
        elif word.startswith("-"):
            raise _unknown_flag(verb, word, rest)
        elif positions and "=" not in word and not word.startswith("~"):
            from finemask.config.overrides import quoted

            request.overrides.append(f"{positions.pop(0)}={quoted(word)}")
        else:
            request.overrides.append(word)
    if request.resolve and not request.show_config:
        raise ConfigError("--resolve belongs to --cfg job", remedy=f"Type: finemask {verb} --cfg job --resolve.")
    return request


def _family_asked_for(words: list[str]) -> list[str]:
    """The verbs of a family, where its help was asked for: ``finemask data``, ``finemask data --help``."""
    if words[1:] and words[1] not in ("--help", "-h", "help"):
        return []
    return _family(words[0])


def _family(word: str) -> list[str]:
    return [name for name in VERBS if name.startswith(f"{word} ")]


def _split_verb(words: list[str]) -> tuple[str, list[str]]:
    if words[0] in TASKS and words[1:]:
        return _split_verb(words[1:])
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in VERBS:
            return name, words[count:]
    if family := _family(words[0]):
        typed = " ".join(words[:2])
        hint = did_you_mean(typed, family, "finemask {}")
        raise FinemaskError(
            f"'{typed}' is not a verb", remedy=f"{hint}There is: finemask {', finemask '.join(family)}."
        )
    if words[0] in MISSING_VERBS:
        raise FinemaskError(f"'{words[0]}' is not a verb", remedy=f"{MISSING_VERBS[words[0]]}.")
    other = VERB_SYNONYMS.get(words[0])
    hint = f"Did you mean finemask {other}? " if other else did_you_mean(words[0], VERBS, "finemask {}")
    raise FinemaskError(f"'{words[0]}' is not a verb", remedy=f"{hint}finemask --help lists them.")


def _value_of(flag: str, rest: list[str]) -> str:
    if not rest or rest[0].startswith("-"):
        raise ConfigError(f"{flag} needs a value", remedy="finemask VERB --help lists the flags.")
    return rest.pop(0)


def _unknown_flag(verb: str, word: str, rest: list[str]) -> ConfigError:
    known = ["--help", "--cfg", "--resolve", "--config-dir", "--config-name", "--multirun"]
    flag, equals, value = word.partition("=")
    if not equals and rest and not rest[0].startswith("-") and "=" not in rest[0]:
        value = rest[0]
    if found := translate(verb, flag, value or "true"):
        return ConfigError(f"unknown flag {word}", remedy=f"Keys are written without dashes. {found}")
    if hint := did_you_mean(flag, known):
        return ConfigError(f"unknown flag {word}", remedy=hint.strip())
    example = f"{flag.lstrip('-').replace('-', '_')}={value or '…'}"
    return ConfigError(f"unknown flag {word}", remedy=f"Keys are written without dashes: {example}")
