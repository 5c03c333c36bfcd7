"""What one process at a time does for all: it holds the duty until it gives it up, or is gone."""

from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.models import LeaderLease


def acquire_leader_lease(session: Session, name: str, *, owner: str, lease_s: float) -> bool:
    """Take a duty or keep it for another `lease_s`; False while another process has it."""
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
    """Keep those of the duties that are still this owner's for another `lease_s`."""
    session.execute(
        sa.update(LeaderLease)
        .where(LeaderLease.name.in_(names), LeaderLease.owner == owner)
        .values(expires_at=now(session) + timedelta(seconds=lease_s))
        .execution_options(synchronize_session=False)
    )


def release_leader_lease(session: Session, name: str, *, owner: str) -> None:
    """Let another process have it now."""
    session.execute(
        sa.delete(LeaderLease).where(LeaderLease.name == name, LeaderLease.owner == owner)
    )
