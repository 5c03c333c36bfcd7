"""The faults, one function each.

A function injects its fault once, when it is called, and returns when the fault itself is over. It
returns the seconds until recovery, if they can be measured.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import libfaketime  # type: ignore[import-untyped]
import sqlalchemy as sa

from shared.jobs import SETTLED, ItemStatus
from shared.models import Item
from shared.queue import make_app
from shared.reconciler import Reconciler
from tests.faults.freezing import RECOVERY_S, freeze
from tests.faults.system import System
from tests.waiting import eventually

Inject = Callable[[System, random.Random], float | None]

RECOVERY_DEADLINE_S = 60
WORKERS = ("worker-1", "worker-2")


@dataclass(frozen=True)
class Fault:
    """A fault, and how it is injected into a job."""

    name: str
    inject: Inject
    deaths: int | None = None
    """How many deaths may be counted against images. None: no limit, because the fault kills
    processes.
    """


def _a_worker(luck: random.Random) -> str:
    return luck.choice(WORKERS)


def _until_taken_back(system: System, pid: int) -> float:
    """Seconds until the process holds no image any more."""
    started = time.monotonic()
    mark = f"%-{pid}-%"
    held = sa.select(sa.func.count()).where(
        Item.status == ItemStatus.RUNNING, Item.lease_owner.like(mark)
    )

    def taken_back() -> bool:
        with system.database.transaction() as session:
            return not session.scalar(held)

    what = f"the images of process {pid} to be taken back"
    eventually(taken_back, what, RECOVERY_DEADLINE_S, every_s=0.05)
    return time.monotonic() - started


def kill_a_worker(system: System, luck: random.Random) -> float:
    """SIGKILL for one of the two workers. A new one is started in its place."""
    name = _a_worker(luck)
    pid = system.parts[name].popen.pid
    system.kill(name)
    system.start_worker(name)
    return _until_taken_back(system, pid)


def stop_a_worker(system: System, luck: random.Random) -> float:
    """SIGTERM for one of the two workers, as in a rolling update."""
    name = _a_worker(luck)
    pid = system.parts[name].popen.pid
    system.terminate(name)
    system.start_worker(name)
    return _until_taken_back(system, pid)


def freeze_a_worker(system: System, luck: random.Random) -> float:
    """SIGSTOP for longer than the lease, then SIGCONT.

    The worker must not overwrite other workers' results. While it is stopped it must not hold them
    up.
    """
    process = system.parts[_a_worker(luck)].popen
    process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    time.sleep(0.5)
    before, others_s = _unsettled(system), 0.0
    while (passed := time.monotonic() - started) < system.settings().lease_s + 4:
        if not others_s and (_unsettled(system) < before or not before):
            others_s = passed
        time.sleep(0.05)
    process.send_signal(signal.SIGCONT)
    return others_s or passed


def _unsettled(system: System) -> int:
    with system.database.transaction() as session:
        left = sa.select(sa.func.count()).where(Item.status.in_(set(ItemStatus) - SETTLED))
        return session.scalar(left) or 0


def kill_the_api(system: System, _luck: random.Random) -> None:
    """SIGKILL. The reconciler and the expander end with the API."""
    system.kill("api")
    system.start_api()


def kill_redis(system: System, luck: random.Random) -> None:
    """SIGKILL. Redis comes back with the contents of its append-only file."""
    system.kill("redis")
    time.sleep(luck.uniform(0, 2))
    system.start_redis()


def redis_away_for_long(system: System, _luck: random.Random) -> float:
    """SIGKILL, and a restart after half a minute. The workers notice that Redis is back within ten
    seconds.
    """
    system.kill("redis")
    time.sleep(30)
    system.start_redis()
    started, before = time.monotonic(), _unsettled(system)
    while before and _unsettled(system) >= before:
        assert time.monotonic() - started < RECOVERY_S, "the workers did not go on"
        time.sleep(0.05)
    return time.monotonic() - started


def empty_redis(system: System, _luck: random.Random) -> None:
    """FLUSHALL: every message is lost."""
    system.redis().flushall()


def redis_refuses_writes(system: System, luck: random.Random) -> None:
    """Redis answers every write with an error, as on a full disk.

    The fault makes Redis demand a replica that does not exist. No worker may end, or open
    connection after connection.
    """
    parts = [system.parts[name] for name in WORKERS]
    client = system.redis()
    before = len(client.client_list())
    client.config_set("min-replicas-to-write", 1)
    time.sleep(luck.uniform(2, 3))
    opened = len(client.client_list())
    client.config_set("min-replicas-to-write", 0)
    assert opened <= before, f"{opened} connections instead of {before}"
    for part in parts:
        assert part.popen.poll() is None, f"{part.name} ended"
        assert "Unrecoverable error" not in part.log.read_text(), f"{part.name} ends"


def kill_postgres(system: System, _luck: random.Random) -> None:
    """SIGKILL for all PostgreSQL processes. The server recovers from its log."""
    system.kill_postgres()


def freeze_redis(system: System, luck: random.Random) -> float:
    """SIGSTOP for Redis, with more requests than the API has threads."""
    return freeze(system, [system.parts["redis"].popen.pid], luck)


def freeze_postgres(system: System, luck: random.Random) -> float:
    """SIGSTOP for all PostgreSQL processes."""
    return freeze(system, system.postgres_pids(), luck)


def freeze_s3(system: System, luck: random.Random) -> float:
    """SIGSTOP for the S3 server."""
    return freeze(system, [system.parts["s3"].popen.pid], luck)


def postgres_away_for_long(system: System, luck: random.Random) -> float | None:
    """PostgreSQL is away for longer than a lease. No process dies, so no death may be counted."""
    proxy = system.proxies["postgres"].weather
    proxy.down = True
    time.sleep(system.settings().lease_s + luck.uniform(1, 3))
    proxy.down = False
    return None


def s3_down(system: System, _luck: random.Random) -> None:
    """Ten seconds without S3."""
    weather = system.proxies["s3"].weather
    weather.down = True
    time.sleep(10)
    weather.down = False


def s3_stumbles(system: System, luck: random.Random) -> None:
    """For some seconds a third of the requests get a 503 or a reset connection."""
    weather = system.proxies["s3"].weather
    weather.busy_share = weather.reset_share = 1 / 6
    time.sleep(luck.uniform(2, 4))
    weather.busy_share = weather.reset_share = 0


def slow_network(system: System, luck: random.Random) -> None:
    """For some seconds each part answers 200 ms later."""
    name = luck.choice(list(system.proxies))
    system.proxies[name].weather.delay_s = 0.2
    time.sleep(luck.uniform(1, 2))
    system.proxies[name].weather.delay_s = 0


def cut_connections(system: System, luck: random.Random) -> None:
    """All connections to one part are reset at once."""
    system.proxies[luck.choice(list(system.proxies))].reset_all()


def wrong_clock(system: System, luck: random.Random) -> None:
    """One worker's clock is wrong by minutes. S3 rejects signatures that are more than fifteen
    minutes off.
    """
    name = _a_worker(luck)
    system.terminate(name)
    library = os.path.join(
        os.path.dirname(libfaketime.__file__), "vendor", "libfaketime", "src", "libfaketime.so.1"
    )
    off = f"{luck.choice(['+', '-'])}{luck.randint(2, 12)}m"
    # The monotonic clock stays right, as on a real machine with a wrong clock.
    system.start_worker(
        name,
        LD_PRELOAD=library,
        FAKETIME=off,
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        DONT_FAKE_MONOTONIC="1",
    )
    system.wait_for_worker(name)
    time.sleep(2)


def second_reconciler(system: System, luck: random.Random) -> None:
    """A second reconciler works at the same time without holding the lease."""
    settings = system.settings()
    queue = make_app(settings)
    other = Reconciler(system.database, queue, settings)
    deadline = time.monotonic() + luck.uniform(1, 3)
    while time.monotonic() < deadline:
        other.recover()
        other.publish_open_jobs()
    queue.close()


FAULTS = [
    Fault("SIGKILL of one of two workers", kill_a_worker),
    Fault("SIGTERM of one of two workers", stop_a_worker),
    Fault("SIGSTOP of a worker beyond its lease, SIGCONT", freeze_a_worker),
    Fault("SIGKILL of the API", kill_the_api),
    Fault("Redis killed, restarted with its AOF", kill_redis),
    Fault("Redis away for half a minute", redis_away_for_long, deaths=0),
    Fault("Redis emptied (FLUSHALL)", empty_redis),
    Fault("Redis refuses writes, as on a full disk", redis_refuses_writes),
    Fault("PostgreSQL killed and restarted", kill_postgres),
    Fault("PostgreSQL away for longer than a lease", postgres_away_for_long, deaths=0),
    Fault("Redis frozen (SIGSTOP)", freeze_redis, deaths=0),
    Fault("PostgreSQL frozen (SIGSTOP)", freeze_postgres, deaths=0),
    Fault("S3 frozen (SIGSTOP)", freeze_s3, deaths=0),
    Fault("S3 down for 10 s", s3_down),
    Fault("S3: 503 and resets for a third of requests", s3_stumbles),
    Fault("200 ms of delay to one part", slow_network),
    Fault("every connection to one part reset", cut_connections),
    Fault("a worker's clock off by minutes", wrong_clock),
    Fault("two reconcilers at once", second_reconciler),
]
