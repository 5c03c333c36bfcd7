"""The address of the service itself, and the files of the console."""

from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "static"

router = APIRouter(include_in_schema=False)


class _Files(StaticFiles):
    """The browser asks each time whether its copy is still good, so an upgrade shows at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


files = _Files(directory=FOLDER)


@router.get("/")
def home(request: Request) -> Response:
    """A browser goes to the console; a program reads where everything is."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/console/jobs", 307, headers={"Vary": "Accept"})
    return JSONResponse(
        {
            "service": "matting",
            "version": version("matting"),
            "console": "/console/jobs",
            "docs": "/docs",
            "openapi": "/openapi.json",
        },
        headers={"Vary": "Accept"},
    )


@router.get("/console")
@router.get("/console/")
def console() -> Response:
    """The first page."""
    return RedirectResponse("/console/jobs", 307)
