"""The columns of a job's report; what is not among them is a column of the caller's own."""

COLUMNS = (
    "id",
    "custom_id",
    "name",
    "source",
    "kind",
    "group",
    "seconds",
    "doubts",
    "status",
    "error_code",
    "error_detail",
    "output_key",
    "output_url",
    "outputs",
    "destination",
    "width",
    "height",
    "input_bytes",
    "output_bytes",
    "needs_review",
    "review_reasons",
    "model",
    "verdict",
    "unmet_rules",
    "reused",
    "attempts",
    "total_ms",
    "finished_at",
    "options",
)

URL_COLUMNS = ("result_url", "output_urls", "urls_expire_at")
"""The columns that `include=urls` adds."""
