"""The report, from synthetic records whose numbers are worked out here a second time."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from meta_lr.report import find_runs, read_run, write_report
from meta_lr.report.analysis import analyse
from meta_lr.report.comparison import compare, paired_interval, sign_flip_p
from meta_lr.report.curves import Curve, band, smooth
from meta_lr.report.groups import group_runs
from meta_lr.report.outcomes import ACCURACY, choose_metric, common_limits, outcome
from meta_lr.report.sections import meta_training
from meta_lr.report.spreadsheet import to_csv
from meta_lr.report.targets import profile
from meta_lr.report.wording import caveats, headline, sentences
from meta_lr.report.write import to_text

TOTAL, EVERY = 60, 10


def write_run(
    folder: Path,
    *,
    method: str = "cosine",
    seed: int = 0,
    test: float = 0.9,
    search: float = 0.0,
    diverges_at: int | None = None,
    ends: bool = True,
    accuracy: bool = True,
    **header: object,
) -> Path:
    """Write one run: val accuracy climbs linearly to `test`, every 20 steps costs `search` more."""
    head = {
        **{"kind": "header", "format": 1, "command": "train", "task": "digits", "model": "MLP"},
        **{"optimizer": "sgd", "method": method, "seed": seed, "total_steps": TOTAL},
        **{"config": {"lr": {"peak": 0.1}, "seed": seed}, "commit": "abc", "threads": 1},
        **{"versions": {"torch": "2.14"}, "hardware": "cpu", "checkpoint": None},
        **{"search_cost_before": 0.0, **header},
    }
    rows: list[dict[str, object]] = [head]
    status, steps, costs = "finished", TOTAL, {"cost": 0.0, "search_cost": 0.0}
    for step in range(TOTAL):
        searched = search if step % 20 == 0 else 0.0
        costs = {
            "cost": costs["cost"] + 1 + searched,
            "search_cost": costs["search_cost"] + searched,
        }
        loss: float | str = "nan" if step == diverges_at else 2.0 / (1 + step)
        rows.append({"kind": "step", "step": step, "loss": loss, "lr": 0.1, **costs, "seconds": 1})
        if loss == "nan":
            status, steps = f"diverged at step {step}", step
            break
        if (step + 1) % EVERY == 0:
            values = {"loss": 2.0 / (1 + step)}
            if accuracy:
                values["accuracy"] = test * (step + 1) / TOTAL
            rows.append({"kind": "eval", "step": step + 1, "split": "val", "weights": "current"})
            rows[-1].update({**values, **costs})
    if status == "finished":
        for weights, value in (("last", test), ("best", test + 0.01)):
            values = {"loss": 1 - test, **({"accuracy": value} if accuracy else {})}
            rows.append(
                {"kind": "eval", "step": TOTAL, "split": "test", "weights": weights, **values}
            )
    if ends:
        rows.append({"kind": "end", "status": status, "steps": steps, **costs, "seconds": 2.5})
    folder.mkdir(parents=True)
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def only(folder: Path, **options):
    (problem,) = group_runs(find_runs(folder))
    return analyse(problem, **{"reference": None, "target": None, **options})


def cells(folder: Path) -> dict[str, dict[str, str]]:
    return {row["method"]: row for row in csv.DictReader(io.StringIO(to_csv([only(folder)])))}


def two_methods(folder: Path, learned: list[float], cosine: list[float], **header: object) -> Path:
    for seed, value in enumerate(learned):
        extra = {"checkpoint": "f00d", **header}
        write_run(folder / f"a{seed}", method="learned", seed=seed, test=value, **extra)
    for seed, value in enumerate(cosine):
        write_run(folder / f"b{seed}", method="cosine", seed=seed, test=value)
    return folder


def test_a_run_reads_back_what_was_written(tmp_path):
    write_run(tmp_path / "run", search=3.0, search_cost_before=7.0, meta_training_cost=None)
    run = read_run(tmp_path / "run")
    assert run.finished and not run.diverged and run.num_steps == TOTAL and run.seconds == 2.5
    np.testing.assert_array_equal(run.steps.step, np.arange(TOTAL))
    np.testing.assert_allclose(run.steps.cost - run.steps.search_cost, 1 + np.arange(TOTAL))
    assert (run.cost, run.search_cost) == (TOTAL + 9.0, 9.0)
    assert run.header.search_cost_before == 7.0 and math.isnan(run.header.meta_training_cost)
    assert [e.accuracy for e in run.evaluations if e.split == "test"] == [0.9, 0.91]


@pytest.mark.parametrize("text, value", [("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf)])
def test_numbers_written_as_strings_read_back(tmp_path, text, value):
    path = write_run(tmp_path / "run")
    path.write_text(path.read_text().replace('"loss": 2.0,', f'"loss": "{text}",'))
    np.testing.assert_equal(read_run(tmp_path / "run").steps.loss[0], value)


def test_a_cut_last_line_is_left_out_wherever_it_is_cut(tmp_path):
    path = write_run(tmp_path / "run", ends=False)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for length in range(1, len(lines[-1]) - 1):
        path.write_bytes(whole[: len(whole) - length])
        run = read_run(tmp_path / "run")
        complete = length == 1  # only the newline is missing
        assert len(run.evaluations) == (8 if complete else 7)
        assert run.status == "unfinished" and run.num_steps == TOTAL


def test_a_run_that_has_just_begun_is_passed_over(tmp_path):
    write_run(tmp_path / "done")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "records.jsonl").write_text('{"kind": "hea')
    assert [run.folder.name for run in find_runs(tmp_path)] == ["done"]
    with pytest.raises(ValueError, match="wrote nothing"):
        read_run(tmp_path / "begun")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"format": 1', '"format": 2', "format 2, this version reads up to 1; install a newer"),
        ('"task": "digits", ', "", "lacks 'task'"),
        ('"kind": "header"', '"kind": "step"', "first must be a header"),
        ('"step": 0,', '"step": 0', "line 2 is damaged"),
    ],
)
def test_a_record_that_cannot_be_read_says_which_and_why(tmp_path, old, new, message):
    path = write_run(tmp_path / "run")
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        find_runs(tmp_path)
    assert str(path) in str(caught.value)


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no records\.jsonl"):
        find_runs(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        find_runs(tmp_path / "nowhere")


def test_groups_follow_the_header_not_the_folders(tmp_path):
    for seed in (0, 1):
        for hidden in (20, 100):
            write_run(
                tmp_path / f"{hidden + seed:x}",
                method="learned",
                seed=seed,
                checkpoint="f00d",
                config={"net": {"hidden": hidden}, "seed": seed, "logger": {"id": seed * hidden}},
            )
        write_run(tmp_path / f"zz/{seed}", method="cosine", seed=seed)
        write_run(tmp_path / f"other{seed}", method="cosine", seed=seed, task="svhn")
    digits, svhn = group_runs(find_runs(tmp_path))
    assert (digits.title, svhn.task) == ("digits, MLP, sgd, 60 steps", "svhn")
    labels = ["learned (net.hidden=20)", "learned (net.hidden=100)", "cosine"]
    assert [group.label for group in digits.groups] == labels
    assert [[run.header.seed for run in group.runs] for group in digits.groups] == [[0, 1]] * 3


def test_labels_show_no_more_settings_than_needed(tmp_path):
    for name, peak, derived in (("a", 0.1, 1), ("b", 0.3, 3), ("c", 0.5, 5)):
        config = {"lr": {"peak": peak}, "z": {"derived": derived}, "same": [1, 2]}
        write_run(tmp_path / name, config=config)
    (problem,) = group_runs(find_runs(tmp_path))
    assert [g.label for g in problem.groups] == [f"cosine (lr.peak={p})" for p in (0.1, 0.3, 0.5)]


def test_a_repeated_seed_counts_once_and_the_finished_run_wins(tmp_path):
    write_run(tmp_path / "a", ends=False, test=0.5)
    write_run(tmp_path / "b", test=0.8)
    analysis = only(tmp_path)
    assert analysis.methods[0].values("test_last") == [0.8]
    assert any("1 run left out" in text for text in caveats(analysis))


def test_the_interval_is_scipys():
    x = np.array([0.91, 0.93, 0.90, 0.95, 0.92])
    y = np.array([0.90, 0.91, 0.91, 0.92, 0.90])
    expected = stats.ttest_rel(x, y).confidence_interval(0.95)
    np.testing.assert_allclose(paired_interval(list(x - y)), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_exact_p_is_scipys(seed):
    d = np.random.default_rng(seed).normal(0.5, 1.0, 11)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(list(d)) == pytest.approx(expected.pvalue, abs=1e-12)


def test_the_sampled_p_is_near_the_t_tests():
    d = np.random.default_rng(2).normal(0.3, 1.0, 40)
    assert sign_flip_p(list(d)) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)


@pytest.mark.parametrize(
    "n, shift, higher, verdict, has_p",
    [
        (3, 0.5, True, "too few seeds for a verdict", False),
        (9, 0.5, True, "too few seeds for a verdict", False),
        (10, 0.5, True, "better", True),
        (10, -0.5, True, "worse", True),
        (10, -0.5, False, "better", True),
        (10, 0.0, True, "no difference found", True),
    ],
)
def test_the_verdict_needs_ten_seeds_and_an_interval_off_zero(n, shift, higher, verdict, has_p):
    noise = np.linspace(-0.1, 0.1, n)
    a = {seed: 0.4 + shift + float(x) for seed, x in enumerate(noise)}
    b = dict.fromkeys(range(n), 0.4)
    comparison = compare(("a", a), ("b", b), higher_is_better=higher)
    assert comparison.verdict == verdict and (comparison.p is not None) == has_p
    assert comparison.mean == pytest.approx(shift, abs=1e-12)


def test_only_seeds_that_both_ran_are_paired():
    comparison = compare(
        ("a", {0: 1.0, 1: 2.0, 5: 9.0}), ("b", {1: 1.5, 0: 0.0, 7: 1.0}), higher_is_better=True
    )
    assert dict(comparison.differences) == {0: 1.0, 1: 0.5}


def test_an_infinite_loss_gives_no_interval_and_no_verdict():
    a = dict.fromkeys(range(12), 0.1)
    b = {**dict.fromkeys(range(12), 0.2), 3: math.inf}
    comparison = compare(("a", a), ("b", b), higher_is_better=False)
    assert comparison.verdict == "no interval" and comparison.p is None
    both = compare(("a", {0: math.inf}), ("b", {0: math.inf}), higher_is_better=False)
    assert both.mean == 0.0


def test_the_csv_holds_the_numbers_of_the_runs(tmp_path):
    learned, cosine = [0.90, 0.92, 0.97], [0.91, 0.90, 0.93]
    rows = cells(two_methods(tmp_path, learned, cosine, search_cost_before=40.0))
    for name, values in (("learned", learned), ("cosine", cosine)):
        row = rows[name]
        assert float(row["test_last_mean"]) == pytest.approx(np.mean(values))
        assert float(row["test_last_sd"]) == pytest.approx(np.std(values, ddof=1))
        assert float(row["test_best_mean"]) == pytest.approx(np.mean(values) + 0.01)
        assert float(row["val_mean"]) == pytest.approx(np.mean(values))
        assert float(row["test_loss_mean"]) == pytest.approx(1 - np.mean(values))
        by_seed = dict(pair.split(":") for pair in row["test_last_by_seed"].split())
        assert [float(by_seed[str(seed)]) for seed in range(3)] == values
    assert [rows[name]["tuning_cost_mean"] for name in ("learned", "cosine")] == ["40.0", "0.0"]
    compared = rows["learned"]
    interval = stats.ttest_rel(learned, cosine).confidence_interval()
    assert compared["reference"] == "cosine" and compared["p"] == ""
    assert float(compared["difference"]) == pytest.approx(np.mean(learned) - np.mean(cosine))
    assert float(compared["low"]) == pytest.approx(interval.low)
    assert float(compared["high"]) == pytest.approx(interval.high)


def test_equal_cost_and_equal_steps_differ_where_a_run_searched(tmp_path):
    write_run(tmp_path / "a", method="cosine", test=0.9)
    write_run(tmp_path / "b", method="autolr", test=0.9, search=5.0)
    analysis = only(tmp_path)
    assert (analysis.limits.steps, analysis.limits.cost) == (60, 60.0)
    searched, plain = (method.outcomes[0] for method in analysis.methods)
    assert (plain.val_at_steps, plain.val_at_cost, plain.test_at_cost) == (0.9, 0.9, 0.9)
    assert searched.val_at_steps == 0.9 and searched.test_at_steps == 0.9
    # cost after 40 steps is 40 + 2 * 5, after 50 steps 50 + 3 * 5 > 60
    assert searched.val_at_cost == pytest.approx(0.9 * 40 / 60)
    assert math.isnan(searched.test_at_cost)
    assert (searched.cost, searched.search_cost) == (75.0, 15.0)


def test_a_diverged_run_is_the_worst_everywhere(tmp_path):
    write_run(tmp_path / "a", method="cosine", seed=0, test=0.9)
    write_run(tmp_path / "b", method="cosine", seed=1, test=0.8)
    write_run(tmp_path / "c", method="onecycle", seed=0, test=0.99, diverges_at=55)
    write_run(tmp_path / "d", method="onecycle", seed=1, test=0.9)
    analysis = only(tmp_path, target=0.5)
    cosine, onecycle = analysis.methods
    bad = onecycle.outcomes[0]
    assert (bad.test_last, bad.test_best, bad.val, bad.val_at_cost) == (0.0, 0.0, 0.0, 0.0)
    assert bad.test_loss == math.inf and (bad.num_steps, bad.cost) == (55, 56.0)
    assert onecycle.cost_to_target[0] == math.inf and math.isfinite(onecycle.cost_to_target[1])
    assert dict(analysis.comparisons[0].differences) == pytest.approx({0: -0.9, 1: 0.1})
    assert (onecycle.count("diverged"), cosine.count("diverged")) == (1, 0)
    assert analysis.limits.steps == TOTAL  # a diverged run does not shorten the others
    assert any("1 run diverged" in text for text in caveats(analysis))


def test_an_unfinished_run_is_in_no_mean(tmp_path):
    write_run(tmp_path / "a", seed=0, test=0.9)
    path = write_run(tmp_path / "b", seed=1, test=0.3, ends=False)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:30]))
    analysis = only(tmp_path)
    (method,) = analysis.methods
    assert method.values("val") == [0.9] and analysis.limits.steps == TOTAL
    assert method.count("unfinished") == 1
    assert any("1 run not finished" in text for text in caveats(analysis))


def test_time_to_target_is_the_baselines_unless_given(tmp_path):
    write_run(tmp_path / "a", method="constant", test=0.6)
    write_run(tmp_path / "b", method="autolr", test=0.9, search=5.0)
    autolr, constant = only(tmp_path).methods
    assert constant.steps_to_target == {0: 60.0} and autolr.steps_to_target == {0: 40.0}
    assert autolr.cost_to_target == {0: 50.0}
    assert only(tmp_path).baseline == "constant"
    autolr, constant = only(tmp_path, target=0.7).methods
    assert constant.steps_to_target == {0: math.inf} and autolr.steps_to_target == {0: 50.0}


def test_profiles_follow_dolan_and_more():
    problems = [
        {"a": {0: 10.0, 1: 10.0}, "b": {0: 20.0, 1: 5.0}},
        {"a": {0: 30.0}, "b": {0: math.inf}, "c": {0: 1.0}},  # c ran on one problem only
        {"a": {0: math.inf}, "b": {0: math.inf}},
    ]
    found = profile(problems)
    assert found is not None and found.num_pairs == 4
    assert [found.share_within("a", ratio) for ratio in (1, 1.5, 2, 4)] == [0.5, 0.5, 0.75, 0.75]
    assert [found.share_within("b", ratio) for ratio in (1, 1.5, 2, 4)] == [0.25, 0.25, 0.5, 0.5]
    assert profile(problems[:1]) is None


def test_meta_training_is_stated_in_runs(tmp_path):
    two_methods(tmp_path / "known", [0.9] * 2, [0.9] * 2, meta_training_cost=600.0)
    analysis = only(tmp_path / "known")
    assert meta_training(analysis.methods[0]) == ("600", "10.0")
    assert any("as much as 10.0 of these runs" in text for text in sentences(analysis))
    two_methods(tmp_path / "unknown", [0.9] * 2, [0.9] * 2)
    assert any("not in its records" in text for text in sentences(only(tmp_path / "unknown")))


def test_a_task_without_accuracy_is_compared_by_loss(tmp_path):
    write_run(tmp_path / "a", method="cosine", test=0.9, accuracy=False)
    write_run(tmp_path / "b", method="constant", test=0.8, accuracy=False)
    analysis = only(tmp_path)
    assert analysis.metric.name == "loss"
    assert analysis.comparisons[0].mean == pytest.approx(-0.1)
    text = to_text([analysis], None)
    assert "test loss, last" in text and "accuracy" not in text


def test_every_other_method_is_compared_with_the_reference(tmp_path):
    for method in ("cosine", "constant", "onecycle"):
        write_run(tmp_path / method, method=method)
    pairs = [(c.method, c.reference) for c in only(tmp_path).comparisons]
    assert pairs == [("cosine", "constant"), ("onecycle", "constant")]
    pairs = [(c.method, c.reference) for c in only(tmp_path, reference="cosine").comparisons]
    assert pairs == [("constant", "cosine"), ("onecycle", "cosine")]
    with pytest.raises(ValueError, match="no method is called 'cosin'; pass one of: constant, cos"):
        write_report(tmp_path, tmp_path / "out", reference="cosin")


def test_common_limits_are_those_of_finished_runs(tmp_path):
    write_run(tmp_path / "a", diverges_at=5)
    write_run(tmp_path / "b", seed=1, search=2.0)
    runs = find_runs(tmp_path)
    limits = common_limits(runs)
    assert (limits.steps, limits.cost) == (60, 66.0) and choose_metric(runs) is ACCURACY
    assert outcome(runs[1], ACCURACY, limits).test_at_cost == 0.9


def test_smoothing_is_a_trailing_mean_that_ends_at_the_first_bad_value():
    values = np.random.default_rng(0).normal(size=200)  # a window of 4
    expected = [values[max(0, i - 3) : i + 1].mean() for i in range(200)]
    np.testing.assert_allclose(smooth(values), expected, atol=1e-12)
    values[150] = np.nan
    assert np.isfinite(smooth(values)[:150]).all() and np.isnan(smooth(values)[150:]).all()


def test_the_band_is_the_mean_and_spread_as_far_as_all_runs_go():
    x = np.arange(5.0)
    long = Curve(np.arange(9.0), 2 * np.arange(9.0), diverged=False)
    found = band([Curve(x, x, diverged=False), long])
    assert found is not None
    np.testing.assert_allclose(found.x, x)
    np.testing.assert_allclose(found.mean, 1.5 * x)
    np.testing.assert_allclose(found.spread, x / math.sqrt(2))


class Page(HTMLParser):
    """Collects what a browser would fetch, the ids, and the links within the page."""

    def __init__(self, text: str):
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.inner: list[str] = re.findall(r"url\(#([^)]+)\)", text)
        self.fetched += [url for url in re.findall(r"url\(([^)]*)\)", text) if url[:1] != "#"]
        self.fetched += re.findall(r"@import[^;]*", text)
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "srcset", "href", "xlink:href", "data", "action", "poster"}:
                (self.inner if value[:1] == "#" else self.fetched).append(value.lstrip("#"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the folder of a report on two problems, few seeds, a search and a divergence."""
    root = tmp_path_factory.mktemp("report")
    two_methods(root / "runs" / "digits", [0.90, 0.92, 0.97], [0.91, 0.90, 0.93])
    for seed in range(3):
        folder = root / "runs" / "svhn"
        more = {"seed": seed, "task": "svhn", "hardware": f"<cpu> & {seed}"}
        write_run(folder / f"c{seed}", method="cosine", test=0.8, **more)
        diverges_at = 30 if seed == 2 else None
        write_run(
            folder / f"l{seed}",
            **{"method": "learned", "checkpoint": "f00d", "search": 4.0, "test": 0.7, **more},
            diverges_at=diverges_at,
        )
    report = write_report(root / "runs", root / "out")
    assert report.page == root / "out" / "report.html"
    assert report.markdown == (root / "out" / "table.md").read_text()
    return root


