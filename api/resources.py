"""What the endpoints work with, opened once a process and closed in the reverse order."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from api.background.job_changes import JobChanger
from api.background.job_waiter import JobWaiter
from api.background.sweeper import Sweeper
from api.background.system_facts import SystemFacts
from api.background.webhook_delivery import WebhookDeliverer
from api.budgets import MemoryBudget, OpenCalls
from api.sources.expansion import Expander
from shared.database import Database
from shared.lease_recovery import LeaseRecovery
from shared.queue import Celery, make_app
from shared.rate_limit import RateLimiter
from shared.reconciler import Reconciler
from shared.settings import Settings
from shared.storage import Storage
from shared.tracing import open_tracing
from shared.web import Web, WebLimits

FETCH_THREADS = 8
ESTIMATE_THREADS = 4
READ_THREADS = 2


@dataclass(frozen=True)
class Resources:
    """The open parts of an API process."""

    settings: Settings
    database: Database
    storage: Storage
    queue: Celery
    reconciler: Reconciler
    changer: JobChanger
    expander: Expander
    sweeper: Sweeper
    limiter: RateLimiter
    waiting: JobWaiter
    facts: SystemFacts
    web: Web
    fetching: CapacityLimiter
    """Of threads that fetch from the web: a slow host must not hold those of all requests."""
    estimating: CapacityLimiter
    """Of threads that list sources for a `dry_run`: they may take minutes."""
    reading: CapacityLimiter
    """Of threads that look at a whole photo in memory."""
    parsing: CapacityLimiter
    """Of threads that turn a large body into objects: for a moment they take many times its
    bytes."""
    body_memory: MemoryBudget
    removebg_calls: OpenCalls
    deliverer: WebhookDeliverer


@contextmanager
def open_resources(settings: Settings) -> Iterator[Resources]:
    """Open the parts and start the background threads; close everything at the end."""
    with ExitStack() as stack:
        stack.callback(open_tracing(settings, "api"))
        database = Database(settings.database_url, process="api", pool_size=20)
        stack.callback(database.close)
        storage = Storage(settings)
        stack.callback(storage.close)
        queue = make_app(settings)
        stack.callback(queue.close)
        reconciler = Reconciler(database, queue, settings)
        reconciler.start()
        stack.callback(reconciler.stop)
        recovery = LeaseRecovery(database, settings)
        recovery.start()
        stack.callback(recovery.stop)
        changer = JobChanger(database)
        changer.start()
        stack.callback(changer.stop)
        expander = Expander(database, storage, settings)
        expander.start()
        stack.callback(expander.stop)
        sweeper = Sweeper(database, storage, settings)
        sweeper.start()
        stack.callback(sweeper.stop)
        deliverer = WebhookDeliverer(database, settings)
        deliverer.start()
        stack.callback(deliverer.stop)
        limiter = RateLimiter(settings)
        stack.callback(limiter.close)
        web = Web(WebLimits.of(settings))
        stack.callback(web.close)
        yield Resources(
            settings=settings,
            database=database,
            storage=storage,
            queue=queue,
            reconciler=reconciler,
            changer=changer,
            expander=expander,
            sweeper=sweeper,
            limiter=limiter,
            waiting=JobWaiter(database),
            facts=SystemFacts(database, queue, storage, settings),
            web=web,
            fetching=CapacityLimiter(FETCH_THREADS),
            estimating=CapacityLimiter(ESTIMATE_THREADS),
            reading=CapacityLimiter(READ_THREADS),
            parsing=CapacityLimiter(1),
            body_memory=MemoryBudget(settings.max_bodies_bytes),
            removebg_calls=OpenCalls(settings.removebg_max_calls),
            deliverer=deliverer,
        )


async def _resources(request: Request) -> Resources:
    """On the event loop: a function that is no coroutine would take a thread of every request."""
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(_resources)]
