"""What is sampled beside a rehearsal."""

from __future__ import annotations

import os

from loadtest.surge.watch import GENERATOR, Watch


def test_each_sample_says_how_fast_the_machine_was() -> None:
    watch = Watch(None)
    for now in (1.0, 2.0):
        watch._sample(now, 1.0)
    watched = watch.watched
    assert watch.generator == {os.getpid(): GENERATOR[2]}
    assert len(watched.times) == len(watched.machine) == len(watched.pace_ms) == 2
    assert all(0.1 < took < 1_000 for took in watched.pace_ms)
