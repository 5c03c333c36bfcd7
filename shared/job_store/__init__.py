"""Every query, by what it does. The caller owns the transaction; nothing here commits.

Locks are taken in one order everywhere: job rows by id first, then item rows. So two transactions
wait for each other at most in a line, never in a circle.
"""

from shared.job_store.api_keys import (
    allowed_sources,
    create_api_key,
    find_api_key,
    list_api_keys,
    revoke_api_key,
)
from shared.job_store.backlog import Backlog, backlog
from shared.job_store.control import (
    cancel_job,
    delete_job,
    pause_job,
    resume_job,
    retry_failed,
)
from shared.job_store.disposal import (
    deleted_in_use,
    deleted_jobs,
    existing_jobs,
    expire_jobs,
    objects_named_by_jobs,
    remove_job,
    sources_still_needed,
    sources_under,
)
from shared.job_store.expired_leases import release_expired_leases
from shared.job_store.intake import (
    NewItem,
    add_items,
    add_page,
    create_job,
    finish_expansion,
    load_job,
)
from shared.job_store.leader_leases import acquire_leader_lease, release_leader_lease
from shared.job_store.leases import (
    Claim,
    Settlement,
    SettlementState,
    claim_many,
    finish_many,
    must_run_alone,
    renew_leases,
)
from shared.job_store.outbox import announce_test, job_data
from shared.job_store.publishing import (
    PublishableItem,
    forget_publication,
    mark_published_many,
    open_jobs,
    publishable,
    unexpanded_jobs,
)
from shared.job_store.reading import (
    Rate,
    ended_jobs_among,
    get_item,
    get_job,
    is_at_rest,
    list_items,
    list_jobs,
    recent_rate,
)
from shared.job_store.reuse import EarlierResult, find_earlier_results
from shared.job_store.review import record_verdict
from shared.job_store.submissions import (
    find_submission,
    forget_submissions,
    remember_submission,
)
from shared.job_store.usage import images_left, month_of, take_from_quota, usage_of
from shared.job_store.webhook_deliveries import (
    Attempt,
    AttemptResult,
    claim_deliveries,
    forget_deliveries,
    get_delivery,
    list_deliveries,
    record_attempt,
    redeliver,
)
from shared.job_store.webhooks import (
    create_webhook,
    delete_webhook,
    disable_webhook,
    enable_webhook,
    get_webhook,
    list_webhooks,
    old_secret_until,
    rotate_secret,
)
from shared.job_store.workers import (
    beat,
    forget_worker,
    images_held,
    live_workers,
    register_worker,
)

__all__ = [
    "Attempt",
    "AttemptResult",
    "Backlog",
    "Claim",
    "EarlierResult",
    "NewItem",
    "PublishableItem",
    "Rate",
    "Settlement",
    "SettlementState",
    "acquire_leader_lease",
    "add_items",
    "add_page",
    "allowed_sources",
    "announce_test",
    "backlog",
    "beat",
    "cancel_job",
    "claim_deliveries",
    "claim_many",
    "create_api_key",
    "create_job",
    "create_webhook",
    "delete_job",
    "delete_webhook",
    "deleted_in_use",
    "deleted_jobs",
    "disable_webhook",
    "enable_webhook",
    "ended_jobs_among",
    "existing_jobs",
    "expire_jobs",
    "find_api_key",
    "find_earlier_results",
    "find_submission",
    "finish_expansion",
    "finish_many",
    "forget_deliveries",
    "forget_publication",
    "forget_submissions",
    "forget_worker",
    "get_delivery",
    "get_item",
    "get_job",
    "get_webhook",
    "images_held",
    "images_left",
    "is_at_rest",
    "job_data",
    "list_api_keys",
    "list_deliveries",
    "list_items",
    "list_jobs",
    "list_webhooks",
    "live_workers",
    "load_job",
    "mark_published_many",
    "month_of",
    "must_run_alone",
    "objects_named_by_jobs",
    "old_secret_until",
    "open_jobs",
    "pause_job",
    "publishable",
    "recent_rate",
    "record_attempt",
    "record_verdict",
    "redeliver",
    "register_worker",
    "release_expired_leases",
    "release_leader_lease",
    "remember_submission",
    "remove_job",
    "renew_leases",
    "resume_job",
    "retry_failed",
    "revoke_api_key",
    "rotate_secret",
    "sources_still_needed",
    "sources_under",
    "take_from_quota",
    "unexpanded_jobs",
    "usage_of",
]
