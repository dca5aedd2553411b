"""What a search came to: the best trial, whether it can be told from the settings as they are; what is written."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from finemask.config import search_path
from finemask.config.config_files import groups
from finemask.evaluation.evaluator import resolved_cap
from finemask.evaluation.ground_truth import GroundTruth, load_ground_truth
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import check_results, read_results
from finemask.evaluation.uncertainty.model_comparison import compare, difference_text, p_text
from finemask.evaluation.uncertainty.resampling import chosen_p_value
from finemask.ops.files.atomic_files import write_json, write_text
from finemask.ops.files.documents import read_json
from finemask.ops.wording import plural
from finemask.reports.search_page import search_page
from finemask.workflows.several_runs.search_settings import Search
from finemask.workflows.several_runs.search_space import joined_words, short_words
from finemask.workflows.several_runs.trial_study import TrialRow, fewest_to_weigh

RESULT, PAGE, BEST = "search.json", "index.html", "experiment/best.yaml"
_TOLD = 0.05


def write_search(search: Search, title: str, config_dir: str | Path | None = None) -> tuple[dict[str, Any], list[Path]]:
    """Writes ``search.json``, a page, and the best trial as an experiment.

    Args:
        search: that has ended.
        title: of the page.
        config_dir: folder of YAML files of a person's own, which may hold groups.

    Returns:
        The content of ``search.json``, and the paths.
    """
    content = _content(search)
    paths = [search.folder / RESULT, search.folder / PAGE]
    write_json(paths[0], content)
    write_text(paths[1], search_page(content, title=title))
    if search.best is not None and not search.best.is_default:
        paths.append(search.folder / BEST)
        paths[-1].parent.mkdir(exist_ok=True)
        write_text(paths[-1], experiment_text(search, search.best, groups(search_path(config_dir))))
    return content, paths


def _content(search: Search) -> dict[str, Any]:
    best, default = search.best, search.default
    content: dict[str, Any] = {
        "metric": "_".join(search.metric),
        "words": list(search.words),
        "space": [
            {"key": d.key, "choices": list(d.choices), "low": d.low, "high": d.high, "log": d.log} for d in search.space
        ],
        "trials": [_row(search, row) for row in search.rows if row.state != "waiting"],
        "importances": dict(search.importances),
        "importances_from": fewest_to_weigh(len(search.space)),
        "best": None if best is None else best.number,
        "default": None if default is None else default.number,
        "versus_default": None,
        "confirmed": None,
    }
    if best is not None and default is not None and best.number != default.number:
        truth = load_ground_truth(search.data_val)
        found = _compared(search, truth, [search.folder / default.run], [search.folder / best.run])
        rivals = sum(row.state == "complete" for row in search.rows) - 1
        content["versus_default"] = found | {"rivals": rivals}
        if found["interval"] is not None:
            p_value = chosen_p_value(found["difference"], found["smallest_detectable"], len(truth.images), rivals)
            content["versus_default"]["p_value_of_the_best"] = p_value
        if search.confirmed:
            sides = [search.confirmed[name] for name in ("default", "best")]
            content["confirmed"] = _compared(search, truth, *sides) | {"seeds": len(sides[0])}
    content["text"] = _text(search, content)
    return content


def _row(search: Search, row: TrialRow) -> dict[str, Any]:
    interval = None
    if row.run and (metrics := search.folder / row.run / "metrics.json").is_file():
        of_kind = read_json(metrics, "the metrics of a run").get("confidence_interval", {}).get(search.metric[0], {})
        interval = of_kind.get(search.metric[1])
    return {
        "number": row.number,
        "state": row.state,
        "score": row.score,
        "interval": interval,
        "values": dict(row.values),
        "words": search.words_of(row),
        "seconds": row.seconds,
        "run": row.run,
        "is_default": row.is_default,
        "why": row.why,
    }


def _compared(search: Search, truth: GroundTruth, a: Sequence[Path], b: Sequence[Path]) -> dict[str, Any]:
    """The difference b - a of the metric, each side of one training or more."""
    kind, key = search.metric
    iou_types = ("bbox", "segm") if kind == "segm" else ("bbox",)
    cap = resolved_cap("auto", truth)
    sides = [
        [
            ResultTable(truth, check_results(read_results(file), truth, iou_types, file))
            for file in (run / "predictions.json" for run in runs)
        ]
        for runs in (a, b)
    ]
    row: Mapping[str, Any] | None = compare(truth, sides[0], sides[1], (kind,), cap).content[kind][key]
    return dict(row) if row else {"a": None, "b": None, "difference": None, "interval": None, "verdict": ""}


def _text(search: Search, content: Mapping[str, Any]) -> str:
    """The finding in a few sentences."""
    best, default = search.best, search.default
    name = " ".join(search.metric).replace("segm", "mask").replace("bbox", "box")
    complete = sum(row.state == "complete" for row in search.rows)
    if best is None:
        return "No trial ran to its end."
    ends = next(row["interval"] for row in content["trials"] if row["number"] == best.number)
    within = "" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})"
    text = (
        f"The best of {complete} trials that ran to their end is trial {best.number}: {name} {best.score:.3f}{within}"
    )
    if default is None:
        return f"{text}. The settings as they are did not run to their end."
    if best.number == default.number:
        return f"{text}, and that is the settings as they are."
    text += f", with {short_words(search.words_of(best))}."
    versus = content["versus_default"]
    if versus["interval"] is None:
        text += f" The settings as they are come to {default.score:.3f}; too few images hold objects to compare."
        if (again := content["confirmed"]) is not None and again["difference"] is not None:
            text += f" Trained anew with {_seeds(again)}: {again['b']:.3f}, and {again['a']:.3f} as they are."
        return text
    p_value = versus["p_value_of_the_best"]
    text += f" Against the settings as they are: {difference_text(versus)}"
    text += f", p {p_text(p_value) if p_value < 0.001 else f'= {p_value:.3f}'} for the best of {versus['rivals']}: "
    text += "better." if p_value < _TOLD and versus["difference"] > 0 else "it cannot be told from them."
    if (confirmed := content["confirmed"]) is not None and confirmed["interval"] is not None:
        shown = confirmed["interval"][0] > 0
        text += f" Trained anew with {_seeds(confirmed)}: {difference_text(confirmed)}: "
        text += "better." if shown else "it cannot be told from them."
    elif confirmed is None:
        text += " Each was trained once; what another seed would change is not in these numbers: confirm=3 tells."
    return text


def _seeds(confirmed: Mapping[str, Any]) -> str:
    return f"{plural(confirmed['seeds'], 'other seed')} each"


def experiment_text(search: Search, row: TrialRow, known_groups: Sequence[str]) -> str:
    """A trial's values as an experiment: ``finemask train --config-dir FOLDER experiment=best …``."""
    lines = [
        "# @package _global_",
        f"# Trial {row.number} of a search: {'_'.join(search.metric)} {row.score or 0.0:.4f}.",
        f"# {shlex.join(['finemask', 'train', *joined_words(search.words, search.words_of(row))])}",
    ]
    chosen = {key: value for key, value in row.values.items() if key.replace(".", "/") in known_groups}
    if chosen:
        lines += ["defaults:", *(f"  - override /{key.replace('.', '/')}: {value}" for key, value in chosen.items())]
    nested: dict[str, Any] = {}
    for key, value in row.values.items():
        if key not in chosen:
            *sections, last = key.split(".")
            node = nested
            for section in sections:
                node = node.setdefault(section, {})
            node[last] = value
    return "\n".join(lines) + "\n\n" + (yaml.safe_dump(nested, sort_keys=False) if nested else "")
