"""`matting upgrade-check`: run with the new version, it says what an upgrade will meet."""

from collections import Counter
from importlib.metadata import version

import typer

from deploy.commands.service import service_database
from shared import job_store
from shared.database import Database
from shared.errors import QueueError
from shared.messages import READ_VERSIONS
from shared.queue import all_queues, make_app, queue_facts, waiting_versions
from shared.settings import Settings

OLDEST_REDIS = (6, 2)


def run_upgrade_check(settings: Settings) -> int:
    """Print a line for each part; 0: the upgrade can begin, 1: something comes first.

    Reading the settings has already refused those that this version does not know. Raises
    NoDatabaseError, DatabaseError, SetupError.
    """
    with service_database(settings, process="upgrade-check") as database:
        typer.echo(f"this version  {version('matting')}")
        good = _tables(database)
        if database.revisions()[0] is not None:
            _workers(database, settings)
    return 0 if _queue(settings) and good else 1


def _tables(database: Database) -> bool:
    steps = database.unapplied()
    if steps is None:
        current, newest = database.revisions()
        typer.echo(
            f"tables        at {current}, newer than this version's {newest}: it works with them, "
            "and `matting migrate` changes nothing"
        )
        return True
    if not steps:
        typer.echo("tables        up to date")
    for revision, title in steps:
        typer.echo(f"migration     {revision}  {title}")
    return True


def _workers(database: Database, settings: Settings) -> None:
    with database.transaction() as session:
        live = job_store.live_workers(session, stale_s=settings.worker_stale_s)
        found = job_store.backlog(session)
    versions = Counter(str(one.description.get("version", "unknown")) for one in live)
    told = ", ".join(f"{count} of version {name}" for name, count in sorted(versions.items()))
    typer.echo(f"workers       {told or 'none is warm'}")
    typer.echo(
        f"images        {sum(one.running for one in found)} in work, "
        f"{sum(one.waiting for one in found)} waiting: they go on after the upgrade"
    )


def _queue(settings: Settings) -> bool:
    queue = make_app(settings)
    try:
        facts = queue_facts(queue)
        versions = waiting_versions(queue, all_queues(settings))
    except QueueError as error:
        typer.echo(f"queue         {error.detail}: messages are sent again from the database")
        return True
    finally:
        queue.close()
    unreadable = sum(count for name, count in versions.items() if name not in READ_VERSIONS)
    typer.echo(
        f"queue         {sum(versions.values())} messages; this version cannot read {unreadable} "
        "(they are sent again in a form that it can)"
    )
    number = tuple(int(part) for part in str(facts.get("redis_version", "0.0")).split(".")[:2])
    if number < OLDEST_REDIS:
        typer.echo(f"queue         Redis {facts.get('redis_version')} is too old: 6.2 or newer")
        return False
    return True
