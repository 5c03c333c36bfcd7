"""Open sources take places: few at a time, in turn, and fairly among keys."""

import uuid

from api.sources.places import KEPT_S, Places
from shared.job_store import UnlistedJob


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def jobs(count: int) -> list[UnlistedJob]:
    key = uuid.uuid4()
    return [UnlistedJob(uuid.uuid4(), key, "manifest") for _ in range(count)]


def test_one_key_has_half_of_the_places_however_many_jobs_it_has() -> None:
    one, other, third = jobs(50), jobs(50), jobs(1)
    places = Places(8)
    held = places.assign(one)
    assert held == {job.id for job in one[:4]}
    held = places.assign(one + other)
    assert held == {job.id for job in one[:4] + other[:4]}
    assert places.assign(one + other + third) == held


def test_jobs_that_wait_get_the_places_of_those_that_had_pages_for_a_while() -> None:
    clock = Clock()
    places = Places(4, clock)
    one, other, third = jobs(5), jobs(2), jobs(1)
    held = places.assign(one + other)
    slow, *_ = [job.id for job in one if job.id in held]
    for job_id in held - {slow}:  # the other one gets ready for longer than KEPT_S
        places.note_page(job_id)
    clock.now_s += 2 * KEPT_S
    places.note_page(slow)
    assert places.assign(one[:2] + other) == held, "nobody waits"
    after = places.assign(one + other + third)
    assert slow in after, "it has had no pages for as long as it took to get ready"
    assert third[0].id in after, "the key without a place comes first"
    assert len(after) == 4
    turns = after | held
    for _ in range(6):
        for job_id in after:
            places.note_page(job_id)
        clock.now_s += 3 * KEPT_S
        after = places.assign(one + other + third)
        turns |= after
    assert turns == {job.id for job in one + other + third}


def test_a_place_is_free_when_its_job_is_listed_or_fails() -> None:
    clock = Clock()
    places = Places(2, clock)
    one = jobs(3)
    assert places.assign(one) == {one[0].id}
    places.leave(one[0].id)
    assert places.assign(one) == {one[1].id}, "it waits behind the others"
    assert places.assign([one[0], one[2]]) == {one[2].id}
    assert places.assign([]) == set()
