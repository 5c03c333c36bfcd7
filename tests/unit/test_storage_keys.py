"""Keys from callers are normalised as the most tolerant server would read them, and then
checked.
"""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.sources.source_policy import SourcePolicy
from shared.errors import ForbiddenSourceError
from shared.object_url import ObjectUrl
from shared.settings import Settings

SETTINGS = Settings(s3_bucket="matting", source_buckets="photos")
REACH = SourcePolicy(SETTINGS, uuid.uuid4())


@pytest.mark.parametrize(
    "key",
    [
        "s3://photos/../matting/x.jpg",
        "s3://photos/a/%2e%2e/x.jpg",
        "s3://photos/a/%252e%252e%252fx.jpg",
        "s3://photos/a/..%2fx.jpg",
        "s3://photos/a/．．/x.jpg",  # fullwidth full stops
        "s3://photos/a／..／x.jpg",  # fullwidth solidus
        "s3://photos/a/‥/x.jpg",  # two dot leader
        "s3://photos/a\\..\\x.jpg",
        "s3://photos//matting/x.jpg",
        "s3:///x.jpg",
        "a\x00b.jpg",
        "a%00b.jpg",
        "jobs/x/results/y.png",
        "/jobs/x/results/y.png",
        "jobs//x",
        "%6aobs/x",
        "jobs%2fx",
        "ｊobs/x",
        "uploads/someone/x",
        "s3://matting/jobs/x",
        "s3://Photos/x.jpg",
        "s3://ｐhotos/x.jpg",
    ],
)
def test_a_key_that_points_elsewhere_is_refused(key: str) -> None:
    with pytest.raises(ForbiddenSourceError):
        REACH.object(key)


@pytest.mark.parametrize(
    "key",
    ["s3://photos/Größe/図1.jpg", "a b/c+d.jpg", "100%.jpg", "a...b/..c.jpg", "my/jobs/x.jpg"],
)
def test_plain_keys_stay_unchanged(key: str) -> None:
    url = REACH.object(key)
    assert str(url).endswith(key.removeprefix("s3://"))


@given(st.text(max_size=60))
def test_every_accepted_key_is_within_the_allowed_folders(text: str) -> None:
    bound = SourcePolicy(SETTINGS, REACH.api_key_id, ["s3://photos/shop/"])
    try:
        url = bound.object("s3://photos/shop/" + text)
    except ForbiddenSourceError:
        return
    assert url.bucket == "photos"
    assert url.key.startswith("shop/")
    assert ".." not in url.key.split("/")
    assert isinstance(url, ObjectUrl)
