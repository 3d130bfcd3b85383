"""What two equal runs do not share, which is times and how they are written, left out."""

from __future__ import annotations

import re

import torch

from meta_lr.training.loop import STATE

SECONDS = re.compile(rb',"(wait|(search_)?seconds)":[-+.e0-9]+')  # in the bytes of a record


def untimed(rows):
    """The rows of a record, without their times."""
    return [
        {k: v for k, v in row.items() if k != "wait" and not k.endswith("seconds")} for row in rows
    ]


def untimed_state(folder):
    """The saved state, without its times, and what it says of the record, which has them too."""
    saved = torch.load(folder / STATE, weights_only=True)
    timed = ("seconds", "search_seconds", "offset", "record")
    return {k: v for k, v in saved.items() if k not in timed}
