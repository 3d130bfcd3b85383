"""The report's sentences: who is ahead, at what price, and what nobody may conclude."""

from __future__ import annotations

import numpy as np
import pytest

from meta_lr.report.caveats import caveats
from meta_lr.report.wording import headline, sentences
from tests.report_runs import methods, only, write_run

NO_VERDICT = "No verdict on better or worse: it needs 10 paired seeds, and no pair has "


def test_the_first_sentence_ranks_prices_and_claims_nothing(tmp_path):
    values = {"learned": [0.7, 0.8], "cosine": [0.9, 0.85], "constant": [0.8, 0.82]}
    methods(tmp_path, values, meta_training_cost=600.0)
    assert headline(only(tmp_path)) == (
        "Highest mean test accuracy: cosine 87.50 % (2 seeds); the learned schedule: 75.00 % "
        "(2 seeds), rank 3 of 3; its meta-training cost 600 plain steps on top. "
        f"{NO_VERDICT}more than 2."
    )


def test_a_mean_says_how_many_of_its_runs_diverged(tmp_path):
    methods(tmp_path, {"learned": [0.7, 0.8], "cosine": [0.9, 0.85]})
    write_run(tmp_path / "bad", method="learned", seed=2, checkpoint="f00d", diverges_at=5)
    assert "the learned schedule: 50.00 % (3 seeds, 1 diverged), rank 2" in headline(only(tmp_path))


def test_a_learned_schedule_that_leads_is_priced_too(tmp_path):
    methods(tmp_path, {"learned": [0.9], "cosine": [0.8], "constant": [0.7]})
    assert headline(only(tmp_path)) == (
        "Highest mean test accuracy: the learned schedule 90.00 % (1 seed); what its meta-training "
        "cost is not recorded; next cosine: 80.00 % (1 seed). "
        f"{NO_VERDICT}more than 1."
    )


def test_several_learned_schedules_go_by_their_labels(tmp_path):
    for hidden, value in ((20, 0.5), (50, 0.9)):
        config = {"net": {"hidden": hidden}}
        extra = {"checkpoint": "f00d", "meta_training_cost": 10.0 * hidden, "config": config}
        write_run(tmp_path / f"{hidden}", method="learned", test=value, **extra)
    write_run(tmp_path / "cosine", test=0.7)
    assert headline(only(tmp_path)).startswith(
        "Highest mean test accuracy: learned (net.hidden=50) 90.00 % (1 seed); "
        "learned (net.hidden=50)'s meta-training cost 500 plain steps on top; "
        "learned (net.hidden=20): 50.00 % (1 seed), rank 3 of 3; "
    )


def test_equal_means_lead_together_and_without_a_learned_one_the_next_follows(tmp_path):
    methods(tmp_path, {"constant": [0.9], "cosine": [0.9], "one_cycle": [0.6]})
    assert headline(only(tmp_path)).startswith(
        "Highest mean test accuracy: constant and cosine 90.00 % (1 seed); "
        "next one_cycle: 60.00 % (1 seed). "
    )


def test_the_lowest_loss_leads(tmp_path):
    for method, value in (("cosine", 0.9), ("constant", 0.75)):
        write_run(tmp_path / method, method=method, test=value, accuracy=False)
    assert headline(only(tmp_path)).startswith(
        "Lowest mean test loss: cosine 0.1 (1 seed); next constant: 0.25 (1 seed). "
    )


def test_runs_that_share_no_seed_or_have_not_ended_are_said_to(tmp_path):
    write_run(tmp_path / "a", method="cosine", seed=0)
    write_run(tmp_path / "b", method="constant", seed=1)
    assert headline(only(tmp_path)).endswith(f"{NO_VERDICT}any.")
    assert any("do not rest on the same seeds" in text for text in caveats(only(tmp_path)))
    for name in ("cosine", "constant"):
        path = write_run(tmp_path / "new" / name, method=name, ends=False)
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:30]))
    assert headline(only(tmp_path / "new")).startswith("No run has ended yet. ")


def test_ten_seeds_allow_a_verdict_that_names_its_test(tmp_path):
    noise = np.linspace(-0.01, 0.01, 10)
    values = [0.9 + float(x) for x in noise]
    others = [0.85 - float(x) for x in noise]
    analysis = only(methods(tmp_path, {"learned": values, "cosine": others}))
    assert headline(analysis).endswith("(10 seeds). learned: better than cosine.")
    (said,) = sentences(analysis)
    assert said.startswith(
        "+5.00 points of test accuracy for learned against cosine (95 % interval"
    )
    assert said.endswith("10 paired seeds, sign-flip test p = 0.00195): better.")
    assert not analysis.few


def test_few_seeds_give_no_sentence_per_pair_but_one_on_the_control(tmp_path):
    values = {"learned": [0.7, 0.8, 0.9], "cosine": [0.9] * 3, "three_constants": [0.7, 0.7, 0.8]}
    analysis = only(methods(tmp_path, values))
    effect, control = sentences(analysis)
    assert effect.startswith("+6.67 points of test accuracy for learned against three_constants (")
    assert effect.endswith(", 3 paired seeds).")
    assert control.startswith("three_constants replays the learned run's own mean rate in each")
    assert sentences(only(methods(tmp_path / "no", {"learned": [0.7], "cosine": [0.9]}))) == []


TUNED = [
    (
        {"learned": (0.2, None), "cosine": (0.2, False), "three_constants": (None, None)},
        "The baselines' peaks were not tuned: they share the learned schedule's maximum "
        "learning rate, 0.2; other peaks may do better.",
    ),
    (
        {"learned": (0.2, False), "cosine": (0.2, False), "constant": (0.1, False)},
        "The baselines' peaks were not tuned; other peaks may do better.",
    ),
    (
        {"learned": (0.2, None), "cosine": (0.2, False), "constant": (0.1, True)},
        "The peaks of cosine were not tuned: they share the learned schedule's maximum "
        "learning rate, 0.2; other peaks may do better.",
    ),
    (
        {"learned": (0.2, None), "cosine": (0.3, True), "constant": (0.1, True)},
        "Peaks tuned on val: constant (cost 40), cosine (cost 40); that cost is in no equal-cost "
        "view.",
    ),
]


@pytest.mark.parametrize("headers, text", TUNED)
def test_untuned_and_tuned_peaks_are_said_to_be(tmp_path, headers, text):
    for method, (peak, tuned) in headers.items():
        extra = {"checkpoint": "f00d"} if method == "learned" else {}
        spent = 40.0 if tuned else 0.0
        write_run(
            tmp_path / method,
            method=method,
            **{"peak": peak, "tuned": tuned, "search_cost_before": spent, **extra},
        )
    assert text in caveats(only(tmp_path))


def test_records_that_do_not_tell_of_tuning_are_not_spoken_for(tmp_path):
    methods(tmp_path / "old", {"learned": [0.9], "cosine": [0.8]})
    assert not any("tuned" in text for text in caveats(only(tmp_path / "old")))
    methods(tmp_path / "spent", {"learned": [0.9], "cosine": [0.8]}, search_cost_before=7.0)
    said = caveats(only(tmp_path / "spent"))
    assert any("cost of tuning before a run stands in its own column" in text for text in said)


def test_one_method_has_nothing_to_be_compared_with(tmp_path):
    methods(tmp_path, {"cosine": [0.9, 0.8]})
    write_run(tmp_path / "late", seed=2, ends=False)
    assert headline(only(tmp_path)) == (
        "2 runs of cosine: test accuracy 85.00 \u00b1 7.07 %. Nothing to compare with."
    )
