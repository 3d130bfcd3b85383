"""Reports on episodic meta-trainings: scores of every run, means over seeds, figures."""

import csv
import math
import re

import pytest

from meta_lr.report import read_run, write_report
from meta_lr.report.looks import looks
from meta_lr.report.meta_figures import meta_pictures
from meta_lr.report.meta_runs import find_meta_runs
from meta_lr.report.meta_tables import sections_of, tables_of
from tests.commands import outcome
from tests.meta_runs import write_meta_run
from tests.report_runs import write_run

ES = {"estimator": {"_target_": "meta_lr.bilevel.es.PersistentES", "pairs": 16}}
BACK = {"estimator": {"_target_": "meta_lr.bilevel.windowed.TruncatedBackprop"}}


@pytest.fixture
def folder(tmp_path):
    """Three seeds of one estimator, and a finished and an unfinished one of another."""
    for seed, end in enumerate((-0.2, -0.3, -0.25)):
        write_meta_run(tmp_path / f"es-{seed}", seed=seed, end=end, threads=seed, **ES)
    write_meta_run(tmp_path / "back-0", end=0.1, diverged=2, **BACK)
    write_meta_run(tmp_path / "back-1", seed=1, end=0.1, updates=25, **BACK)
    return tmp_path


def sections(folder):
    return sections_of(find_meta_runs(folder))


def table(section, caption, root):
    """Return a table's rows, each by column."""
    (found,) = (table for table in tables_of(section, root) if table.caption == caption)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_every_run_has_a_row(folder):
    (section,) = sections(folder)
    assert section.title == "Meta-training on digits: 8 held-out problems, a cosine at peak 1.28"
    rows = {row["folder"]: row for row in table(section, "Meta-trainings", folder)}
    names = {row["run"] for row in rows.values()}
    assert names == {"estimator=PersistentES", "estimator=TruncatedBackprop"}, "not the threads"
    assert rows["es-1"] == {
        **{"run": "estimator=PersistentES", "seed": "1", "best held-out": "-0.3000"},
        **{"at update": "30", "last held-out": "-0.2000", "updates": "40", "cost": "4,000"},
        **{"seconds": "20", "diverged": "0", "status": "finished", "folder": "es-1"},
    }
    assert rows["back-0"]["diverged"] == "80"
    unfinished = rows["back-1"]
    assert (unfinished["status"], unfinished["updates"]) == ("unfinished", "25 of 40")
    assert unfinished["best held-out"] == unfinished["last held-out"] == "+0.4000"


def test_means_are_over_the_finished_seeds(folder):
    (section,) = sections(folder)
    es, back = table(section, "Over seeds", folder)
    assert es["best held-out"] == "-0.2500 \u00b1 0.0500" and es["finished"] == "3 of 3"
    assert back["best held-out"] == "+0.1000" and back["finished"] == "1 of 2"


def test_scores_of_different_yardsticks_stand_apart(folder):
    write_meta_run(folder / "long", yardstick="two", **ES, problems={"lengths": [1, 2]})
    titles = [section.title for section in sections(folder)]
    assert [title.partition("(")[2] for title in titles] == [
        "problems.lengths=-)",
        "problems.lengths=[1, 2])",
    ]
    assert [len(section.groups) for section in sections(folder)] == [2, 1]


def test_a_run_that_has_just_begun_has_no_scores(tmp_path):
    path = write_meta_run(tmp_path / "one") / "records.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0] + '{"kind": "upd')
    (row,) = table(*sections(tmp_path), "Meta-trainings", tmp_path)
    assert row["best held-out"] == row["last held-out"] == row["cost"] == "-"
    assert row["updates"] == "0 of 40"
    assert list(meta_pictures(sections(tmp_path)[0].groups, "slug", looks(["digits"]))) == []


def test_the_report_on_disk(folder, tmp_path):
    out = tmp_path / "out"
    report = write_report(folder, out)
    assert report.markdown == (out / "table.md").read_text()
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {
        f"meta-training-1-{what}-{axis}.{kind}"
        for what in ("held-out", "running")
        for axis in ("update", "cost")
        for kind in ("svg", "png")
    }
    page = report.page.read_text()
    assert page.count("<svg") == 4 and "estimator=TruncatedBackprop" in page
    identities = re.findall(r'\bid="([^"]+)"', page)
    assert len(identities) == len(set(identities))
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [float(row["best_score"]) for row in rows if row["folder"] == "es-2"] == [-0.25]
    assert math.isclose(sum(float(row["cost"]) for row in rows), 4 * 4000 + 2500)


def test_a_meta_training_is_no_run(folder):
    with pytest.raises(ValueError, match="record of an episodic meta-training, which holds no si"):
        read_run(folder / "es-0")


def test_runs_of_training_have_a_report_of_their_own(folder, capsys):
    write_run(folder / "train")
    code, _, err = outcome(capsys, "report", str(folder))
    assert code == 2 and "share no table; pass a folder of one kind" in err
    assert not (folder / "report").exists()
    assert outcome(capsys, "report", str(folder / "train"))[0] == 0
    assert outcome(capsys, "report", str(folder / "es-0"))[0] == 0