def test_the_page_needs_nothing_but_itself(written):
    page = Page((written / "out" / "report.html").read_text())
    assert page.fetched == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.inner) <= set(page.ids) and len(page.inner) > 10


def test_the_page_says_what_the_tables_say_and_escapes_it(written):
    html = (written / "out" / "report.html").read_text()
    assert html.count("<svg") == 17  # 8 figures for each problem and the profile
    for caption in ("Equal steps and equal cost", "Every run", "Paired differences", "Cost"):
        assert html.count(f"<h3>{caption}</h3>") == 2
    assert "&lt;cpu&gt; &amp; 0" in html and "<cpu>" not in html
    assert "The runs differ in hardware" in html
    assert "var(--s0)" in html and "#d55e00" in html.split("</style>")[0]
    assert "#d55e00" not in html.split("</style>")[1]  # figures follow the theme


def test_few_seeds_show_every_run_and_claim_nothing(written):
    text = (written / "out" / "table.md").read_text()
    html = (written / "out" / "report.html").read_text()
    for word in ("better", "worse", "significant"):
        assert word not in text.lower() and word not in html.lower()
    assert "No verdict: a comparison rests on at most 3 paired seeds" in text
    for value in ("90.00", "92.00", "97.00", "93.00", "diverged at 30"):
        assert value in text
    assert " p = " not in text and "95 % interval" in text


