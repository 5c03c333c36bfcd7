"""What a job would take, before it runs: images, megapixels, time at the present rate."""

import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from api.http.auth import Caller
from api.resources import Resources
from api.schemas.responses import Estimate
from api.sources.archive_disk import ArchiveDisk
from api.sources.image_size import image_size
from api.sources.listing import pages
from api.sources.rows import RowReader
from api.sources.source_policy import SourcePolicy
from api.submissions.intake import Submission
from shared import job_store
from shared.errors import InvalidOptionsError, MattingError
from shared.models import Job, new_id
from shared.object_url import ObjectUrl

SAMPLE = 24
"""Photos whose headers are read; the rest are taken to be like them."""

HEADER_BYTES = 64 * 1024
MAX_COUNTED = 200_000
"""Images of a prefix or a manifest that are counted; beyond, the answer says `at_least`."""

SAMPLE_SEED = 0


def estimate(resources: Resources, caller: Caller, submission: Submission) -> Estimate:
    """Look at the source, submit nothing. Raises RequestError, ImageError, TransientError."""
    source = submission.request.source
    if source is None:
        raise InvalidOptionsError("`dry_run` takes a source that is named, not files")
    policy = SourcePolicy(resources.settings, caller.api_key_id, caller.sources)
    policy.options(submission.request.options)
    if source.zip is not None:
        raise InvalidOptionsError("`dry_run` does not unpack zip files")
    places, complete = _places(resources, policy, submission)
    sizes = _sizes(resources, places)
    with resources.database.transaction() as session:
        rate = job_store.recent_rate(session)
    megapixels = statistics.fmean(sizes) * len(places) if sizes else None
    seconds = None
    if rate and megapixels is not None and rate.megapixels_per_s:
        seconds = max(len(places) / rate.images_per_s, megapixels / rate.megapixels_per_s)
    return Estimate(
        images=len(places),
        at_least=not complete,
        megapixels=round(megapixels, 1) if megapixels is not None else None,
        sampled=len(sizes),
        images_per_s=round(rate.images_per_s, 2) if rate else None,
        seconds=round(seconds, 1) if seconds is not None else None,
    )


def _places(
    resources: Resources, policy: SourcePolicy, submission: Submission
) -> tuple[list[str], bool]:
    """The sources that would be done, each once, and whether these are all."""
    source = submission.request.source
    assert source is not None
    kept: dict[str, object] | None = None
    if source.prefix is not None:
        kept = {"kind": "prefix", "prefix": str(policy.object(source.prefix, prefix=True))}
    elif source.manifest is not None:
        kept = {"kind": "manifest", "object": str(policy.object_or_upload(source.manifest))}
    if kept is None:
        reader = RowReader(policy, submission.request.options)
        rows = source.rows()
        items = [reader.item(row, number) for number, row in enumerate(rows, 1)]
        for item in items:
            if item.error is not None:
                raise item.error
        return list(dict.fromkeys(item.source for item in items)), True
    job = Job(
        id=new_id(),
        api_key_id=policy.api_key_id,
        source=kept,
        options=submission.request.options.model_dump(mode="json"),
    )
    disk = ArchiveDisk(resources.settings.archive_disk_bytes)
    every = (
        item.source
        for page in pages(job, resources.storage, resources.settings, policy.sources, disk)
        for item in page.items
        if item.error is None
    )
    found = list(dict.fromkeys(islice(every, MAX_COUNTED + 1)))
    return found[:MAX_COUNTED], len(found) <= MAX_COUNTED


def _sizes(resources: Resources, places: Sequence[str]) -> list[float]:
    """Megapixels of a sample of the photos in S3."""
    stored = [place for place in places if place.startswith("s3://")]
    chosen = random.Random(SAMPLE_SEED).sample(stored, min(SAMPLE, len(stored)))  # noqa: S311
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda place: _size(resources, place), chosen))
    return [size for size in sizes if size is not None]


def _size(resources: Resources, place: str) -> float | None:
    url = ObjectUrl.parse(place, "")
    try:
        data, _ = resources.storage.head(url.bucket, url.key, HEADER_BYTES)
        width, height = image_size(data)
    except MattingError:
        return None  # it will fail by itself
    return width * height / 1e6
