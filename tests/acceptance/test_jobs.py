"""A whole job through the real processes: submitted, processed, downloaded."""

import os
import signal
from pathlib import Path

import httpx
import numpy as np
import PIL.Image

from api.client import MattingClient
from deploy.local_photos import find_photos
from deploy.stack.stack import Stack
from shared.queue import QUEUE, TASK, make_app
from shared.storage import Storage
from tests.waiting import eventually


def test_good_photos_are_cut_out_and_bad_ones_fail_alone(
    client: MattingClient, folder: Path, tmp_path: Path
) -> None:
    photos = find_photos([folder]).files
    job = client.wait(client.submit_files(photos)["id"])
    assert job["status"] == "finished"
    assert job["counts"] == {
        "total": 6,
        "queued": 0,
        "running": 0,
        "succeeded": 4,
        "failed": 2,
        "cancelled": 0,
    }
    assert job["progress"] == 1
    assert job["images_per_s"]
    assert all(job["timings_ms"][stage] > 0 for stage in ("fetch", "decode", "predict", "store"))
    failed = {
        item["name"]: item["error"]
        for item in client.items(job["id"], status="failed")
        if item["error"]
    }
    assert failed["cut.jpg"]["code"] == "truncated-image"
    assert failed["page.jpg"]["code"] == "not-an-image"
    assert "Send a JPEG" in failed["page.jpg"]["detail"]

    results = {
        path.relative_to(tmp_path / "out").as_posix(): path
        for _, path in client.download(job["id"], tmp_path / "out")
    }
    assert set(results) == {"skuA/main.png", "skuB/main.png", "x.jpg.png", "x.png.png"}
    for path in results.values():
        with PIL.Image.open(path) as picture:
            assert picture.mode == "RGBA"
            assert picture.size == (400, 300)
            pixels = np.asarray(picture)
        alpha = pixels[..., 3]
        assert alpha[150, 200] > 240, "the subject's middle"
        assert alpha[[5, 5, 295, 295], [5, 395, 5, 395]].max() < 15, "the corners"
        np.testing.assert_allclose(pixels[150, 200, :3], (190, 40, 45), atol=8)
        assert (pixels[alpha == 0] == 0).all()


def test_a_download_that_is_repeated_fetches_nothing_again(
    client: MattingClient, folder: Path, tmp_path: Path
) -> None:
    job = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    [(_, path)] = client.download(job["id"], tmp_path)
    first = path.stat().st_ctime_ns
    client.download(job["id"], tmp_path)
    assert path.stat().st_ctime_ns == first


def test_a_prefix_is_listed_in_the_background(
    client: MattingClient, bucket: Storage, jpeg: bytes
) -> None:
    for number in range(3):
        bucket.put(f"spring/a/{number}.jpg", jpeg, "image/jpeg")
    job = client.wait(client.submit({"prefix": "s3://photos/spring/"})["id"])
    assert job["counts"]["succeeded"] == 3
    assert not job["listing"]
    names = [item["name"] for item in client.items(job["id"])]
    assert names == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
    assert bucket.get("photos", "spring/a/0.jpg", 10**6) == jpeg, "inputs are never changed"


def test_keys_are_taken_once_each_and_a_missing_one_fails_alone(
    client: MattingClient, bucket: Storage, jpeg: bytes
) -> None:
    bucket.put("k.jpg", jpeg, "image/jpeg")
    keys = ["s3://photos/k.jpg", "s3://photos/k.jpg", "s3://photos/missing.jpg"]
    job = client.wait(client.submit({"keys": keys})["id"])
    assert (job["counts"]["total"], job["counts"]["succeeded"]) == (2, 1)
    [item] = client.items(job["id"], status="failed")
    assert item["error"]
    assert item["error"]["code"] == "source-not-found"


def test_an_empty_prefix_ends_with_a_reason(client: MattingClient, bucket: Storage) -> None:
    job = client.wait(client.submit({"prefix": "s3://photos/nothing-here/"})["id"])
    assert job["status"] == "finished"
    assert job["error"]
    assert job["error"]["code"] == "source-empty"


def test_options_shape_the_result(
    stack: Stack, client: MattingClient, folder: Path, tmp_path: Path
) -> None:
    white = client.submit_files(
        [(folder / "x.jpg", "white.jpg")], options={"format": "jpeg", "background": "#ffffff"}
    )
    alpha = client.submit_files(
        [(folder / "x.jpg", "alpha.jpg")], options={"output": "alpha", "format": "webp"}
    )
    exact = client.submit_files([(folder / "x.jpg", "exact.jpg")], options={"profile": "exact"})
    for job in (white, alpha, exact):
        done = client.wait(job["id"])
        assert done["counts"]["succeeded"] == 1
        client.download(job["id"], tmp_path)
    with PIL.Image.open(tmp_path / "white.jpg") as picture:
        assert picture.format == "JPEG"
        assert min(np.asarray(picture)[5, 5]) >= 254
    with PIL.Image.open(tmp_path / "alpha.webp") as picture:
        grey = np.asarray(picture.convert("L"))
    assert grey.shape == (300, 400)
    assert grey[150, 200] > 240
    assert grey[5, 5] < 15


def test_images_of_different_jobs_are_all_done(client: MattingClient, folder: Path) -> None:
    jobs = [client.submit_files([folder / "x.jpg"], priority=n) for n in (0, 5, 9)]
    assert [client.wait(job["id"])["counts"]["succeeded"] for job in jobs] == [1, 1, 1]


