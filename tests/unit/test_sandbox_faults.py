"""Failures on demand."""

import pytest

from local.sandbox.faults import Fault, Faults, Kind


def test_a_header_names_a_kind_and_its_numbers() -> None:
    fault = Fault.of_header("run_dropped; after_bytes=10;delay_ms = 5")
    assert fault == Fault(Kind.RUN_DROPPED, after_bytes=10, delay_ms=5)


@pytest.mark.parametrize(
    "values", [{}, {"kind": "x"}, {"kind": "vanish", "y": 1}, {"kind": "vanish", "times": "z"}]
)
def test_what_describes_no_fault_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fault|invalid|not a valid"):
        Fault.of(values)


def test_a_fault_befalls_as_often_as_planned() -> None:
    faults = Faults()
    faults.plan(Fault(Kind.CREATE_SLOW, times=2))
    assert [bool(faults.take(Kind.CREATE_SLOW)) for _ in range(3)] == [True, True, False]
    faults.plan(Fault(Kind.UNREACHABLE, times=None))
    assert all(faults.take(Kind.UNREACHABLE) for _ in range(3))
    faults.clear()
    assert faults.take(Kind.UNREACHABLE) is None


def test_a_fault_of_one_sandbox_spares_the_others() -> None:
    faults = Faults()
    faults.plan(Fault(Kind.RUN_DROPPED, sandbox_id="a"))
    assert faults.take(Kind.RUN_DROPPED, sandbox_id="b") is None
    assert faults.take(Kind.RUN_DROPPED, sandbox_id="a")


def test_a_header_befalls_its_request_alone_and_only_if_it_is_of_that_kind() -> None:
    faults = Faults()
    assert faults.take(Kind.CREATE_SLOW, header="create_slow")
    assert faults.take(Kind.CREATE_SLOW, header="run_dropped") is None
