"""Record folders of episodic meta-trainings, whose numbers follow a simple rule."""

from __future__ import annotations

import json
from pathlib import Path

UPDATES, EVERY = 40, 10


def write_meta_run(
    folder: Path,
    *,
    seed: int = 0,
    end: float = -0.2,
    updates: int = UPDATES,
    yardstick: str = "one",
    diverged: int = 0,
    **config: object,
) -> Path:
    """Write a meta-training of `UPDATES`; held out, it falls from +1 to `end`, and rises at last.

    Args:
        folder: Of the record.
        seed: In the header.
        end: The score at update 30 of 40; at 40 it is 0.1 higher.
        updates: Taken so far; with fewer than all there is no end row.
        yardstick: Scores of different ones are not compared.
        diverged: Episodes dropped at each update.
        config: What was asked for.
    """
    head = {
        **{"kind": "header", "format": 1, "command": "meta-train-episodic", "plan": "Plan()"},
        **{"family": "digits", "yardstick": yardstick, "held_out": 8, "peak": 1.28},
        **{"updates": UPDATES, "seed": seed, "config": {**config, "seed": seed}, "threads": 1},
        **{"commit": "abc", "versions": {"torch": "2.14"}, "hardware": "cpu"},
    }
    rows: list[dict[str, object]] = [head, look(0, 1.0, 1.0)]
    best = 1.0
    for update in range(1, updates + 1):
        score: float | str = "nan" if update == 7 else 1.0 - 0.05 * update
        spent = {"cost": 100.0 * update, "seconds": 0.5 * update}
        rows.append({"kind": "update", "update": update, "score": score, "best": best})
        rows[-1].update({"diverged": diverged * update, **spent})
        if update % EVERY == 0:
            held = 1.0 + (end - 1.0) * update / 30 if update < UPDATES else end + 0.1
            best = min(best, held)
            rows.append(look(update, held, best))
    if updates == UPDATES:
        rows.append({"kind": "end", "status": "finished", "updates": updates, "best": best})
        rows[-1].update({"cost": 4000.0, "seconds": 20.0})
    folder.mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "records.jsonl").write_text(text, encoding="utf-8")
    return folder


def look(update, score, best):
    """Return a row of the held-out problems."""
    spent = {"cost": 100.0 * update, "seconds": 0.5 * update}
    return {"kind": "held_out", "update": update, "score": score, "best": best, **spent}
