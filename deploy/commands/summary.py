"""The end of a job in one sentence: how many images are ready, to check, too small, or failed."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from api.client import Item, Job, MattingClient

MOST_COUNTED = 50_000
"""Images whose rules are counted; a larger job's are in its report."""

RULES = (
    ("The (width|height|longest side) is", "requires at least", "too small", "add enlarge=true"),
    ("The longest side is", "accepts at most", "too large", "set max_side_px"),
    ("It has", "accepts at most", "too large", "set max_megapixels"),
    ("The file has", "accepts at most", "too many bytes", "set max_bytes"),
    ("The file has", "requires at least", "too few bytes", "raise quality"),
    ("Width / height is", "requires", "the wrong shape", "set canvas"),
    ("The format is", "accepts", "the wrong format", "set format"),
    ("The colour", "requires", "the wrong colours", "set colour_profile=srgb"),
    ("The subject (fills|is)", "requires at least", "a subject too small", "set scale"),
    ("The subject fills", "accepts at most", "a subject too large", "set scale"),
)
"""How the sentences of worker.imaging.marketplace_rules begin and what follows the marketplace's
name; what this means for the whole job, and what to do."""

WITHOUT_MARKET = (
    (
        "The background is not white|.*background are not exactly white$",
        "without a pure white background (set background=white)",
    ),
    ("There is no subject", "without a subject"),
    ("The file has .*; `max_bytes` is", "larger than max_bytes (set max_side_px)"),
)
"""The same for sentences that name no marketplace."""


@dataclass(slots=True)
class Tally:
    """Numbers of images."""

    total: int
    done: int = 0
    to_check: int = 0
    cancelled: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """By error code."""
    against_rules: int = 0
    """Those that miss a rule of a marketplace, or `max_bytes`, without those to check."""
    unmet: Counter[str] = field(default_factory=Counter)
    """By what is wrong for a marketplace; of all, also of those to check."""

    def sentence(self) -> str:
        """`120 done: 1 ready, 42 to check, 77 against a rule; 118 too small for Amazon (…)`: the
        parts before the semicolon add up.
        """
        parts = [f"{max(0, self.done - self.to_check - self.against_rules):,} ready"]
        if self.to_check:
            parts.append(f"{self.to_check:,} to check")
        if self.against_rules:
            parts.append(f"{self.against_rules:,} against a rule")
        if not self.done:
            parts = []
        text = f"{self.done:,} done" + (f": {', '.join(parts)}" if parts else "")
        if self.unmet:
            rules = (f"{count:,} {words}" for words, count in self.unmet.most_common())
            text += f"; {', '.join(rules)}"
        if failed := self.failed.total():
            codes = ", ".join(f"{count:,} {code}" for code, count in self.failed.most_common())
            text += f"; {failed:,} failed" + (f": {codes}" if any(self.failed) else "")
        if self.cancelled:
            text += f"; {self.cancelled:,} cancelled"
        left = self.total - self.done - failed - self.cancelled
        return f"{text}; {left:,} to do" if left > 0 else text

    def add_rules(self, unmet: Iterable[str], *, to_check: bool) -> None:
        """Count the rules that one image fails, each kind once."""
        kinds = dict.fromkeys(map(kind_of, unmet))
        self.unmet.update(kinds.keys())
        self.against_rules += bool(kinds) and not to_check


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
            found.add_rules(_rules_of(item), to_check=item["needs_review"])
    return found


def _has_rules(job: Job) -> bool:
    options = job["options"]
    outputs = (options, *options.get("extra_outputs", ()))
    return any(one.get("market") or one.get("max_bytes") for one in outputs)


def _rules_of(item: Item) -> Iterable[str]:
    return (rule for output in item["outputs"] for rule in output["unmet"])


def kind_of(rule: str) -> str:
    """What a sentence of the rules means for the whole job; the sentence itself if it is new."""
    for begin, verb, what, remedy in RULES:
        if match := re.match(f"{begin} .*?; (?P<market>.+?) {verb}", rule):
            return f"{what} for {match['market']} ({remedy})"
    for begin, words in WITHOUT_MARKET:
        if re.match(begin, rule):
            return words
    return rule
