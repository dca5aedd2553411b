"""Which file is meant where a run is named, with links and without."""

import pytest

from finemask.ops.files.run_folders import find_in_run, newest_run, runs_of

FIRST, SECOND, TENTH = "2026-01-02_03-04-05", "2026-01-02_03-04-05_2", "2026-01-02_03-04-05_10"
NEWEST = "2026-02-01_00-00-00"


@pytest.fixture
def of_name(tmp_path):
    """Four runs, of which the newest has no model."""
    folder = tmp_path / "cells"
    for name in (TENTH, FIRST, SECOND, NEWEST):
        (folder / name).mkdir(parents=True)
    for name in (FIRST, SECOND, TENTH):
        (folder / name / "model.safetensors").touch()
    (folder / "notes").mkdir()
    (folder / "2026-03-01_00-00-00").touch()  # a file
    return folder


def test_runs_are_listed_from_the_newest_on(of_name):
    assert [path.name for path in runs_of(of_name)] == [NEWEST, TENTH, SECOND, FIRST]
    assert runs_of(of_name / "nowhere") == []


def test_the_newest_run_that_has_the_file_is_meant(of_name, caplog):
    expected = of_name / TENTH / "model.safetensors"
    assert newest_run(of_name, "model.safetensors") == of_name / TENTH
    assert find_in_run(of_name, "model.safetensors") == expected
    assert NEWEST in caplog.text  # it is said that this one was passed over


@pytest.mark.parametrize("typed", ["latest", "latest/", "latest/model.safetensors"])
@pytest.mark.parametrize("latest", ["missing", "dangling", "file"])
def test_latest_is_found_where_it_could_not_be_made(of_name, typed, latest):
    if latest == "dangling":
        (of_name / "latest").symlink_to("2025-01-01_00-00-00")
    elif latest == "file":  # what Git makes of a link on Windows
        (of_name / "latest").write_text(FIRST)
    assert find_in_run(f"{of_name}/{typed}", "model.safetensors") == of_name / TENTH / "model.safetensors"


def test_a_link_is_followed(of_name):
    (of_name / "latest").symlink_to(FIRST)
    assert find_in_run(of_name / "latest", "model.safetensors") == of_name / "latest" / "model.safetensors"
    path = of_name / "latest" / "model.safetensors"
    assert find_in_run(path, "model.safetensors") == path


def test_relative_paths_too(of_name, monkeypatch):
    monkeypatch.chdir(of_name)
    for typed in (".", "latest", "latest/model.safetensors"):
        found = find_in_run(typed, "model.safetensors")
        assert found.resolve() == of_name / TENTH / "model.safetensors"


@pytest.mark.parametrize("typed", ["cells/notes", "nowhere", "nowhere/latest", "cells/latest/report.html", "my.ckpt"])
def test_what_leads_nowhere_stays_as_it_was_typed(of_name, typed):
    path = of_name.parent / typed
    assert find_in_run(path, "model.safetensors") == path
