"""The clock shared by demo and bench: fair order, medians, no patience with what takes for ever."""

from upconv.cli import timing


def test_calls_take_turns_in_alternating_order():
    seen = []
    timing.interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, seconds=0, least=4)
    assert "".join(seen) == "ab" + "abbaabba"


def test_the_median_counts(monkeypatch):
    times = iter([9.0, 5.0, 1.0, 7.0])
    monkeypatch.setattr(timing, "once", lambda call, wait: next(times))
    assert timing.interleaved({"a": None}, seconds=0) == {"a": 5.0}, "the first is a warm-up"


def test_a_very_slow_call_is_not_repeated(monkeypatch):
    calls = []
    monkeypatch.setattr(timing, "once", lambda call, wait: calls.append(call) or (1e5 if call == "slow" else 2.0))
    assert timing.interleaved({"slow": "slow", "fast": "fast"}, seconds=0) == {"slow": 1e5, "fast": 2.0}
    assert calls.count("slow") == 1 and calls.count("fast") == 4


def test_a_device_is_waited_for_before_and_after():
    happened = []
    timing.once(lambda: happened.append("call"), lambda: happened.append("wait"))
    assert happened == ["wait", "call", "wait"]
