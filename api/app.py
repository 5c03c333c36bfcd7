"""The API process: `uvicorn api.app:app`. The routes are in api.routes. Importing it connects to
nothing.
"""

# ruff: noqa: E402
import gc

# Until the end of this module. Collections take a seventh of the time of its imports, and find
# nothing.
gc.disable()

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from api.console import home, job_pages, mend_page, new_job_page, sign_in, system_page
from api.http import openapi, problems
from api.http.headers import Headers
from api.http.metrics import RequestMetrics
from api.http.turns import Turns
from api.resources import open_resources
from api.routes import (
    health,
    item_files,
    item_search,
    item_versions,
    items,
    job_control,
    job_exports,
    job_items,
    jobs,
    keys,
    presets,
    removebg,
    sign_in_links,
    system,
    uploads,
    usage,
    watches,
    webhooks,
)
from shared.settings import Settings, get_settings
from shared.telemetry import configure_logging

DESCRIPTION = """
Bulk background removal: submit photos in bulk, poll the job, fetch the cut-outs.

1. `POST /v1/jobs` with S3 keys, a prefix, presigned uploads or the files themselves.
2. `GET /v1/jobs/{id}` until its status is `finished`.
3. `GET /v1/jobs/{id}/items`, and each item's `result`.

Instead of asking, be told: `POST /v1/webhooks`.

Every request carries an API key: `Authorization: Bearer KEY`. Errors are
`application/problem+json` with a stable `code`.
"""

TAGS = (
    "jobs",
    "items",
    "removebg",
    "uploads",
    "presets",
    "watches",
    "webhooks",
    "usage",
    "system",
    "console",
    "health",
)


def create_app(settings: Settings) -> FastAPI:
    """The application for these settings. It opens its resources when it starts to serve."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging(settings)
        app.openapi()  # now, because it would hold up the event loop later
        with open_resources(settings) as resources, start_kept_out_of_collections():
            app.state.resources = resources
            yield

    app = FastAPIOffline(
        redoc_url=None,
        title="matting",
        version=version("matting"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # generated clients name their functions by it
        generate_unique_id_function=lambda route: route.name,
        separate_input_output_schemas=False,
        # FastAPI does not know the body of an endpoint that reads it by itself, so its JSON schema
        # is added here.
        openapi_tags=[{"name": name} for name in TAGS],
    )
    problems.install(app)
    for routes in (
        jobs,
        job_items,
        job_exports,
        job_control,
        item_search,
        items,
        item_files,
        item_versions,
        removebg,
        uploads,
        presets,
        watches,
        webhooks,
        usage,
        sign_in_links,
        system,
        keys,
        health,
        home,
        sign_in,
        job_pages,
        new_job_page,
        mend_page,
        system_page,
    ):
        app.include_router(routes.router)
    app.mount("/console/static", home.files)
    app.webhooks.include_router(webhooks.sent)
    app.add_middleware(Headers)
    app.add_middleware(Turns)
    # the outermost middleware: it also sees requests that the others refuse
    app.add_middleware(RequestMetrics)
    openapi.complete(app)
    return app


@contextmanager
def start_kept_out_of_collections() -> Iterator[None]:
    """What was created at the start stays until the end, so the garbage collector need not examine
    it again. A full collection of 300,000 objects stops all threads for 200 ms.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


app = create_app(get_settings())
gc.freeze()
gc.enable()
