"""The report on disk: page, tables and figures of two problems, and of hardly anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from meta_lr.report import write_report
from tests.report_runs import methods, write_run


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
    values = {"learned": [0.90, 0.92, 0.97], "cosine": [0.91, 0.90, 0.93]}
    methods(root / "runs" / "digits", values)
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
    assert html.count("<svg") == 14  # 5 figures, 8 where runs searched, and the profile
    for caption in ("Outcome", "Every run", "Paired differences", "Validation, loss and time"):
        assert html.count(f"<h3>{caption}</h3>") == 2
    assert html.count("<h3>Equal steps and equal cost</h3>") == 1  # runs searched on svhn only
    assert "&lt;cpu&gt; &amp; 0" in html and "<cpu>" not in html
    assert "The runs differ in hardware" in html
    assert "var(--s0)" in html and "#d55e00" in html.split("</style>")[0]
    assert "#d55e00" not in html.split("</style>")[1]  # figures follow the theme


def test_few_seeds_show_every_run_and_claim_nothing(written):
    text = (written / "out" / "table.md").read_text()
    html = (written / "out" / "report.html").read_text()
    for said in (" ".join(text.split()), html):
        assert said.count("No verdict on better or worse: it needs 10 paired seeds") == 4
        for word in ("better", "worse", "significant", "too few"):
            assert said.lower().count(word) == (4 if word in ("better", "worse") else 0)
    for value in ("90.00", "92.00", "97.00", "93.00", "diverged at 30"):
        assert value in text
    assert " p = " not in text and "95 % interval" in text


def test_markdown_tables_line_up(written):
    text = (written / "out" / "table.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 12  # 5 for digits, one more for svhn, where runs searched; the profile
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
    ends = ("rate-step", "loss-step", "score-step", "test", "differences")
    stems = [f"{task}-mlp-sgd-60-{end}" for task in ("digits", "svhn") for end in ends]
    stems += [f"svhn-mlp-sgd-60-{end}" for end in ("rate-cost", "loss-cost", "score-cost")]
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
    for said in ("Paired differences", "Time to target", "coincide"):
        assert said not in text
    assert "Thin: each run" not in (tmp_path / "run" / "report" / "report.html").read_text()
    names = [path.stem for path in (tmp_path / "run" / "report" / "figures").glob("*.svg")]
    assert sorted(name[len("digits-mlp-sgd-60-") :] for name in names) == [
        *("loss-step", "rate-step", "score-step")
    ]


def test_a_run_without_a_single_step_still_gives_a_report(tmp_path):
    path = write_run(tmp_path / "run")
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    report = write_report(tmp_path, tmp_path / "out")
    assert "1 unfinished" in report.markdown and report.page.exists()


def test_the_report_begins_with_who_is_ahead(tmp_path):
    methods(tmp_path / "runs", {"learned": [0.7, 0.8], "cosine": [0.9, 0.85]})
    report = write_report(tmp_path / "runs", tmp_path / "out")
    title, _, first, *_ = report.markdown.splitlines()
    assert title == "## digits, MLP, sgd, 60 steps"
    assert first.startswith("Highest mean test accuracy: cosine 87.50 % (2 seeds); the learned")
    html = report.page.read_text()
    order = ["Highest mean test accuracy", "<svg", "<h3>Outcome</h3>", "<h3>How it was run</h3>"]
    places = [html.index(text) for text in order]
    assert places == sorted(places)


def test_several_problems_begin_with_a_line_for_each(written):
    text = (written / "out" / "table.md").read_text()
    start = " ".join(text[: text.index("**Performance profile**")].split())
    assert start.startswith("## Over all problems - digits, MLP, sgd, 60 steps: Highest mean test")
    assert "- svhn, MLP, sgd, 60 steps: Highest mean test accuracy: cosine 80.00 %" in start
