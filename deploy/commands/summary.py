"""The end of a job in one sentence: how many images are ready, to check, too small, or failed."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from api.client import Item, Job, MattingClient

MOST_COUNTED = 50_000
"""Images whose rules are counted; a larger job's are in its report."""

RULES: Sequence[tuple[re.Pattern[str], str]] = [
    (
        re.compile(r"^The (width|height|longest side) is .*; (?P<market>.+?) requires at least"),
        "too small for {market} (add enlarge=true)",
    ),
    (
        re.compile(r"^The longest side is .*; (?P<market>.+?) accepts at most"),
        "too large for {market} (set max_side_px)",
    ),
    (
        re.compile(r"^It has .* MP; (?P<market>.+?) accepts at most"),
        "too large for {market} (set max_megapixels)",
    ),
    (
        re.compile(r"^The file has .* bytes; (?P<market>.+?) accepts at most"),
        "too many bytes for {market} (set max_bytes)",
    ),
    (
        re.compile(r"^The file has .* bytes; (?P<market>.+?) requires at least"),
        "too few bytes for {market} (raise quality)",
    ),
    (
        re.compile(r"^Width / height is .*; (?P<market>.+?) requires"),
        "the wrong shape for {market} (set canvas)",
    ),
    (
        re.compile(r"^The format is .*; (?P<market>.+?) accepts"),
        "the wrong format for {market} (set format)",
    ),
    (
        re.compile(r"^The colour .*; (?P<market>.+?) requires"),
        "the wrong colours for {market} (set colour_profile=srgb)",
    ),
    (
        re.compile(r"^The subject (fills|is) .*; (?P<market>.+?) requires at least"),
        "a subject too small for {market} (set scale)",
    ),
    (
        re.compile(r"^The subject fills .*; (?P<market>.+?) accepts at most"),
        "a subject too large for {market} (set scale)",
    ),
    (
        re.compile(r"^The background is not white|background are not exactly white$"),
        "without a pure white background (set background=white)",
    ),
    (re.compile(r"^There is no subject"), "without a subject"),
]
"""What the sentences of worker.imaging.marketplace_rules mean for the whole job, and what to do."""


@dataclass(slots=True)
class Tally:
    """Numbers of images."""

    total: int
    done: int = 0
    to_check: int = 0
    cancelled: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """By error code."""
    unmet: Counter[str] = field(default_factory=Counter)
    """By what is wrong for a marketplace."""

    def sentence(self) -> str:
        """`120 done: 78 ready, 42 to check, 118 too small for Amazon (add enlarge=true)`."""
        parts = [f"{self.done - self.to_check:,} ready"]
        if self.to_check:
            parts.append(f"{self.to_check:,} to check")
        parts += [f"{count:,} {words}" for words, count in self.unmet.most_common()]
        if not self.done:
            parts = []
        text = f"{self.done:,} done" + (f": {', '.join(parts)}" if parts else "")
        if failed := self.failed.total():
            codes = ", ".join(f"{count:,} {code}" for code, count in self.failed.most_common())
            text += f"; {failed:,} failed" + (f": {codes}" if any(self.failed) else "")
        if self.cancelled:
            text += f"; {self.cancelled:,} cancelled"
        left = self.total - self.done - failed - self.cancelled
        return f"{text}; {left:,} to do" if left > 0 else text

    def add_rules(self, unmet: Iterable[str]) -> None:
        """Count the rules that one image fails, each kind once."""
        self.unmet.update(dict.fromkeys(map(_kind, unmet)).keys())


def tally(client: MattingClient, job: Job) -> Tally:
    """Count a job's images. Reads its items only if some failed or a marketplace's rules count."""
    counts = job["counts"]
    found = Tally(
        total=counts["total"],
        done=counts["succeeded"],
        to_check=job["review"]["needs_review"],
        cancelled=counts["cancelled"],
    )
    failed = islice(client.items(job["id"], status="failed"), MOST_COUNTED)
    if counts["failed"]:
        found.failed.update(item["error"]["code"] if item["error"] else "" for item in failed)
        found.failed[""] += max(0, counts["failed"] - found.failed.total())
        found.failed += Counter()  # without zeros
    if _has_rules(job) and counts["succeeded"]:
        done = islice(client.items(job["id"], status="succeeded"), MOST_COUNTED)
        for item in done:
            found.add_rules(_rules_of(item))
    return found


def _has_rules(job: Job) -> bool:
    options = job["options"]
    return any(one.get("market") for one in (options, *options.get("extra_outputs", ())))


def _rules_of(item: Item) -> Iterable[str]:
    return (rule for output in item["outputs"] for rule in output["unmet"])


def _kind(rule: str) -> str:
    for pattern, words in RULES:
        if match := pattern.search(rule):
            return words.format(**match.groupdict())
    return rule
