"""Every knob of the system, in one class: its default, its unit, one line of why.

Read from the environment with the prefix `MATTING_` (and `.env` if there is one); the two storage
credentials keep the names that every S3 tool knows. Times carry `_ms` or `_s`, sizes `_bytes`.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]


def _usable_cores() -> int:
    """The cores this process may run on: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def _empty_is_none(value: object) -> object:
    """An empty variable in a compose file means: not set."""
    return None if value == "" else value


def _split(names: str) -> list[str]:
    return [name for one in names.split(",") if (name := one.strip())]


def _numbers(value: object) -> object:
    """`5, 300` in a variable is two numbers."""
    return value.split(",") if isinstance(value, str) else value


OptionalPath = Annotated[Path | None, BeforeValidator(_empty_is_none)]


class Settings(BaseSettings):
    """One frozen value, made once per process by `get_settings`."""

    model_config = SettingsConfigDict(
        env_prefix="MATTING_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    # Where the parts are.
    database_url: str = Field(
        "sqlite:///matting.db", description="SQLAlchemy URL; postgresql+psycopg:// in production."
    )
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="The queue.")
    s3_endpoint_url: Annotated[str | None, BeforeValidator(_empty_is_none)] = Field(
        None, description="MinIO or another S3; none is AWS."
    )
    s3_public_endpoint_url: Annotated[str | None, BeforeValidator(_empty_is_none)] = Field(
        None,
        description="The S3 address that customers reach, if another: it goes into presigned URLs.",
    )
    s3_bucket: str = Field("matting", description="Holds uploads and results.")
    s3_region: str = Field("us-east-1", description="MinIO takes any.")
    aws_access_key_id: SecretStr | None = Field(
        None, validation_alias=AliasChoices("AWS_ACCESS_KEY_ID", "aws_access_key_id")
    )
    aws_secret_access_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key")
    )

    # The queue.
    queue_visibility_timeout_s: int = Field(
        600,
        ge=10,
        description="After this Redis hands an unacknowledged message out again; above the longest "
        "batch. Work of a dead worker comes back sooner, by its lease.",
    )
    publish_ahead: int = Field(
        256,
        ge=1,
        description="Messages of one key on the queue at a time, or twice what all workers hold if "
        "that is more: a small job submitted after a large one waits for these, not for all of it.",
    )
    publish_every_ms: int = Field(
        200, ge=10, description="How often the API fills the queue up to `publish_ahead`."
    )
    lease_s: float = Field(
        20, gt=1, description="A claimed image is another's after this long without a heartbeat."
    )
    heartbeat_s: float = Field(5, gt=0, description="How often a worker renews its leases.")
    reconcile_s: float = Field(
        2, gt=0, description="How often the API looks for work that got lost or fell due."
    )
    max_attempts: int = Field(4, ge=1, description="Tries of an image before its error is final.")
    retry_base_s: float = Field(
        2, gt=0, description="Wait before the second try; doubles each time, with jitter."
    )
    retry_max_s: float = Field(300, gt=0, description="The longest wait between tries.")

    # The model and the device.
    model: str = Field(
        "builtin", description="`builtin`, a catalog name, or a folder with a PaddleSeg export."
    )
    models: str = Field(
        "", description="Other models that jobs may name in their options, separated by commas."
    )
    worker_models: str = Field(
        "",
        description="The models that this worker serves, separated by commas; none: MATTING_MODEL "
        "and all of MATTING_MODELS. Each takes its own memory.",
    )
    models_dir: Path = Field(Path("models"), description="Where pulled models lie.")
    models_url: str = Field(
        "https://paddleseg.bj.bcebos.com/matting/models/deploy",
        description="Where `matting models pull NAME` finds NAME.zip: PaddleSeg's own place, or a "
        "mirror of it.",
    )
    onnx_models_url: str = Field(
        "https://github.com/danielgatis/rembg/releases/download/v0.0.0",
        description="Where `matting models pull NAME` finds ONNX files: rembg's release, or a "
        "mirror of it.",
    )
    device: str = Field("cpu", pattern=r"^(cpu|(gpu|xpu|npu):\d+)$", description="cpu, gpu:0, …")
    precision: Precision = Field(
        "auto", description="auto is fp32; bf16 on a CPU, fp16 and int8 with TensorRT."
    )
    tensorrt: bool = Field(False, description="On a GPU: build and keep a TensorRT engine.")
    cpu_threads: int = Field(
        default_factory=_usable_cores,
        ge=1,
        description="Threads of the forward passes on a CPU, shared by the streams.",
    )
    predict_streams: Annotated[int | None, BeforeValidator(_empty_is_none)] = Field(
        None,
        ge=1,
        le=64,
        description="Networks that run side by side; none: tuned, or on a CPU one for each thread "
        "up to 4, and 1 on a device.",
    )
    gpu_memory_pool_mb: int = Field(512, ge=64, description="Paddle's initial device memory pool.")
    engine_cache_dir: OptionalPath = Field(
        None,
        description="Where TensorRT engines and shape files are kept; none is the model's folder.",
    )
    tune_file: OptionalPath = Field(
        None, description="What `matting tune` wrote; read at start. None: <models_dir>/tune.json."
    )
    profile_engine: bool = Field(
        False, description="Let Paddle print its operator profile at exit."
    )

    # Batches.
    batch_size: Annotated[int | None, BeforeValidator(_empty_is_none)] = Field(
        None,
        ge=1,
        le=256,
        description="Messages taken as one batch; none: tuned, or 8 on a CPU and 32 on a device.",
    )
    predict_batch_size: Annotated[int | None, BeforeValidator(_empty_is_none)] = Field(
        None,
        ge=1,
        le=256,
        description="Images of one shape in one forward pass; none: tuned, or 1 on a CPU (where a "
        "larger one gains nothing) and 16 on a device.",
    )
    batch_wait_ms: int = Field(
        50, ge=1, description="A batch that is not full goes out after this long."
    )
    batches_in_flight: int = Field(
        3,
        ge=1,
        le=8,
        description="While one is on the device, others fetch, decode, encode, store.",
    )
    io_threads: int = Field(
        8, ge=1, le=64, description="Threads that fetch and store: they wait for the storage."
    )
    url_threads: int = Field(
        16,
        ge=1,
        le=256,
        description="Threads that fetch photos from URLs, and how many such photos a worker has in "
        "flight: servers that hang hold these, and never the storage's.",
    )
    codec_threads: int = Field(
        default_factory=_usable_cores,
        ge=1,
        description="Threads that decode and encode: they compute.",
    )

    # Limits, checked before decoding.
    max_image_bytes: int = Field(50 * 1024**2, ge=1, description="Of one file.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Of one image, from its header.")
    max_decoded_pixels: int = Field(
        300_000_000,
        ge=1,
        description="Of all photos that a worker holds decoded at a time, at 5 to 10 bytes each; a "
        "larger batch goes in parts.",
    )
    image_timeout_s: float = Field(
        60,
        gt=0,
        description="For decoding one image, and for finishing it; one that hangs a native library "
        "fails, and its worker starts anew.",
    )
    max_request_bytes: int = Field(
        1024**3, ge=1024, description="Of one request body (a multipart of many files)."
    )
    max_json_bytes: int = Field(
        72 * 1024**2, ge=1024, description="Of a body that is no multipart: it is held in memory."
    )
    max_bodies_bytes: int = Field(
        128 * 1024**2,
        ge=1024,
        description="Of all bodies that one API process holds in memory at a time; beyond, it "
        "answers 503 with Retry-After.",
    )
    headers_timeout_s: float = Field(
        15, gt=0, description="A connection whose request does not begin within this is closed."
    )
    body_timeout_s: float = Field(
        30, gt=0, description="A request whose body brings nothing for this long is ended."
    )
    requests_per_min: int = Field(
        6_000, ge=1, description="Of one API key that has no rate of its own; as many at once."
    )
    max_files_per_request: int = Field(1_000, ge=1, description="Parts of one multipart.")
    max_keys_per_job: int = Field(100_000, ge=1, description="Keys named in one request.")
    max_archive_bytes: int = Field(
        20 * 1024**3, ge=1, description="Of a zip file, packed and unpacked."
    )
    max_url_redirects: int = Field(5, ge=0, le=20, description="Of a photo's URL.")
    url_timeout_s: float = Field(30, gt=0, description="For a photo from its URL, all in all.")
    allow_private_addresses: bool = Field(
        False,
        description="Let URLs of callers, of photos and of webhooks, lead to private and loopback "
        "addresses; for closed networks only.",
    )
    source_buckets: str = Field(
        "",
        description="Other buckets that callers may name as sources, separated by commas; the own "
        "one always counts.",
    )
    upload_url_ttl_s: int = Field(
        86_400, ge=60, le=604_800, description="Life of a presigned upload URL."
    )

    # Jobs.
    failure_share: float = Field(
        0.5, ge=0, le=1, description="A job is paused when more of its images fail; 1: never."
    )
    failure_after: int = Field(
        1_000, ge=1, description="Images that must be settled before that is looked at."
    )
    idempotency_ttl_s: int = Field(
        86_400, ge=60, description="How long an Idempotency-Key stands for its job."
    )
    retention_days: float = Field(
        0,
        ge=0,
        description="Jobs that ended longer ago are deleted with their files, and older uploads "
        "that no job names; 0: never.",
    )

    # Webhooks.
    webhook_retries_s: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], NoDecode, BeforeValidator(_numbers)
    ] = Field(
        (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Waits between the attempts of a delivery, separated by commas; after the last "
        "it is given up.",
    )
    webhook_timeout_s: float = Field(
        20, gt=0, le=60, description="For one attempt, to the answer's status."
    )
    webhook_overlap_s: float = Field(
        86_400, ge=0, description="How long an exchanged secret signs along with the new one."
    )
    webhook_log_days: float = Field(30, gt=0, description="How long deliveries can be looked up.")
    max_webhooks_per_key: int = Field(
        20, ge=1, description="Of one API key; those named with a job don't count."
    )

    # Review: a result beyond one of these is marked `needs_review` (tests/benchmarks/README.md).
    review_empty_share: float = Field(
        0.005, gt=0, lt=1, description="Subject of the photo; below: nothing was found."
    )
    review_full_share: float = Field(
        0.97, gt=0, lt=1, description="Subject of the photo; above: all of it was taken."
    )
    review_cut_share: float = Field(
        0.2, gt=0, le=1, description="Of the photo's frame that may run through the subject."
    )
    review_parts: int = Field(3, ge=1, description="Parts that may not touch each other.")
    review_soft_share: float = Field(
        0.04, gt=0, description="Half-transparent surfaces, edges left out, against the subject's."
    )
    review_hidden_share: float = Field(
        0.12, gt=0, le=1, description="Of the edge, that may have one colour on both sides."
    )
    review_alike_share: float = Field(
        0.12, gt=0, le=1, description="Of the subject, in pieces of the background's colours."
    )
    review_disagreement: float = Field(
        0.08, gt=0, description="Between the matte and the mirrored photo's."
    )
    review_sharpness: float = Field(
        6.0, ge=0, description="Least detail within the subject, in levels of 255."
    )
    review_side_px: int = Field(200, ge=0, description="Least shorter side of a photo.")

    reuse_results: bool = Field(
        True, description="The same photo with the same options is computed once a key."
    )

    # The API.
    result_url_ttl_s: int = Field(
        3_600, ge=1, le=604_800, description="Life of a presigned result URL."
    )
    removebg_timeout_s: float = Field(
        25, gt=0, description="POST /v1.0/removebg answers within it, with 504 if need be."
    )
    removebg_max_calls: int = Field(
        64,
        ge=2,
        description="Calls of POST /v1.0/removebg that one API process has open at a time, one key "
        "half of them; beyond, it answers 503, or 429 to that key, with Retry-After.",
    )
    worker_stale_s: float = Field(
        15, gt=0, description="A worker with no heartbeat for this long doesn't count as ready."
    )

    # Watching.
    log_format: Literal["console", "json"] = Field("console", description="json in production.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    traces: bool = Field(
        False,
        description="Send OpenTelemetry traces (pip install 'matting[otel]'); its own variables, "
        "such as OTEL_EXPORTER_OTLP_ENDPOINT, say where to.",
    )
    worker_metrics_port: int | None = Field(
        None, description="Where a worker shows /metrics; none: it doesn't."
    )

    @property
    def readable_buckets(self) -> frozenset[str]:
        """The buckets that callers may name as sources."""
        others = (name.strip() for name in self.source_buckets.split(","))
        return frozenset({self.s3_bucket, *others} - {""})

    @property
    def offered_models(self) -> list[str]:
        """What jobs may name: the default model and the others."""
        return list(dict.fromkeys([self.model, *_split(self.models)]))

    @property
    def served_models(self) -> list[str]:
        """What a worker of these settings loads."""
        return list(dict.fromkeys(_split(self.worker_models))) or self.offered_models

    @property
    def effective_tune_file(self) -> Path:
        """Where the tuned batch size and threads are read from."""
        return self.tune_file or self.models_dir / "tune.json"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