def test_ten_seeds_allow_a_verdict_that_names_its_test(tmp_path):
    noise = np.linspace(-0.01, 0.01, 10)
    values = [0.9 + float(x) for x in noise]
    others = [0.85 - float(x) for x in noise]
    analysis = only(two_methods(tmp_path, values, others))
    assert headline(analysis) == "learned: better than cosine."
    said = sentences(analysis)[0]
    assert said.startswith(
        "+5.00 points of test accuracy for learned against cosine (95 % interval"
    )
    assert said.endswith("10 paired seeds, sign-flip test p = 0.00195): better.")
    assert not analysis.few


def test_markdown_tables_line_up(written):
    text = (written / "out" / "table.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 13  # 6 for each problem and the profile
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1


def test_a_second_report_has_the_same_bytes(written):
    again = write_report(written / "runs" / "svhn", written / "again")
    assert again.markdown in (written / "out" / "table.md").read_text()
    rows = (written / "out" / "table.csv").read_bytes().splitlines()
    assert set((written / "again" / "table.csv").read_bytes().splitlines()) < set(rows)
    for path in (written / "again" / "figures").iterdir():
        assert path.read_bytes() == (written / "out" / "figures" / path.name).read_bytes(), path


def test_figures_come_as_svg_and_png_and_nothing_half_written_stays(written):
    names = sorted(path.name for path in (written / "out" / "figures").iterdir())
    ends = ("rate-step", "rate-cost", "loss-step", "loss-cost", "score-step", "score-cost")
    stems = [f"{task}-mlp-sgd-60-{end}" for task in ("digits", "svhn") for end in ends]
    stems += [f"{t}-mlp-sgd-60-{e}" for t in ("digits", "svhn") for e in ("test", "differences")]
    assert names == sorted(
        f"{s}.{suffix}" for s in [*stems, "profile"] for suffix in ("png", "svg")
    )
    assert {p.name for p in (written / "out").iterdir()} == {
        *("report.html", "table.md", "table.csv", "figures")
    }


def test_one_run_gives_a_sensible_report(tmp_path):
    write_run(tmp_path / "run", test=0.875)
    text = write_report(tmp_path / "run", tmp_path / "run" / "report").markdown
    assert "1 run of cosine: test accuracy 87.50 %. Nothing to compare with." in text
    assert "Paired differences" not in text and "Time to target" not in text


def test_a_run_without_a_single_step_still_gives_a_report(tmp_path):
    path = write_run(tmp_path / "run")
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    report = write_report(tmp_path, tmp_path / "out")
    assert "1 unfinished" in report.markdown and report.page.exists()
