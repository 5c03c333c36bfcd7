"""How many messages each open job may have in the queue."""

import dataclasses
import uuid

from shared.job_store import OpenJob
from shared.jobs import EXPRESS_IMAGES
from shared.models import new_id
from shared.shares import FEWEST_EXPRESS, MAX_OUT, NewcomerShares, Share, shares

SHOP, OTHER = uuid.uuid4(), uuid.uuid4()
PLACES = 40


def job(key: uuid.UUID, total: int, *, settled: int = 0, model: str | None = None) -> OpenJob:
    left = total - settled
    return OpenJob(
        job_id=new_id(), api_key_id=key, model=model, total=total, queued=left, unsettled=left
    )


def given(jobs: list[OpenJob], held: int = 24) -> list[Share]:
    return shares(jobs, ahead=256, held=held, url_places=PLACES, served={"other"})


def newcomers_beside(jobs: list[OpenJob]) -> NewcomerShares:
    return NewcomerShares(jobs, ahead=256, held=24, url_places=PLACES)


def test_a_single_job_gets_the_whole_window_and_its_first_images_are_express() -> None:
    big = job(SHOP, 1_000)
    assert given([big]) == [Share(big.job_id, 256, EXPRESS_IMAGES)]
    assert given([big], held=400)[0].ahead == 800, "enough for all workers"
    assert given([big], held=0)[0].express == EXPRESS_IMAGES


def test_express_images_are_limited_by_the_key_s_share_of_the_workers() -> None:
    jobs = [job(SHOP, 8) for _ in range(5)] + [job(OTHER, 1_000, settled=8)]
    assert [one.express for one in given(jobs)] == [8, 4, 0, 0, 0, 8]
    jobs[0] = job(SHOP, 8, settled=5)
    assert [one.express for one in given(jobs)] == [8, 8, 1, 0, 0, 8], "as they are done"
    assert [one.ahead for one in given(jobs)[:3]] == [3, 8, 8]


def test_small_jobs_of_one_key_fill_the_workers_if_nobody_else_waits() -> None:
    jobs = [job(SHOP, 8) for _ in range(10)]
    assert sum(one.express for one in given(jobs)) == 2 * 24


def test_every_key_gets_express_images_even_with_many_keys() -> None:
    jobs = [job(uuid.uuid4(), 8) for _ in range(100)]
    assert [one.express for one in given(jobs)] == [FEWEST_EXPRESS] * 100


def test_all_keys_get_equal_windows_and_divide_them_among_their_jobs() -> None:
    jobs = [job(SHOP, 500, settled=8) for _ in range(3)] + [job(OTHER, 9_000, settled=8)]
    jobs += [job(SHOP, 20, settled=10)]
    assert [one.ahead for one in given(jobs)] == [82, 82, 82, 256, 10]
    many = [job(SHOP, 100, settled=8) for _ in range(1_000)]
    assert sum(one.ahead for one in given(many)) == 256


def test_each_queue_has_its_own_limit() -> None:
    jobs = [job(uuid.uuid4(), 100, settled=8, model="other") for _ in range(1_000)]
    jobs += [job(SHOP, 10_000)]
    found = given(jobs)
    assert {one.ahead for one in found[:-1]} == {MAX_OUT // 1_000}
    assert found[-1].ahead == 256


def test_models_that_nobody_serves_share_one_limit() -> None:
    jobs = [job(SHOP, 1_000, settled=8, model=f"unknown-{number}") for number in range(100)]
    found = given([*jobs, job(SHOP, 1_000, settled=8), job(SHOP, 1_000, settled=8, model="other")])
    assert sum(one.ahead for one in found[:-2]) == 256
    assert [one.ahead for one in found[-2:]] == [256, 256]
    newcomers = newcomers_beside(jobs)
    assert newcomers.share(job(SHOP, 1_000, model="unknown-x")).ahead == EXPRESS_IMAGES


def test_a_newcomer_gets_no_more_than_its_share_and_the_others_need_not_be_computed() -> None:
    others = [job(SHOP, 500, settled=8) for _ in range(3)] + [job(OTHER, 9_000, settled=8)]
    newcomers = newcomers_beside(others)
    for total in (8, 3, 1_000, 1_000):
        one = job(SHOP, total)
        others.append(one)
        [fair] = [share for share in given(others) if share.job_id == one.job_id]
        mine = newcomers.share(one)
        assert 0 < max(mine.ahead, mine.express) <= max(fair.ahead, EXPRESS_IMAGES)
        assert mine.express <= fair.express
    alone = newcomers_beside([])
    assert alone.share(big := job(SHOP, 1_000)) == Share(big.job_id, 256, EXPRESS_IMAGES)


def test_a_flood_of_newcomers_of_one_key_shares_its_express_images() -> None:
    newcomers = newcomers_beside([job(OTHER, 1_000, settled=8)])
    flood = [newcomers.share(job(SHOP, 8)) for _ in range(50)]
    assert sum(one.express for one in flood) == 12
    assert all(one.ahead <= 8 for one in flood)


def test_a_result_that_a_person_waits_for_precedes_the_key_s_other_jobs() -> None:
    key = uuid.uuid4()
    jobs = [job(key, 8) for _ in range(5)]
    redo = dataclasses.replace(job(key, 1), makes_version=True)
    express = {share.job_id: share.express for share in given([*jobs, redo], held=4)}
    assert express[redo.job_id] == 1


def test_segments_of_a_clip_go_although_they_are_few_and_never_by_the_express_lane() -> None:
    key = new_id()
    clip = dataclasses.replace(job(key, 1), has_urls=True)
    parts = dataclasses.replace(job(key, 5), has_urls=True, of_clip=True)
    assert parts.express_left == 0
    of_parts = [one for one in given([clip, parts]) if one.job_id == parts.job_id]
    assert [(one.ahead, one.urls) for one in of_parts] == [(5, 5)]