def test_a_cancelled_job_ends_and_counts_add_up(client: MattingClient, folder: Path) -> None:
    job = client.submit_files([(folder / "x.jpg", f"{n}.jpg") for n in range(80)])
    cancelled = client.cancel(job["id"])
    assert cancelled["status"] == "cancelled"
    done = client.wait(job["id"])
    counts = done["counts"]
    assert counts["queued"] == counts["running"] == 0
    assert counts["succeeded"] + counts["cancelled"] == 80
    assert counts["cancelled"] > 0


def test_failed_images_can_be_tried_again(
    client: MattingClient, bucket: Storage, jpeg: bytes
) -> None:
    job = client.wait(client.submit({"keys": ["s3://photos/late.jpg"]})["id"])
    assert job["counts"]["failed"] == 1
    bucket.put("late.jpg", jpeg, "image/jpeg")
    client.retry(job["id"])
    assert client.wait(job["id"])["counts"]["succeeded"] == 1


def test_flower_shows_each_image_with_its_job_and_file(
    stack: Stack, client: MattingClient, folder: Path
) -> None:
    job = client.wait(
        client.submit_files([(folder / "x.jpg", "seen.jpg"), (folder / "page.jpg", "bad.jpg")])[
            "id"
        ]
    )
    items = {item["name"]: item["id"] for item in client.items(job["id"])}

    def tasks() -> dict[str, dict[str, object]]:
        answer = httpx.get(f"{stack.address.flower_url}/api/tasks", params={"limit": 10_000})
        found: dict[str, dict[str, object]] = answer.json()
        return found

    def state(name: str) -> object:
        return tasks().get(items[name], {}).get("state")

    eventually(
        lambda: (state("seen.jpg"), state("bad.jpg")) == ("SUCCESS", "FAILURE"),
        what="Flower to show both",
    )
    seen = tasks()[items["seen.jpg"]]
    assert job["id"] in str(seen["kwargs"])
    assert "seen.jpg" in str(seen["kwargs"])
    assert seen["started"]
    assert seen["runtime"]

    queue = make_app(stack.settings)
    twice = {"item": items["bad.jpg"], "job": job["id"], "file": "bad.jpg"}
    queue.send_task(TASK, kwargs=twice, task_id=items["bad.jpg"], queue=QUEUE, ignore_result=True)
    queue.close()
    next_job = client.wait(client.submit_files([(folder / "x.jpg", "next.jpg")])["id"])
    items |= {item["name"]: item["id"] for item in client.items(next_job["id"])}
    eventually(lambda: state("next.jpg") == "SUCCESS", what="Flower to show the next")
    assert state("bad.jpg") == "FAILURE", "a message that comes twice tells nothing new"


def test_killing_the_worker_in_the_middle_of_a_job_loses_nothing(
    stack: Stack, client: MattingClient, folder: Path, tmp_path: Path
) -> None:
    job = client.submit_files([(folder / "x.jpg", f"{n:03d}.jpg") for n in range(150)])
    eventually(lambda: client.job(job["id"])["counts"]["succeeded"] >= 16, what="16 images")
    [worker] = stack.workers
    os.kill(worker.popen.pid, signal.SIGKILL)
    worker.popen.wait(180)
    counts = client.job(job["id"])["counts"]
    assert counts["succeeded"] < 150, "it was in the middle"
    # The stack starts another worker by itself.
    done = client.wait(job["id"])
    assert done["counts"]["succeeded"] == done["counts"]["total"] == 150
    items = list(client.items(job["id"]))
    assert len({item["id"] for item in items}) == 150
    again = [item for item in items if item["attempts"] > 1]
    assert len(again) <= 3 * 8, "at most the batches in flight are done again"
    assert all(item["attempts"] <= 2 for item in items)
    assert len(client.download(job["id"], tmp_path)) == 150
    results = stack.data / "s3" / "matting" / "jobs" / job["id"] / "results"
    assert len(list(results.iterdir())) == 150


def test_a_worker_that_is_told_again_to_end_gives_its_images_back(
    stack: Stack, client: MattingClient, folder: Path
) -> None:
    job = client.submit_files([(folder / "x.jpg", f"{n:03d}.jpg") for n in range(150)])
    eventually(lambda: client.job(job["id"])["counts"]["succeeded"] >= 16, what="16 images")
    worker = stack.workers[0].popen

    def ended() -> bool:
        worker.send_signal(signal.SIGINT)  # Ctrl-C; Linux keeps only one at a time
        return worker.poll() is not None

    eventually(ended, what="its end", every_s=0.1)
    assert worker.returncode == os.EX_SOFTWARE
    assert client.job(job["id"])["counts"]["succeeded"] < 150, "it was in the middle"
    done = client.wait(job["id"])
    assert done["counts"]["succeeded"] == 150
    assert all(item["attempts"] == 1 for item in client.items(job["id"]))


def test_an_invalid_message_is_dropped(stack: Stack, client: MattingClient, folder: Path) -> None:
    queue = make_app(stack.settings)
    for kwargs in ({}, {"item": "x", "job": "y"}, {"item": 7}):
        queue.send_task(TASK, kwargs=kwargs, queue=QUEUE, ignore_result=True)
    queue.close()
    job = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    assert job["counts"]["succeeded"] == 1
