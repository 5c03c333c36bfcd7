"""Estimates a job before it runs: images, megapixels, duration at the present rate."""

import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

from api.http.auth import Caller
from api.resources import Resources
from api.schemas.responses import Estimate
from api.sources.image_size import image_size
from api.sources.listed_pages import Pause
from api.sources.listing import pages
from api.sources.rows import RowReader
from api.sources.source_policy import SourcePolicy
from api.submissions.checked_names import CheckedNames
from api.submissions.intake import Submission, check_naming
from shared import job_store
from shared.errors import BadResultNameError, InvalidOptionsError, MattingError
from shared.job_store import NewItem
from shared.models import Job, new_id
from shared.object_url import ObjectUrl

SAMPLE = 24
"""Number of photos whose headers are read; the other photos count as equal to these."""

HEADER_BYTES = 64 * 1024
MAX_COUNTED = 200_000
"""About how many rows of a prefix or manifest are read; then the response says `at_least`."""

SAMPLE_SEED = 0


def estimate(resources: Resources, caller: Caller, submission: Submission) -> Estimate:
    """Estimate a source without submitting it. Raises RequestError, ImageError, TransientError."""
    source = submission.source
    if source is None:
        raise InvalidOptionsError("With `dry_run`, name the photos in `source`; it takes no files")
    policy = SourcePolicy(resources.settings, caller.api_key_id, caller.sources)
    policy.options(submission.request.options)
    check_naming(resources, caller, submission)
    if source.zip is not None:
        raise InvalidOptionsError("`dry_run` can't look into zip files")
    found = _places(resources, policy, submission)
    sizes = _sizes(resources, found.sample)
    with resources.database.transaction() as session:
        rate = job_store.recent_rate(session)
    megapixels = statistics.fmean(sizes) * found.count if sizes else None
    seconds = None
    if rate and megapixels is not None and rate.megapixels_per_s:
        seconds = max(found.count / rate.images_per_s, megapixels / rate.megapixels_per_s)
    return Estimate(
        images=found.count,
        at_least=not found.complete,
        megapixels=round(megapixels, 1) if megapixels is not None else None,
        sampled=len(sizes),
        images_per_s=round(rate.images_per_s, 2) if rate else None,
        seconds=round(seconds, 1) if seconds is not None else None,
    )


class _Places:
    """The rows of the job, each counted once, and a uniform sample of the photos in S3."""

    def __init__(self) -> None:
        self.sample: list[str] = []
        self.complete = True
        # Hashes, because sources may have a kilobyte each.
        self._seen: set[int] = set()
        self._stored = 0
        self._random = random.Random(SAMPLE_SEED)  # noqa: S311

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self._seen)

    def add(self, item: NewItem) -> None:
        """Count a row, and keep its photo with equal probability (reservoir sampling)."""
        place = item.source
        mark = hash((place, item.mark))
        if mark in self._seen:
            return
        self._seen.add(mark)
        if not place.startswith("s3://"):
            return
        self._stored += 1
        if len(self.sample) < SAMPLE:
            self.sample.append(place)
        elif (slot := self._random.randrange(self._stored)) < SAMPLE:
            self.sample[slot] = place


def _places(resources: Resources, policy: SourcePolicy, submission: Submission) -> _Places:
    source = submission.source
    assert source is not None
    found, names = _Places(), CheckedNames(submission.request)
    rows = number = 0
    kept: dict[str, object] | None = None
    if source.prefix is not None:
        kept = {"kind": "prefix", "prefix": str(policy.prefix(source.prefix))}
    elif source.manifest is not None:
        feed = submission.request.feed
        kept = {"kind": "manifest", "object": str(policy.object_or_upload(source.manifest))}
        kept |= {"feed": feed.value} if feed is not None else {}
    if kept is None:
        reader = RowReader(policy, submission.request.options)
        for number, row in enumerate(source.rows(), 1):
            item = reader.item(row, number)
            if item.error is not None:
                raise item.error
            names.add(item, number)
            found.add(item)
        return found
    job = Job(
        id=new_id(),
        api_key_id=policy.api_key_id,
        source=kept,
        options=submission.request.options.model_dump(mode="json"),
        destination=submission.request.destination,
    )
    listing = pages(job, resources.storage, resources.settings, policy.sources)
    with closing(listing):
        for page in listing:
            if isinstance(page, Pause):
                continue
            rows += len(page.items) + page.without_photo
            for item in page.items:
                number += 1
                if item.error is None:
                    with suppress(BadResultNameError):  # such a row fails alone
                        names.add(item, number)
                    found.add(item)
            if rows >= MAX_COUNTED:
                found.complete = False
                break
    return found


def _sizes(resources: Resources, places: Sequence[str]) -> list[float]:
    """The megapixels of a sample of the photos in S3."""
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda place: _size(resources, place), places))
    return [size for size in sizes if size is not None]


def _size(resources: Resources, place: str) -> float | None:
    url = ObjectUrl.parse(place, "")
    try:
        data, _ = resources.storage.head(url.bucket, url.key, HEADER_BYTES)
        width, height = image_size(data)
    except MattingError:
        return None  # such a photo fails alone
    return width * height / 1e6
