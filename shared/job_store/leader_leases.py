"""Leases for work that only one process at a time may do."""

from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.models import LeaderLease


def acquire_leader_lease(session: Session, name: str, *, owner: str, lease_s: float) -> bool:
    """Acquire or renew a lease for `lease_s`; False if another process holds it."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    moment = now(session)
    until = moment + timedelta(seconds=lease_s)
    statement = (
        insert(LeaderLease)
        .values(name=name, owner=owner, expires_at=until)
        .on_conflict_do_update(
            index_elements=[LeaderLease.name],
            set_={"owner": owner, "expires_at": until},
            where=sa.or_(LeaderLease.owner == owner, LeaderLease.expires_at < moment),
        )
        .returning(LeaderLease.owner)
    )
    return session.scalar(statement) is not None


def renew_leader_leases(
    session: Session, names: Collection[str], *, owner: str, lease_s: float
) -> None:
    """Renew the leases that this owner still holds, for another `lease_s`."""
    session.execute(
        sa.update(LeaderLease)
        .where(LeaderLease.name.in_(names), LeaderLease.owner == owner)
        .values(expires_at=now(session) + timedelta(seconds=lease_s))
        .execution_options(synchronize_session=False)
    )


def leases_of_others(session: Session, *, owner: str) -> set[str]:
    """The names of the leases that others hold now."""
    statement = sa.select(LeaderLease.name).where(
        LeaderLease.owner != owner, LeaderLease.expires_at >= now(session)
    )
    return set(session.scalars(statement))


def release_leader_lease(session: Session, name: str, *, owner: str) -> None:
    """Release a lease, so that another process can acquire it at once."""
    session.execute(
        sa.delete(LeaderLease).where(LeaderLease.name == name, LeaderLease.owner == owner)
    )
