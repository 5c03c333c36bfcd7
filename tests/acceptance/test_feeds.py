"""Lists of shops through the whole system, and what is told of a source that was not read whole."""

import csv
import io
import json
import os
from pathlib import Path

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.command import matting


def test_a_source_that_was_not_read_to_its_end_is_no_success(
    stack: Stack, bucket: Storage, jpeg: bytes, tmp_path: Path
) -> None:
    data = ("--wait", "--json", "--data", str(stack.data))
    mistyped = matting("submit", "s3://photos/mistyped/", *data)
    assert mistyped.returncode == 1
    assert "source-empty" in mistyped.stderr
    assert json.loads(mistyped.stdout)["error"]["code"] == "source-empty"
    bucket.put("feed.jpg", jpeg, "image/jpeg")
    broken = tmp_path / "broken.csv"
    lines = ["id;key;title", "1;s3://photos/feed.jpg;a", '2;s3://photos/feed.jpg;"b', "3;c;d", ""]
    broken.write_text("\n".join(lines))
    done = matting("submit", str(broken), *data)
    assert done.returncode == 1
    job = json.loads(done.stdout)
    assert (job["counts"]["succeeded"], job["counts"]["total"]) == (1, 1)
    assert "Row 2 has a quote that is never closed" in job["error"]["detail"]
    assert "1 were read, the file has 4 lines" in job["error"]["detail"]
    assert "Row 2 has a quote" in done.stderr
    shown = matting("status", job["id"], "--data", str(stack.data))
    assert "Row 2 has a quote" in shown.stderr


def test_rows_that_share_a_photo_come_back_and_the_report_is_a_list_again(
    client: MattingClient, bucket: Storage, jpeg: bytes, tmp_path: Path
) -> None:
    bucket.put("shirt.jpg", jpeg, "image/jpeg")
    shirts = tmp_path / "shirts.csv"
    rows = [
        ["ID", "Image", "options.format", "Size", ""],
        ["V-1", "s3://photos/shirt.jpg", "", "Größe S", ""],
        ["V-2", " s3://photos/shirt.jpg", "", "M", ""],
        ["V-3", "s3://photos/shirt.jpg ", "webp", "=L", ""],
    ]
    text = io.StringIO("sep=;\r\n", newline="")
    text.seek(0, io.SEEK_END)
    csv.writer(text, delimiter=";").writerows(rows)
    shirts.write_bytes(text.getvalue().encode("cp1252"))
    job = client.wait(client.submit_attached("manifest", shirts)["id"])
    assert (job["counts"]["succeeded"], job["counts"]["total"], job["error"]) == (3, 3, None)
    expected = [
        ("V-1", "png", {"Size": "Größe S"}),
        ("V-2", "png", {"Size": "M"}),
        ("V-3", "webp", {"Size": "=L"}),
    ]

    def found(job_id: str) -> list[tuple[str | None, str, dict[str, object] | None]]:
        items = client.items(job_id)
        return [(one["custom_id"], one["result_format"], one["labels"]) for one in items]

    assert found(job["id"]) == expected
    assert {one["source"] for one in client.items(job["id"])} == {"s3://photos/shirt.jpg"}
    assert len(client.download(job["id"], tmp_path / "out")) == 3
    client.report(job["id"], tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    again = client.wait(client.submit_attached("manifest", tmp_path / "report.csv")["id"])
    assert again["error"] is None
    assert found(again["id"]) == expected


def test_one_bad_row_or_name_is_told_and_the_others_go_on(
    client: MattingClient, bucket: Storage, jpeg: bytes, tmp_path: Path
) -> None:
    bucket.put("feed.jpg", jpeg, "image/jpeg")
    feed = tmp_path / "shop.csv"
    head = b"Handle,Image Src,Title\n"
    rows = [b"a,s3://photos/feed.jpg,A", b"b,,B", b"c,s3://photos/feed.jpg,\xd0\xa0\xff", b"d,no,D"]
    feed.write_bytes(head + b"\n".join(rows))
    job = client.wait(client.submit_attached("manifest", feed, feed="shopify")["id"])
    assert job["source"]["rows_without_photo"] == 1
    items = {one["custom_id"]: one for one in client.items(job["id"])}
    assert {number: one["status"] for number, one in items.items()} == {
        "a": "succeeded",
        "c": "failed",
        "d": "failed",
    }
    assert items["c"]["error"]
    assert "Row 3" in items["c"]["error"]["detail"]

    odd = tmp_path / os.fsdecode("größe.jpg".encode("latin-1"))
    odd.write_bytes(jpeg)
    plain = tmp_path / "plain.jpg"
    plain.write_bytes(jpeg)
    files = [(odd, odd.name), (plain, "plain.jpg")]
    job = client.wait(client.submit_files(files)["id"])
    assert [one["name"] for one in client.items(job["id"])] == ["größe.jpg", "plain.jpg"]
    assert job["counts"]["succeeded"] == 2
