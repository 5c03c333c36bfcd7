"""What the endpoints work with, opened once a process and closed in the reverse order."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.expansion import Expander
from api.sweeper import Sweeper
from shared.database import Database
from shared.queue import Celery, make_app
from shared.rate_limit import RateLimiter
from shared.reconciler import Reconciler
from shared.settings import Settings
from shared.storage import Storage


@dataclass(frozen=True)
class Parts:
    """The open parts of an API process."""

    settings: Settings
    database: Database
    storage: Storage
    queue: Celery
    reconciler: Reconciler
    expander: Expander
    sweeper: Sweeper
    limiter: RateLimiter


@contextmanager
def open_parts(settings: Settings) -> Iterator[Parts]:
    """Open the parts and start the background threads; close everything at the end."""
    with ExitStack() as stack:
        database = Database(settings.database_url, process="api", pool_size=20)
        stack.callback(database.close)
        storage = Storage(settings)
        stack.callback(storage.close)
        queue = make_app(settings)
        stack.callback(queue.close)
        reconciler = Reconciler(database, queue, settings)
        reconciler.start()
        stack.callback(reconciler.stop)
        expander = Expander(database, storage, settings)
        expander.start()
        stack.callback(expander.stop)
        sweeper = Sweeper(database, storage, settings)
        sweeper.start()
        stack.callback(sweeper.stop)
        limiter = RateLimiter(settings)
        stack.callback(limiter.close)
        yield Parts(settings, database, storage, queue, reconciler, expander, sweeper, limiter)


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
