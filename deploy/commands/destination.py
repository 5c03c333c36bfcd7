"""Checks the option `--destination`, and the names of results, before photos are sent."""

import typer
from pydantic import ValidationError

from api.schemas.requests import JobFields
from api.sources.source_policy import plain_name
from api.submissions.checked_names import CheckedNames
from deploy.local_photos import LocalPhotos
from shared.destination import given_placeholders, refuse_unknown
from shared.errors import RequestError
from shared.job_store import NewItem
from shared.options import Options
from shared.validation_words import describe_validation


def check_destination(template: str) -> str:
    """The template with a file name. Raises BadParameter."""
    try:
        return JobFields(destination=template).destination or template
    except ValidationError as error:
        text = describe_validation(error, JobFields).removeprefix("destination: ")
        raise typer.BadParameter(text, param_hint="--destination") from error


def check_names(photos: LocalPhotos, options: Options, destination: str | None) -> None:
    """Check that each photo's results get names, and no two the same place. Raises BadParameter."""
    names = CheckedNames(JobFields(options=options, destination=destination))
    try:
        refuse_unknown(given_placeholders(destination, options), ())
        for number, (path, name) in enumerate(photos.files, 1):
            names.add(NewItem(name=plain_name(name), source=str(path)), number)
    except RequestError as error:
        raise typer.BadParameter(error.message) from error
