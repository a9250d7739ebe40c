"""The GPU bench's timer, with times that a stand-in for the GPU makes up."""

from dataclasses import dataclass

from upconv.cli.bench.cuda.timer import ONCE_MS, Timer


@dataclass(frozen=True)
class Contestant:
    """Without a thread and without cudnn's flags, which other tests may have locked."""

    name: str

    def run(self, work):
        return work()


class MadeUp(Timer):
    """A call is a number of milliseconds; how often each was made is counted."""

    def __init__(self):
        self.made = {}

    def several(self, call, times, ahead=1):
        self.made[call] = self.made.get(call, 0) + times
        return [call] * times


def test_every_contestant_runs_as_often():
    timer, a, b = MadeUp(), Contestant("a"), Contestant("b")
    assert timer.interleaved({a: 1.0, b: 2.0}, seconds=1.0) == {"a": 1.0, "b": 2.0}
    assert timer.made == {1.0: 32, 2.0: 32}, "two to warm up, thirty that count"


def test_a_call_of_seconds_is_not_repeated_and_costs_the_others_no_runs():
    timer, quick, slow = MadeUp(), Contestant("quick"), Contestant("slow")
    assert timer.interleaved({quick: 1.0, slow: 30 * ONCE_MS}, seconds=1.0) == {"quick": 1.0, "slow": 30 * ONCE_MS}
    assert timer.made == {1.0: 32, 30 * ONCE_MS: 2}


def test_where_every_call_takes_seconds_all_are_timed_by_their_first():
    timer, a = MadeUp(), Contestant("a")
    assert timer.interleaved({a: 2 * ONCE_MS}, seconds=1.0) == {"a": 2 * ONCE_MS}
