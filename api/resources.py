"""The resources of the endpoints: opened once per process, closed in reverse order."""

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
from api.background.watcher import Watcher
from api.background.webhook_delivery import WebhookDeliverer
from api.budgets import KeyTurns, MemoryBudget, OpenCalls
from api.job_links import JobLinks
from api.known_keys import KnownKeys
from api.sessions import Sessions
from api.sources.expansion import Expander
from shared.database import Database
from shared.lease_recovery import LeaseRecovery
from shared.queue import Celery, make_app
from shared.rate_limit import RateLimiter
from shared.reconciler import Reconciler
from shared.settings import Settings
from shared.sign_in_links import SignInLinks
from shared.storage import Storage
from shared.tracing import open_tracing
from shared.web import Web, WebLimits

FETCH_THREADS = 8
ESTIMATE_THREADS = 4
READ_THREADS = 2


@dataclass(frozen=True)
class Resources:
    """The open resources of an API process."""

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
    """Limits threads that download from the web, so that a slow host does not occupy the threads of
    all requests.
    """
    fetch_turns: KeyTurns
    """Take one before a thread of `fetching`: one key's slow hosts hold half of these threads."""
    estimating: CapacityLimiter
    """Limits threads that list sources for a `dry_run`, which may take minutes."""
    estimate_turns: KeyTurns
    """The same for `estimating`."""
    reading: CapacityLimiter
    """Limits threads that inspect a whole photo in memory."""
    parsing: CapacityLimiter
    """Limits threads that parse a large body, which needs many times its size for a moment."""
    body_memory: MemoryBudget
    removebg_calls: OpenCalls
    deliverer: WebhookDeliverer
    watcher: Watcher
    sessions: Sessions
    job_links: JobLinks
    known_keys: KnownKeys
    links: SignInLinks


@contextmanager
def open_resources(settings: Settings) -> Iterator[Resources]:
    """Open the resources and start the background threads; close everything at the end."""
    with ExitStack() as stack:
        stack.callback(open_tracing(settings, "api"))
        database = Database.of(settings, process="api", pool_size=20)
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
        watcher = Watcher(database, storage, settings)
        watcher.start()
        stack.callback(watcher.stop)
        limiter = RateLimiter(settings)
        stack.callback(limiter.close)
        links = SignInLinks(settings)
        stack.callback(links.close)
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
            fetch_turns=KeyTurns(FETCH_THREADS // 2),
            estimating=CapacityLimiter(ESTIMATE_THREADS),
            estimate_turns=KeyTurns(ESTIMATE_THREADS // 2),
            reading=CapacityLimiter(READ_THREADS),
            parsing=CapacityLimiter(1),
            body_memory=MemoryBudget(settings.max_bodies_bytes),
            removebg_calls=OpenCalls(settings.removebg_max_calls),
            deliverer=deliverer,
            watcher=watcher,
            sessions=Sessions(settings),
            job_links=JobLinks(settings),
            known_keys=KnownKeys(),
            links=links,
        )


async def _resources(request: Request) -> Resources:
    """A coroutine, so that it runs on the event loop and needs no thread per request."""
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(_resources)]
