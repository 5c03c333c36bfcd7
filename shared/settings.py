"""All settings of the system, in one class: default, unit and purpose.

The values come from environment variables with the prefix `MATTING_` (and from `.env` if it
exists). The storage's credentials keep their usual AWS names. Names end in the unit: `_ms`, `_s`,
`_bytes`.
"""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.errors import WrongSettingError
from shared.validation_words import describe_findings
from shared.variable_names import refuse_unknown

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

SHIPPED_FIRST, SHIPPED_SECOND = "builtin", "u2netp"
"""The models that come with the code, and which of them is asked second."""

NO_MODEL = "none"
"""As a second model: there is none."""


def _usable_cores() -> int:
    """The number of CPU cores that this process may use (a container may limit them)."""
    return len(os.sched_getaffinity(0))


def _split(names: str) -> list[str]:
    return [name for one in names.split(",") if (name := one.strip())]


def _numbers(value: object) -> object:
    """Split `5, 300` into two numbers."""
    return value.split(",") if isinstance(value, str) else value


def _variable(name: re.Match[str]) -> str:
    """The environment variable of a setting."""
    return name[1].upper() if name[1].startswith(("aws_", "AWS_")) else f"MATTING_{name[1].upper()}"


class Settings(BaseSettings):
    """The settings of one process; immutable, read once by `get_settings`."""

    # An empty variable is not set: compose files and .env pass many that are empty.
    model_config = SettingsConfigDict(
        env_prefix="MATTING_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    # Addresses of database, queue and storage.
    database_url: str = Field(
        "sqlite:///matting.db", description="SQLAlchemy URL; postgresql+psycopg:// in production."
    )
    database_direct_url: str | None = Field(
        None,
        description="Address of the database itself, if MATTING_DATABASE_URL is a pooler in "
        "transaction mode (PgBouncer). Migrations use it.",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="URL of Redis or Valkey, which holds the queue: redis://, rediss:// (TLS) or "
        "sentinel://HOST:26379;sentinel://HOST:26379.",
    )
    redis_sentinel_master: str = Field(
        "", description="Name of the primary, if MATTING_REDIS_URL names Sentinels."
    )
    redis_sentinel_password: SecretStr | None = Field(
        None, description="Password of the Sentinels, if they have one of their own."
    )
    s3_endpoint_url: str | None = Field(
        None, description="URL of MinIO or another S3-compatible storage. Default: AWS."
    )
    s3_public_endpoint_url: str | None = Field(
        None,
        description="URL of the storage as customers reach it, if different. Presigned URLs use "
        "it.",
    )
    s3_bucket: str = Field("matting", description="Bucket of uploads and results.")
    s3_region: str = Field(
        "us-east-1",
        validation_alias=AliasChoices(
            "MATTING_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION", "s3_region"
        ),
        description="Region of the bucket. AWS_REGION and AWS_DEFAULT_REGION are read too. MinIO "
        "accepts any value.",
    )
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="Where requests name the bucket: in the path, or in the host name (`virtual`). "
        "`auto`: in the path with MATTING_S3_ENDPOINT_URL, else as AWS recommends.",
    )
    s3_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None,
        description="How the storage encrypts what this service writes: SSE-S3 (`AES256`) or "
        "SSE-KMS. Default: as the bucket says.",
    )
    s3_kms_key_id: str | None = Field(
        None,
        description="ARN of the KMS key for MATTING_S3_ENCRYPTION. Default: AWS's key for S3.",
    )
    requester_pays_buckets: str = Field(
        "",
        description="Buckets of MATTING_SOURCE_BUCKETS whose requests this service pays for, "
        "separated by commas.",
    )
    aws_access_key_id: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("AWS_ACCESS_KEY_ID", "aws_access_key_id"),
        description="Access key of the storage. Default: what boto3 finds, such as the role of the "
        "machine, of the container or of the Kubernetes service account, or a profile.",
    )
    aws_secret_access_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key"),
        description="Its secret.",
    )
    aws_session_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("AWS_SESSION_TOKEN", "aws_session_token"),
        description="Its token, if the access key is a temporary one.",
    )

    # The queue.
    queue_visibility_timeout_s: int = Field(
        600,
        ge=10,
        description="Redis delivers an unacknowledged message again after this time. It must be "
        "longer than the longest batch. Images of a dead worker return sooner, when their lease "
        "expires.",
    )
    publish_ahead: int = Field(
        256,
        ge=1,
        description="Most messages of one key in the queue at a time, or twice as many as all "
        "workers hold, if that is more. A small job waits only for these images of a large one.",
    )
    publish_every_ms: int = Field(
        200, ge=10, description="How often the API fills the queue up to `publish_ahead`."
    )
    lease_s: float = Field(
        20,
        gt=1,
        description="Time after which other workers may claim an image whose worker sends no "
        "heartbeat.",
    )
    heartbeat_s: float = Field(
        5, gt=0, description="How often a worker renews the leases of its images."
    )
    reconcile_s: float = Field(
        2, gt=0, description="How often the API searches for lost messages and due retries."
    )
    max_attempts: int = Field(4, ge=1, description="Attempts per image before its error is final.")
    retry_base_s: float = Field(
        2,
        gt=0,
        description="Wait before the second attempt. It doubles with each attempt and has jitter.",
    )
    retry_max_s: float = Field(300, gt=0, description="Longest wait between two attempts.")

    # The model and the device.
    model: str = Field(
        "builtin",
        description="`builtin`, the name of a pulled model, or a folder with a PaddleSeg export.",
    )
    models: str = Field(
        "", description="Further models that jobs may name in their options, separated by commas."
    )
    second_model: str | None = Field(
        None,
        description="The model that mattes doubtful photos of MATTING_MODEL a second time, or "
        "`none`. Default: `u2netp` if MATTING_MODEL is `builtin`, else `none`.",
    )
    worker_models: str = Field(
        "",
        description="Models that this worker serves, separated by commas. Default: MATTING_MODEL, "
        "MATTING_MODELS and the second model. Each model needs memory of its own.",
    )
    models_dir: Path = Field(Path("models"), description="Folder of pulled models.")
    models_url: str = Field(
        "https://paddleseg.bj.bcebos.com/matting/models/deploy",
        description="Where `matting models pull NAME` finds NAME.zip: PaddleSeg's server or a "
        "mirror.",
    )
    onnx_models_url: str = Field(
        "https://github.com/danielgatis/rembg/releases/download/v0.0.0",
        description="Where `matting models pull NAME` finds ONNX files: rembg's release, or a "
        "mirror of it.",
    )
    device: str = Field(
        "cpu",
        pattern=r"^(cpu|triton|(gpu|xpu|npu):\d+)$",
        description="cpu, gpu:0, …, or `triton`: the network runs on the Triton server at "
        "MATTING_TRITON_URL.",
    )
    devices: str | None = Field(
        None,
        pattern=r"^(all|(cpu|(gpu|xpu|npu):\d+)(\s*,\s*(cpu|(gpu|xpu|npu):\d+))*)$",
        description="`matting worker` starts a worker for each of these devices, separated by "
        "commas, or for every GPU (`all`). Default: one worker on MATTING_DEVICE.",
    )
    precision: Precision = Field(
        "auto",
        description="Numeric precision of the network. auto is fp32; on a CPU with instructions "
        "for bf16 it is bf16 for the shipped models, and for imported ones that the import "
        "found as good and faster in it. bf16 works on CPUs, fp16 and int8 with TensorRT.",
    )
    tensorrt: bool = Field(
        False, description="Build a TensorRT engine for the GPU and keep it on disk."
    )
    engine_fallback: Literal["none", "device", "cpu"] = Field(
        "device",
        description="What a worker may use when its configuration crashes, is not available, or "
        "gives results that differ from the CPU's: `none`: the worker ends; `device`: a slower "
        "configuration of the same device, such as CUDA without TensorRT; `cpu`: also the CPU.",
    )
    alpha_tolerances: dict[Precision, Annotated[float, Field(gt=0, le=1)]] = Field(
        {},
        description="Allowed mean difference between the test card's alpha and that of the plain "
        'CPU, in 0..1, by precision, as JSON (`{"fp16": 0.03}`). The worst thousandth of the '
        "pixels may differ 12.5 times as much. Default: fp32 0.01, bf16 and fp16 0.02, int8 0.05.",
    )
    cpu_threads: int = Field(
        default_factory=_usable_cores,
        ge=1,
        description="CPU threads for the network, shared by all predictor streams.",
    )
    predict_streams: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Networks that run in parallel. Default: the tuned value, else one per thread "
        "up to 4 on a CPU, and 1 on other devices. With Triton: requests in flight, 32 by default.",
    )
    gpu_memory_pool_mb: int = Field(512, ge=64, description="Paddle's initial device memory pool.")
    engine_cache_dir: Path | None = Field(
        None,
        description="Folder for what is built for a GPU: programs that take pixels, TensorRT's "
        "engines and shape files. Default: the model's folder.",
    )
    tune_file: Path | None = Field(
        None,
        description="File written by `matting tune`, read at start. Default: "
        "<models_dir>/tune.json.",
    )
    profile_engine: bool = Field(
        False, description="Make Paddle print its operator profile at exit."
    )

    # NVIDIA Triton as the device (docs/triton.md).
    triton_url: str | None = Field(
        None,
        pattern=r"^grpcs?://[^/?#@\s]+$",
        description="Address of Triton's gRPC port: grpc://host:8001, or grpcs:// for TLS. If the "
        "name has several addresses, requests are spread over them.",
    )
    triton_token: SecretStr | None = Field(
        None,
        description="Token that is sent as `authorization: Bearer …`, for a proxy before Triton, "
        "which itself checks none. Needs grpcs://.",
    )
    triton_ca_file: Path | None = Field(
        None,
        description="PEM file of the authority that signed the server's certificate. Default: the "
        "authorities that gRPC trusts.",
    )
    triton_timeout_s: float | None = Field(
        None,
        gt=0,
        description="Longest wait for the answer to one batch, repeated requests included. It must "
        "be shorter than MATTING_LEASE_S. Default: three quarters of that.",
    )
    triton_shared_memory: bool = Field(
        True,
        description="Pass photos and mattes through shared memory if the server is on this host "
        "(a loopback address) and can open it.",
    )

    # Batches.
    batch_size: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Messages per batch. Default: the tuned value, else 8 on a CPU and 32 on other "
        "devices.",
    )
    predict_batch_size: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Images of one shape per forward pass. Default: the tuned value, else 1 on a "
        "CPU (more is not faster there) and 16 on other devices.",
    )
    batch_wait_ms: int = Field(
        50, ge=1, description="A batch that is not full starts after this time."
    )
    batches_in_flight: int = Field(
        3,
        ge=1,
        le=8,
        description="Batches processed at the same time: while the network runs on one, others are "
        "fetched, decoded, encoded and stored.",
    )
    io_threads: int = Field(
        8, ge=1, le=64, description="Threads that fetch and store: they wait for the storage."
    )
    url_threads: int = Field(
        48,
        ge=1,
        le=256,
        description="Threads that fetch photos from URLs. A worker has at most as many such photos "
        "in flight. Slow servers block only these threads, not those for the storage. API keys "
        "share three quarters of them; the rest is for keys that send their first URLs.",
    )
    codec_threads: int = Field(
        default_factory=_usable_cores,
        ge=1,
        description="Threads that decode and encode images.",
    )

    # Limits, checked before an image is decoded.
    max_image_bytes: int = Field(50 * 1024**2, ge=1, description="Largest image file.")
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="Most pixels of one image, as its header says."
    )
    max_decoded_pixels: int = Field(
        300_000_000,
        ge=1,
        description="Most pixels that a worker holds decoded at a time (about 10 bytes each, "
        "beside 1 GB for the rest, and about 128 MB of fetched files for each batch at a time). A "
        "larger batch is processed in parts. Photos and outputs that take more memory count 2 to 4 "
        "times: transparency, CMYK, 16 bits; WebP, AVIF, ZIP, PSD, markets, shadows.",
    )
    image_timeout_s: float = Field(
        60,
        gt=0,
        description="Time limit for decoding one image, for finishing its matte, and for each file "
        "that is encoded. If a native library hangs, the image fails and the worker restarts.",
    )
    max_clip_bytes: int = Field(2 * 1024**3, ge=1, description="Largest clip file.")
    clip_disk_bytes: int = Field(
        32 * 1024**3,
        ge=1,
        description="Most room that a clip, its mattes and results may take on a worker's disk.",
    )
    max_clip_s: float = Field(1_200, gt=0, description="Longest clip, as its container says.")
    max_clip_frames: int = Field(
        72_000, ge=1, description="Most frames of one clip, as its container says."
    )
    max_clip_pixels: int = Field(
        9_000_000, ge=1, description="Most pixels of one frame of a clip: 4096 × 2160 fit."
    )
    max_request_bytes: int = Field(1024**3, ge=1024, description="Largest multipart request body.")
    max_json_bytes: int = Field(
        72 * 1024**2,
        ge=1024,
        description="Largest request body that is not multipart. It is held in memory.",
    )
    max_bodies_bytes: int = Field(
        128 * 1024**2,
        ge=1024,
        description="Memory for the request bodies of one API process. If it is used up, the "
        "answer is 503 with Retry-After.",
    )
    headers_timeout_s: float = Field(
        15,
        gt=0,
        description="The API closes a connection whose request headers do not arrive within this "
        "time.",
    )
    body_timeout_s: float = Field(
        30, gt=0, description="The API ends a request whose body sends nothing for this time."
    )
    requests_per_min: int = Field(
        6_000,
        ge=1,
        description="Request rate of API keys that have no rate of their own; also the burst size.",
    )
    max_files_per_request: int = Field(
        1_000, ge=1, description="Most files in one multipart request."
    )
    max_keys_per_job: int = Field(100_000, ge=1, description="Most keys named in one request.")
    max_archive_bytes: int = Field(
        20 * 1024**3, ge=1, description="Largest zip file, both packed and unpacked."
    )
    archive_disk_bytes: int | None = Field(
        None,
        ge=1,
        description="Disk space in /tmp for the zip files that one API process unpacks, all "
        "together. Default: what is free, less 512 MiB. Set it where /tmp has a limit of its own.",
    )
    max_url_redirects: int = Field(
        5, ge=0, le=20, description="Most redirects when a photo is downloaded from a URL."
    )
    url_timeout_s: float = Field(
        30, gt=0, description="Time limit for downloading one photo from a URL."
    )
    min_clip_bytes_per_s: int = Field(
        1_000_000,
        ge=1,
        description="Least rate of a clip that is downloaded from a URL. It may take the time of "
        "a photo and, in addition, that of its bytes at this rate.",
    )
    allow_private_addresses: bool = Field(
        False,
        description="Allow photo URLs and webhooks on private and loopback addresses. Only for "
        "closed networks.",
    )
    source_buckets: str = Field(
        "",
        description="Further buckets that callers may use as sources, separated by commas. "
        "MATTING_S3_BUCKET is always allowed.",
    )
    destinations: str = Field(
        "",
        description="Folders that results may be written to besides MATTING_S3_BUCKET: "
        "`s3://bucket/folder/`, separated by commas. None by default; `matting up` allows its own "
        "bucket.",
    )
    upload_url_ttl_s: int = Field(
        86_400, ge=60, le=604_800, description="Lifetime of a presigned upload URL."
    )

    # Jobs.
    failure_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A job is paused when a larger share of its images fails. 1: never.",
    )
    failure_after: int = Field(
        1_000, ge=1, description="Number of finished images after which `failure_share` is checked."
    )
    idempotency_ttl_s: int = Field(
        86_400, ge=60, description="How long an Idempotency-Key is remembered."
    )
    retention_days: float = Field(
        0,
        ge=0,
        description="Jobs that ended longer ago are deleted with their files, and so are older "
        "uploads that no job uses. 0: never.",
    )

    thumbnails: bool = Field(
        True,
        description="Keep a small WebP of each photo and of its result, for pages that show many.",
    )
    keep_mattes: bool = Field(
        True,
        description="Keep the matte of a result that does not contain it, so that a person can "
        "mend it.",
    )
    versions_kept: int = Field(
        5,
        ge=1,
        description="How many of the last versions of a result are kept, besides the first one and "
        "the one that is shown.",
    )

    # Webhooks.
    webhook_retries_s: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], NoDecode, BeforeValidator(_numbers)
    ] = Field(
        (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Waits between the attempts of a webhook delivery, separated by commas. After "
        "the last one the delivery has failed.",
    )
    webhook_timeout_s: float = Field(
        20, gt=0, le=60, description="Time limit for one webhook attempt."
    )
    webhook_overlap_s: float = Field(
        86_400, ge=0, description="How long the old secret still signs deliveries after a rotation."
    )
    webhook_log_days: float = Field(30, gt=0, description="How long webhook deliveries are kept.")
    max_webhooks_per_key: int = Field(
        20, ge=1, description="Most webhooks per API key. Webhooks of a single job do not count."
    )
    max_watches_per_key: int = Field(20, ge=0, description="Most watches per API key; 0: none.")
    watch_min_every_s: int = Field(
        10, ge=1, description="Shortest time between two looks of a watch at its prefix."
    )
    watch_max_objects: int = Field(
        100_000,
        ge=1_000,
        description="Most objects that one look of a watch lists: one request for each 1,000.",
    )

    # Review: a result beyond one of these thresholds is marked `needs_review`.
    review_empty_share: float = Field(
        0.005,
        gt=0,
        lt=1,
        description="Mark a result whose matte covers less of the photo: nothing was found.",
    )
    review_full_share: float = Field(
        0.97,
        gt=0,
        lt=1,
        description="Mark a result whose matte covers more of the photo: everything was taken.",
    )
    review_cut_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Mark a result if the subject touches a larger share of the photo's frame.",
    )
    review_parts: int = Field(
        3,
        ge=1,
        description="Mark a result whose matte has at least this many separate parts.",
    )
    review_soft_share: float = Field(
        0.04,
        gt=0,
        description="Mark a result whose semi-transparent areas (without edges) exceed this share "
        "of the subject.",
    )
    review_hidden_share: float = Field(
        0.12,
        gt=0,
        le=1,
        description="Mark a result if a larger share of the edge has the same colour on both "
        "sides.",
    )
    review_alike_share: float = Field(
        0.12,
        gt=0,
        le=1,
        description="Mark a result if a larger share of the subject has the background's colours.",
    )
    review_disagreement: float = Field(
        0.08,
        gt=0,
        description="Mark a result whose matte differs more from that of the mirrored photo.",
    )
    review_sharpness: float = Field(
        6.0, ge=0, description="Mark a result whose subject has less detail, in levels of 0–255."
    )
    review_side_px: int = Field(
        200, ge=0, description="Mark a result whose photo has a shorter side below this."
    )

    reuse_results: bool = Field(
        True,
        description="Reuse the result when a key submits the same photo with the same options "
        "again.",
    )

    # The API.
    result_url_ttl_s: int = Field(
        3_600, ge=1, le=604_800, description="Lifetime of a presigned result URL."
    )
    removebg_timeout_s: float = Field(
        25, gt=0, description="Time limit of POST /v1.0/removebg. After it the answer is 504."
    )
    removebg_max_calls: int = Field(
        64,
        ge=2,
        description="Most open calls of POST /v1.0/removebg in one API process, half of them for "
        "one key. Beyond that the answer is 503, or 429 for the key's limit, with Retry-After.",
    )
    session_secret: SecretStr | None = Field(
        None,
        description="Signs the console's sessions, and the links of a job's `urls`. Set the same "
        "value for all API processes. Default: each process makes its own, and its sessions and "
        "links end with it.",
    )
    flower_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Where operators reach Flower; the console links to it.",
    )
    grafana_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Where operators reach Grafana; the console links to it.",
    )
    session_s: int = Field(
        43_200, ge=60, description="How long a session of the console lasts after signing in."
    )
    worker_stale_s: float = Field(
        15, gt=0, description="A worker without a heartbeat for this time does not count as ready."
    )

    # Logs, traces and metrics.
    log_format: Literal["console", "json"] = Field("console", description="Use json in production.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least severe log lines that are written."
    )
    traces: bool = Field(
        False,
        description="Send OpenTelemetry traces (pip install 'matting[otel]'). OpenTelemetry's "
        "variables, such as OTEL_EXPORTER_OTLP_ENDPOINT, set the destination.",
    )
    log_otlp: bool = Field(
        False,
        description="Send log lines by OTLP too (pip install 'matting[otel]'), to the same "
        "destination.",
    )
    worker_metrics_port: int | None = Field(
        None, description="Port of a worker's /metrics and probes. Default: none."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then `.env`. Raises UnknownSettingError for a misspelt variable."""
        known = [f"MATTING_{name.upper()}" for name in cls.model_fields]
        for source in (env_settings, dotenv_settings):
            assert isinstance(source, EnvSettingsSource)
            refuse_unknown(source.env_vars, known)
        return init_settings, env_settings, dotenv_settings

    @model_validator(mode="after")
    def _a_kms_key_needs_kms(self) -> Self:
        if self.s3_kms_key_id and not (self.s3_encryption or "").startswith("aws:kms"):
            raise ValueError("MATTING_S3_KMS_KEY_ID needs MATTING_S3_ENCRYPTION=aws:kms")
        return self

    @model_validator(mode="after")
    def _triton_needs_its_address(self) -> Self:
        if self.device == "triton" and self.triton_url is None:
            raise ValueError("MATTING_DEVICE=triton needs MATTING_TRITON_URL")
        if self.triton_token and not (self.triton_url or "").startswith("grpcs://"):
            raise ValueError("MATTING_TRITON_TOKEN needs a MATTING_TRITON_URL with grpcs://")
        if self.triton_timeout_s is not None and self.triton_timeout_s >= self.lease_s:
            raise ValueError("MATTING_TRITON_TIMEOUT_S must be below MATTING_LEASE_S")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _refused_in_words(cls, given: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Name the variables that are wrong, and what they must be; no values, which may be secret.
        Raises WrongSettingError.
        """
        try:
            return handler(given)
        except ValidationError as error:
            findings = error.errors(include_url=False, include_input=False)
            said = re.sub(r"`(\w+)`", _variable, describe_findings(findings, cls))
            raise WrongSettingError(said) from None

    @property
    def effective_triton_timeout_s(self) -> float:
        """The longest wait for the answer to one batch."""
        return self.triton_timeout_s or 0.75 * self.lease_s

    @property
    def paid_buckets(self) -> frozenset[str]:
        """The buckets whose requests this service pays for."""
        return frozenset(_split(self.requester_pays_buckets))

    @property
    def readable_buckets(self) -> frozenset[str]:
        """The buckets that callers may use as sources."""
        return frozenset({self.s3_bucket, *_split(self.source_buckets)})

    @property
    def writable_folders(self) -> tuple[str, ...]:
        """The `s3://bucket/folder/` that results may be written to."""
        return tuple(one if one.endswith("/") else f"{one}/" for one in _split(self.destinations))

    @property
    def offered_models(self) -> list[str]:
        """The models that jobs may name: the default model and MATTING_MODELS."""
        return list(dict.fromkeys([self.model, *_split(self.models)]))

    @property
    def default_second_model(self) -> str | None:
        """The second model of photos whose options name no model and no second one."""
        chosen = self.second_model or (SHIPPED_SECOND if self.model == SHIPPED_FIRST else NO_MODEL)
        return None if chosen in (NO_MODEL, self.model) else chosen

    @property
    def second_models(self) -> list[str]:
        """The models that jobs may name as their second one."""
        second = self.default_second_model
        return list(dict.fromkeys([*self.offered_models, *([second] if second else [])]))

    @property
    def served_models(self) -> list[str]:
        """The models that a worker with these settings loads."""
        return list(dict.fromkeys(_split(self.worker_models))) or self.second_models

    @property
    def effective_tune_file(self) -> Path:
        """The file that the tuned batch size and streams are read from."""
        return self.tune_file or self.models_dir / "tune.json"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
