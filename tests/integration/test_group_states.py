"""Random lives of jobs with groups: whatever happens in whatever order, each photo ends once,
nobody waits for ever, and the counters stay right.
"""

import random
import uuid
from collections import Counter

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.groups import NEVER, GroupWork, Measured, TurntableWork
from shared.job_store import Claim, NewItem, Settlement, SettlementState
from shared.jobs import SETTLED, ItemKind, ItemStatus, JobStatus
from shared.models import Item, ItemGroup
from shared.options import Options
from tests.integration.stored_jobs import (
    LEASE_S,
    assert_counters_match_rows,
    expire_leases,
    finish,
    new_key,
    read,
)

PHOTOS, GROUPS = 12, 3
BOX = Measured(width=40, height=30, box=(0.2, 0.2, 0.8, 0.9))


class Life:
    """A job, and the workers that hold its items."""

    def __init__(self, database: Database, key: uuid.UUID, luck: random.Random) -> None:
        self.database, self.luck = database, luck
        self.held: list[Claim] = []
        self.done: Counter[uuid.UUID] = Counter()
        self.shown: dict[uuid.UUID, int] = {}
        """The number of pictures of each turntable, when it was last recorded."""
        options = Options(turntable=luck.random() < 0.7).model_dump(mode="json")
        with database.transaction() as session:
            job = job_store.create_job(
                session,
                api_key_id=key,
                options=options,
                priority=5,
                labels={},
                source={"kind": "x"},
            )
            self.id, self.listed = job.id, 0

    def step(self) -> None:
        """Something happens."""
        what = self.luck.choices(
            (self.list_more, self.claim, self.settle, self.die, self.look, self.retry),
            (2, 6, 6, 1, 2, 1),
        )[0]
        what()

    def list_more(self) -> None:
        with self.database.transaction() as session:
            if self.listed < PHOTOS:
                number = self.listed
                item = NewItem(
                    name=f"{number}", source=f"s3://p/{number}", group=f"{number % GROUPS}"
                )
                job_store.add_items(session, self.id, [item])
                self.listed += 1
            elif read(self.database, self.id).expanded_at is None:
                job_store.finish_expansion(session, self.id)

    def claim(self, share: float = 0.5) -> None:
        with self.database.transaction() as session:
            due = job_store.publishable(session, self.id, ahead=99)
            some = [one.item_id for one in due if self.luck.random() < share]
            self.held += job_store.claim_many(
                session, some, job_ids=[self.id], owner="w", lease_s=LEASE_S, alone=True
            ).claims()

    def settle(self) -> None:
        batch = [one for one in self.held if self.luck.random() < 0.6]
        self.held = [one for one in self.held if one not in batch]
        settlements = [self.outcome(one) for one in batch]
        states = finish(self.database, settlements) if batch else []
        for settlement, state in zip(settlements, states, strict=True):
            if settlement.error_code is None:
                self.note(settlement.claim, state)

    def note(self, claim: Claim, state: SettlementState) -> None:
        self.done[claim.item_id] += state is SettlementState.RECORDED
        if isinstance(claim.work, TurntableWork) and state is SettlementState.RECORDED:
            self.shown[claim.item_id] = len(claim.work.frames)

    def outcome(self, claim: Claim) -> Settlement:
        if self.luck.random() < 0.15:
            return Settlement(claim=claim, error_code="not-an-image")
        if isinstance(claim.work, GroupWork) and claim.work.frame is None:
            return Settlement(claim=claim, measured=BOX)
        return Settlement(claim=claim, result_key="k", width=40, height=30)

    def die(self) -> None:
        """The workers die with what they hold; some wake up later and try to record it."""
        expire_leases(self.database)
        with self.database.transaction() as session:
            job_store.release_expired_leases(session, max_attempts=3)
        if self.luck.random() < 0.5:
            self.held = []

    def look(self) -> None:
        with self.database.transaction() as session:
            if self.id in job_store.grouping_jobs(session, limit=9):
                job_store.continue_grouping(session, self.id)

    def retry(self) -> None:
        with self.database.transaction() as session:
            job_store.retry_failed(session, self.id)

    def end(self) -> None:
        """Let everything end, without another fault."""
        for _ in range(PHOTOS + 1):
            self.list_more()
        if self.luck.random() < 0.5:  # those whose turn it is lose all their tries
            for _ in range(4):
                self.claim(1)
                self.die()
                self.held = []
        for _ in range(12):
            self.look()
            with self.database.transaction() as session:
                due = [one.item_id for one in job_store.publishable(session, self.id, ahead=99)]
                self.held += job_store.claim_many(
                    session, due, job_ids=[self.id], owner="w", lease_s=LEASE_S, alone=True
                ).claims()
            batch, self.held = self.held, []
            for one in batch:
                measures = isinstance(one.work, GroupWork) and one.work.frame is None
                given = {"measured": BOX} if measures else {"result_key": "k"}
                [state] = finish(self.database, [Settlement(claim=one, **given)])
                self.note(one, state)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_whatever_happens_each_photo_ends_once_and_nobody_waits_for_ever(
    database: Database,
) -> None:
    key = new_key(database)
    for seed in range(8):
        life = Life(database, key, random.Random(seed))
        for _ in range(50):
            life.step()
        assert_counters_match_rows(database, life.id)
        life.end()
        life.retry()
        for _ in range(10):
            life.step()
        life.end()
        assert_counters_match_rows(database, life.id)
        job = read(database, life.id)
        with database.transaction() as session:
            items = list(session.scalars(sa.select(Item).where(Item.job_id == life.id)))
            frames = list(
                session.scalars(sa.select(ItemGroup.frame).where(ItemGroup.job_id == life.id))
            )
        assert job.status is JobStatus.FINISHED, seed
        assert all(one.status in SETTLED for one in items), seed
        assert not [one for one in items if one.not_before == NEVER], seed
        assert job.turntables_left == 0, seed
        photos = [one for one in items if one.kind is ItemKind.PHOTO]
        assert len(photos) == PHOTOS
        for one in photos:
            assert life.done[one.id] == (one.status is ItemStatus.SUCCEEDED), seed
        turntables = Counter(one.group_name for one in items if one.kind is ItemKind.TURNTABLE)
        assert set(turntables.values()) <= {1}, "one for each group"
        succeeded = Counter(one.group_name for one in photos if one.status is ItemStatus.SUCCEEDED)
        for one in items:
            if one.kind is ItemKind.TURNTABLE and one.status is ItemStatus.SUCCEEDED:
                assert life.shown[one.id] == succeeded[one.group_name], seed
        if job.options["turntable"]:
            assert len(turntables) == sum(frame is not None for frame in frames), seed
