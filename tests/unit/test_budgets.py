"""The memory budget of requests: a limit for all, half of it for each key, and all of it is given
back.
"""

import uuid

import pytest

from api.budgets import MemoryBudget, OpenCalls
from shared.errors import BusyError, TooManyCallsError

A, B, C = (uuid.uuid4() for _ in range(3))


def test_a_single_request_always_fits() -> None:
    budget = MemoryBudget(100)
    with budget.share_of(A) as share:
        share.hold(150)
        share.hold(200)
        with budget.share_of(B) as other, pytest.raises(BusyError):
            other.hold(1)
    with budget.share_of(B) as share:
        share.hold(100)


def test_a_key_gets_half_of_the_budget_at_most() -> None:
    budget = MemoryBudget(100)
    with budget.share_of(A) as first, budget.share_of(A) as second, budget.share_of(B) as other:
        first.hold(30)
        second.hold(20)
        with pytest.raises(TooManyCallsError):
            second.hold(21)
        other.hold(50)
        with budget.share_of(C) as third, pytest.raises(BusyError):
            third.hold(1)
    with budget.share_of(C) as third:
        third.hold(100)


def test_a_refused_request_holds_nothing() -> None:
    budget = MemoryBudget(100)
    with budget.share_of(A) as share:
        share.hold(90)
        with budget.share_of(B) as other:
            with pytest.raises(BusyError):
                other.hold(11)
            other.hold(10)


def test_finished_calls_free_their_share() -> None:
    calls = OpenCalls(4)
    with calls.one_of(A), calls.one_of(A):
        with pytest.raises(TooManyCallsError), calls.one_of(A):
            pass
        with calls.one_of(B), calls.one_of(B), pytest.raises(BusyError), calls.one_of(C):
            pass
        with calls.one_of(C):
            pass
    with calls.one_of(A), calls.one_of(A):
        pass
