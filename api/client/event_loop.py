"""An event loop in its own thread, on which the synchronous client runs the asynchronous one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import ParamSpec, TypeVar, cast

from anyio.from_thread import start_blocking_portal

P = ParamSpec("P")
T = TypeVar("T")


class EventLoopThread:
    """An event loop in its own thread, for synchronous callers. Thread-safe."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal(name="matting-client"))

    def run(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a coroutine function and wait for its result; an interrupt cancels it."""
        future = self._portal.start_task_soon(partial(method, *args, **kwargs))
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, values: AsyncIterator[T]) -> Iterator[T]:
        """The values of an asynchronous iterator, one by one."""
        end = object()

        async def following() -> T | object:
            return await anext(values, end)

        while (value := self.run(following)) is not end:
            yield cast(T, value)

    def close(self) -> None:
        """End the loop and its thread."""
        self._stack.close()
