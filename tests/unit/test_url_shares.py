"""How many photos by URL each key and each job may have on their way."""

import uuid
from dataclasses import replace

from shared.job_store import OpenJob
from shared.models import new_id
from shared.shares import NewcomerShares, Share, shares
from shared.url_shares import url_rooms

SHOP, OTHER, THIRD = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
PLACES = 40


def urls(key: uuid.UUID, total: int, *, out: int = 0) -> OpenJob:
    return OpenJob(
        job_id=new_id(),
        api_key_id=key,
        model=None,
        total=total,
        queued=total - out,
        unsettled=total,
        has_urls=True,
        only_urls=True,
        urls_out=out,
    )


def rooms(*jobs: OpenJob) -> list[int]:
    found = url_rooms(jobs, PLACES, {job.job_id: job.total for job in jobs})
    return [found[job.job_id] for job in jobs]


def given(*jobs: OpenJob) -> list[Share]:
    return shares(jobs, ahead=256, held=24, url_places=PLACES)


def test_a_quarter_of_the_places_stays_free_beside_a_single_key() -> None:
    assert rooms(urls(SHOP, 1_000)) == [30]
    assert rooms(urls(SHOP, 1_000, out=12)) == [18]
    assert rooms(urls(SHOP, 1_000, out=30)) == [0]


def test_keys_share_the_places_equally() -> None:
    assert rooms(urls(SHOP, 1_000), urls(OTHER, 20), urls(THIRD, 3)) == [10, 10, 3]
    assert rooms(urls(SHOP, 1_000, out=30), urls(OTHER, 20)) == [0, 15]


def test_many_jobs_of_one_key_have_no_more_on_their_way_than_one() -> None:
    assert sum(rooms(*(urls(SHOP, 8) for _ in range(1_000)))) == 30
    flood = [urls(SHOP, 1_000, out=30), *(urls(SHOP, 8) for _ in range(100))]
    assert sum(rooms(*flood)) == 0


def test_the_jobs_with_the_fewest_on_their_way_come_first() -> None:
    assert rooms(urls(SHOP, 1_000, out=27), urls(SHOP, 8), urls(SHOP, 8)) == [0, 2, 1]
    assert rooms(urls(SHOP, 1_000), urls(SHOP, 4)) == [26, 4]


def test_room_goes_to_jobs_whose_images_may_go() -> None:
    small = [urls(SHOP, 8) for _ in range(100)]
    found = [one.urls for one in given(*small)]
    assert found == [5] * 6, "48 images of six jobs are in the express lane, the others wait"


def test_every_key_may_send_one_even_if_there_are_more_keys_than_places() -> None:
    assert rooms(*(urls(uuid.uuid4(), 9) for _ in range(200))) == [1] * 200


def test_a_job_whose_key_has_no_room_sends_nothing_unless_it_has_other_photos() -> None:
    full = urls(SHOP, 1_000, out=30)
    assert given(full) == []
    mixed = replace(urls(SHOP, 1_000), only_urls=False)
    [share] = given(full, mixed)
    assert (share.job_id, share.urls) == (mixed.job_id, 0)


def test_photos_in_the_storage_are_not_limited() -> None:
    stored = replace(urls(SHOP, 1_000), has_urls=False, only_urls=False)
    assert given(stored)[0].urls is None


def test_a_flood_of_newcomers_of_one_key_stays_within_its_share() -> None:
    newcomers = NewcomerShares([urls(OTHER, 5)], ahead=256, held=24, url_places=PLACES)
    assert sum(newcomers.share(urls(SHOP, 20)).urls or 0 for _ in range(100)) == 15
    assert newcomers.share(urls(THIRD, 8)).urls == 8
    beside_its_own = NewcomerShares([urls(SHOP, 500)], ahead=256, held=24, url_places=PLACES)
    assert beside_its_own.share(urls(SHOP, 8)).urls == 0, "the reconciler divides the key's share"
