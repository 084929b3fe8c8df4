"""Failures on demand."""

import pytest

from local.sandbox.faults import Call, Fault, Faults, Kind


def of_call(faults: Faults, call: Call, sandbox_id: str | None = None, header: str | None = None) -> Fault | None:
    return faults.of_call(call, sandbox_id=sandbox_id, header=header)


def test_a_header_names_a_kind_its_call_and_its_numbers() -> None:
    fault = Fault.of_header("slow; call=connect;delay_ms = 5")
    assert fault == Fault(Kind.SLOW, Call.CONNECT, delay_ms=5)
    assert Fault.of_header("run_dropped;after_bytes=10") == Fault(Kind.RUN_DROPPED, after_bytes=10)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "None is no kind of a fault; it is one of"),
        ({"kind": "x"}, "'x' is no kind of a fault; it is one of"),
        ({"kind": "slow", "call": "boil"}, "'boil' is no call of a fault; it is one of .*'connect'"),
        ({"kind": "slow"}, "'slow' needs a call, one of .*'connect'"),
        ({"kind": "unreachable", "call": "create"}, "'unreachable' is of no call; leave 'create' out"),
        ({"kind": "vanish"}, "'vanish' needs the sandbox_id"),
        ({"kind": "unreachable", "y": 1}, "a fault has no .'y'."),
        ({"kind": "unreachable", "times": "z"}, "invalid literal"),
    ],
)
def test_what_describes_no_fault_is_refused_with_what_would(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Fault.of(values)


def test_a_fault_befalls_as_often_as_planned() -> None:
    faults = Faults()
    faults.plan(Fault(Kind.FAILED, Call.KILL, times=2))
    assert [bool(of_call(faults, Call.KILL)) for _ in range(3)] == [True, True, False]
    faults.plan(Fault(Kind.UNREACHABLE, times=None))
    assert all(faults.of_sandbox(Kind.UNREACHABLE, sandbox_id="a") for _ in range(3))
    faults.clear()
    assert faults.of_sandbox(Kind.UNREACHABLE, sandbox_id="a") is None


def test_a_fault_of_one_call_spares_the_others() -> None:
    faults = Faults()
    faults.plan(Fault(Kind.RATE_LIMITED, Call.CONNECT))
    assert of_call(faults, Call.CREATE) is None
    assert of_call(faults, Call.CONNECT)


def test_a_fault_of_one_sandbox_spares_the_others() -> None:
    faults = Faults()
    faults.plan(Fault(Kind.RUN_DROPPED, sandbox_id="a"))
    faults.plan(Fault(Kind.FAILED, Call.PAUSE, sandbox_id="a"))
    assert faults.of_sandbox(Kind.RUN_DROPPED, sandbox_id="b") is None
    assert faults.of_sandbox(Kind.RUN_DROPPED, sandbox_id="a")
    assert of_call(faults, Call.PAUSE, sandbox_id="b") is None
    assert of_call(faults, Call.PAUSE, sandbox_id="a")


def test_a_header_befalls_its_request_alone_and_only_if_it_is_of_that_kind_and_call() -> None:
    faults = Faults()
    assert of_call(faults, Call.LIST, header="slow;call=list")
    assert of_call(faults, Call.INFO, header="slow;call=list") is None
    assert of_call(faults, Call.LIST, header="run_dropped") is None
    assert faults.of_sandbox(Kind.RUN_DROPPED, sandbox_id="a", header="run_dropped")
    assert faults.planned == []
