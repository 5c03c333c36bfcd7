"""Several models at once: one queue each, and a model that is replaced while images wait for it."""

import shutil
from pathlib import Path

import pytest

from api.client import ApiError, MattingClient
from deploy.stack.stack import Stack
from tests.acceptance.conftest import QUICK


def test_jobs_name_their_model_and_a_new_worker_takes_over(
    tmp_path: Path, folder: Path, tiny_model: Path
) -> None:
    models = tmp_path / "models"
    for name in ("first", "other"):
        shutil.copytree(tiny_model, models / name)
    env = QUICK | {
        "MATTING_MODEL": "first",
        "MATTING_MODELS": "other",
        "MATTING_MODELS_DIR": str(models),
        "MATTING_WORKER_MODELS": "first",
    }
    photo = folder / "x.jpg"
    with (
        Stack(tmp_path / "stack", env=env) as stack,
        MattingClient(stack.address.api_url, stack.secrets.api_key) as client,
    ):
        assert client.readiness()["workers"][0]["models"] == ["first"]
        with pytest.raises(ApiError, match="unknown-model"):
            client.submit_files([photo], options={"model": "third"})
        waits = client.submit_files([photo], options={"model": "other"})
        done = client.wait(client.submit_files([photo])["id"])
        assert done["counts"]["succeeded"] == 1
        assert client.job(waits["id"])["counts"]["queued"] == 1, "no worker serves it yet"

        # The old worker stops. A worker that serves both models takes the waiting images.
        stack.workers[0].stop(30)
        asked = client.submit_files([photo])
        stack.env["MATTING_WORKER_MODELS"] = "other,first"
        stack.wait_for_worker(stack.add_worker())
        assert client.wait(waits["id"])["counts"]["succeeded"] == 1
        assert client.wait(asked["id"])["counts"]["succeeded"] == 1
        assert client.readiness()["workers"][0]["models"] == ["other", "first"]
