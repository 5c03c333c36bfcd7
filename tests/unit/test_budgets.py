"""The memory budget of requests: a limit for all, half of it for each key, and all of it is given
back. Turns of keys.
"""

import asyncio
import uuid

import pytest

from api.budgets import KeyTurns, MemoryBudget, OpenCalls
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


def test_requests_of_one_key_wait_for_each_other_and_for_no_other_key() -> None:
    """As with photos by URL: a key whose hosts hang holds only half of the threads."""

    async def check() -> None:
        turns, began, may_end = KeyTurns(2), list[uuid.UUID](), asyncio.Event()

        async def ask(key: uuid.UUID) -> None:
            async with turns.one_of(key):
                began.append(key)
                await may_end.wait()

        async def settled(many: int) -> None:
            async with asyncio.timeout(180):
                while len(began) < many:
                    await asyncio.sleep(0)
            for _ in range(99):  # nobody else begins
                await asyncio.sleep(0)
            assert len(began) == many

        mine = [asyncio.create_task(ask(A)) for _ in range(5)]
        await settled(2)
        other = asyncio.create_task(ask(B))
        await settled(3)
        assert began == [A, A, B]
        mine[-1].cancel()
        may_end.set()
        await asyncio.gather(*mine, other, return_exceptions=True)
        assert began == [A, A, B, A, A]
        assert not turns._turns, "keys without requests are removed"

    asyncio.run(check())
