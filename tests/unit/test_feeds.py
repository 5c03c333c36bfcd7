"""Lists of photos as Excel, shops and people write them."""

import codecs
import csv
import io
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.schemas.sources import Feed
from api.sources.feeds import PHOTO_NUMBER, BadRow, RowWithoutPhoto
from api.sources.manifests import read_rows
from api.sources.rows import RowReader
from api.sources.source_policy import SourcePolicy
from shared.errors import BadManifestError
from shared.options import Options
from shared.settings import Settings

READER = RowReader(SourcePolicy(Settings(source_buckets="photos"), uuid.UUID(int=7)), Options())

X = "https://x.example"


def rows(text: str | bytes, *, feed: Feed | None = None, size: int = 1_000) -> list[dict[str, Any]]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_rows((data[at : at + size] for at in range(0, len(data), size)), feed))


def problems(found: list[dict[str, Any]]) -> list[str | None]:
    return [row.problem if isinstance(row, BadRow) else None for row in found]


@pytest.mark.parametrize(
    ("written", "source", "name"),
    [
        (f"{X}/red shoe.jpg", f"{X}/red%20shoe.jpg", "red shoe.jpg"),
        (f" {X}/a.jpg", f"{X}/a.jpg", "a.jpg"),
        (f"{X}/a.jpg?v=2 ", f"{X}/a.jpg?v=2", "a.jpg"),
        (f"{X}/größe.jpg", f"{X}/größe.jpg", "größe.jpg"),
        (f"\u200b{X}/a.jpg\u00a0", f"{X}/a.jpg", "a.jpg"),
        ("//cdn.example/a.jpg", "https://cdn.example/a.jpg", "a.jpg"),
        ("HTTPS://x.example/A.jpg", "HTTPS://x.example/A.jpg", "A.jpg"),
    ],
)
def test_an_address_is_read_as_it_was_meant(written: str, source: str, name: str) -> None:
    item = READER.item({"url": written}, 1)
    assert item.error is None
    assert (item.source, item.name) == (source, name)


@pytest.mark.parametrize(
    "url", [f"{X}/a\n.jpg", f"{X}/a\0.jpg", "https://me:secret@x.example/a.jpg", "x.example/a.jpg"]
)
def test_an_address_that_hides_something_is_refused(url: str) -> None:
    error = READER.item({"url": url}, 1).error
    assert error is not None
    assert error.code == "forbidden-url"


TABLE = f"id,url,title\nA-1,{X}/a.jpg,Größe 38\nA-2,{X}/b.jpg,Crème\n"


@pytest.mark.parametrize(
    "data",
    [
        TABLE.encode(),
        codecs.BOM_UTF8 + TABLE.encode(),
        codecs.BOM_UTF16_LE + TABLE.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"),
        TABLE.encode("utf-16-le"),
        TABLE.encode("cp1252"),
        TABLE.replace("\n", "\r\n").encode("cp1252"),
        codecs.BOM_UTF16_LE + TABLE.replace(",", "\t").encode("utf-16-le"),
    ],
)
@pytest.mark.parametrize("size", [7, 100_000])
def test_every_encoding_that_excel_saves_is_read(data: bytes, size: int) -> None:
    assert rows(data, size=size) == [
        {"id": "A-1", "url": f"{X}/a.jpg", "title": "Größe 38"},
        {"id": "A-2", "url": f"{X}/b.jpg", "title": "Crème"},
    ]


@pytest.mark.parametrize(
    "text", ["Размер".encode("cp1251"), "łódź".encode("cp1250"), "サイズ".encode("shift-jis")]
)
def test_another_code_page_is_not_guessed_but_told_with_the_row(text: bytes) -> None:
    found = rows(f"id,url,title\nA-1,{X}/a.jpg,".encode() + text + f"\nA-2,{X}/b.jpg,x\n".encode())
    [problem, none] = problems(found)
    assert none is None
    assert problem is not None
    assert problem.startswith("Row 1 is not in the encoding")
    assert found[0]["id"] == "A-1", "the report names it by what could be read"
    item = READER.item(found[0], 1)
    assert item.error is not None
    assert (item.custom_id, item.error.code) == ("A-1", "bad-manifest-row")


def test_a_byte_that_does_not_fit_fails_its_row_and_no_other() -> None:
    long = "".join(f"{number},{X}/{number}.jpg,{'y' * 200}\n" for number in range(600))
    data = f"id,url,title\n{long}".encode() + f"R-1,{X}/r.jpg,Größe\nR-2,{X}/s.jpg,z\n".encode(
        "cp1252"
    )
    found = rows(data)
    assert len(found) == 602
    assert [number for number, one in enumerate(problems(found), 1) if one] == [601]
    assert found[-1] == {"id": "R-2", "url": f"{X}/s.jpg", "title": "z"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"sep=;\nid;url\n1;{X}/a,b.jpg\n", [{"id": "1", "url": f"{X}/a,b.jpg"}]),
        (f'"sep=|"\r\nid|url\r\n1|{X}/a.jpg\r\n', [{"id": "1", "url": f"{X}/a.jpg"}]),
        (
            f"ID , URL , Sku\n 1, {X}/a.jpg , RED\n",
            [{"id": "1", "url": f"{X}/a.jpg", "Sku": "RED"}],
        ),
        (f"id,url,,\n1,{X}/a.jpg,,\n", [{"id": "1", "url": f"{X}/a.jpg"}]),
        (f'id, url\n1, "{X}/a,b.jpg"\n', [{"id": "1", "url": f"{X}/a,b.jpg"}]),
        (f'"a, b",url\n"x\r\ny",{X}/a.jpg\n', [{"a, b": "x\ny", "url": f"{X}/a.jpg"}]),
        (f"url\n{X}/a,b;c.jpg\n", [{"url": f"{X}/a,b;c.jpg"}]),
        (f"url,note,note\n{X}/a.jpg,1,2\n", [{"url": f"{X}/a.jpg", "note": "1", "note_2": "2"}]),
        (
            f"Image URL;Options.Format\n{X}/a.jpg;webp\n",
            [{"url": f"{X}/a.jpg", "options.format": "webp"}],
        ),
        (f'id,url\n="00123",{X}/a.jpg\n', [{"id": "00123", "url": f"{X}/a.jpg"}]),
        (f"Artikel;Bild-URL\n7;{X}/a.jpg\n", [{"Artikel": "7", "url": f"{X}/a.jpg"}]),
        ("Picture\nphotos/a.jpg\n", [{"key": "photos/a.jpg"}]),
        ("key,image\nphotos/a.jpg,b.jpg\n", [{"key": "photos/a.jpg", "image": "b.jpg"}]),
    ],
)
def test_tables_as_people_and_spreadsheets_write_them(
    text: str, expected: list[dict[str, str]]
) -> None:
    assert rows(text) == expected


def test_a_row_with_more_cells_than_the_header_is_told_not_cut() -> None:
    found = rows(f"id,url\n1,{X}/a,b.jpg\n2,{X}/c.jpg\n")
    assert problems(found) == ["Row 1 has 3 cells, the header 2: put quotes around commas", None]


def test_what_breaks_off_names_the_row() -> None:
    broken = f'id,url,title\n1,{X}/a.jpg,a\n2,{X}/b.jpg,"open\n3,{X}/c.jpg,c\n'
    found = read_rows([broken.encode()])
    assert next(found)["id"] == "1"
    with pytest.raises(BadManifestError, match="Row 2 has a quote that is never closed"):
        next(found)


def test_google_s_feed_gives_a_row_for_each_picture() -> None:
    header = "id\ttitle\tdescription\tlink\timage_link\tadditional_image_link\tprice\n"
    more = f"{X}/2.jpg, {X}/3,a.jpg"
    text = header + f"7\tShoe\tlong\t{X}/p/7\t{X}/1.jpg\t{more}\t9 EUR\n8\tBag\t\t\t\t\t\n"
    own = {"id": "7", "title": "Shoe", "link": f"{X}/p/7", "price": "9 EUR"}
    *found, bad = rows(text)
    assert found == [
        {"url": f"{X}/{name}", **own, PHOTO_NUMBER: number}
        for number, name in enumerate(("1.jpg", "2.jpg", "3,a.jpg"), 1)
    ]
    assert problems([bad]) == ["Row 2 names no photo in `image_link`"]
    assert bad["id"] == "8"


RSS = f"""<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>
<item><g:id>7</g:id><title><![CDATA[Shoe & more]]></title><g:image_link> {X}/1.jpg </g:image_link>
<g:additional_image_link>{X}/2.jpg?a=1&amp;b=2</g:additional_image_link>
<g:additional_image_link>{X}/3.jpg</g:additional_image_link>
<g:shipping><g:country>DE</g:country><g:price>4 EUR</g:price></g:shipping></item>
<item><g:id>8</g:id></item>
</channel></rss>"""


@pytest.mark.parametrize("size", [11, 100_000])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_google_s_xml_is_read_like_its_table(size: int, encoding: str) -> None:
    text = RSS.replace('encoding="UTF-8"', f'encoding="{encoding}"')
    *found, bad = rows(text.encode(encoding), size=size)
    assert [row["url"] for row in found] == [f"{X}/1.jpg", f"{X}/2.jpg?a=1&b=2", f"{X}/3.jpg"]
    assert {row["id"] for row in found} == {"7"}
    assert found[0]["title"] == "Shoe & more"
    assert found[0]["shipping"] == "DE:4 EUR"
    assert problems([bad]) == ["Product 2 names no photo in `image_link`"]


def test_an_atom_feed_is_read_too() -> None:
    text = (
        '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0">'
        f'<entry><g:id>1</g:id><link href="{X}/p"/><g:image_link>{X}/1.jpg</g:image_link></entry>'
        "</feed>"
    )
    assert rows(text) == [{"url": f"{X}/1.jpg", "id": "1", "link": f"{X}/p"}]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("between", [" ", ",", "; "])
def test_a_cell_full_of_separators_does_not_hold_up_the_process(between: str) -> None:
    many = between * (120_000 // len(between))
    cell = f"{X}/1.jpg{many}{X}/2.jpg{many}y"
    found = rows(f'id\timage_link\n1\t"{cell}"\n', size=65_536)
    assert [row["url"] for row in found] == [f"{X}/1.jpg", f"{X}/2.jpg{many}y"]


def test_xml_of_one_endless_product_is_not_collected() -> None:
    def endless() -> Any:
        yield b"<rss><item>"
        while True:
            yield b"<a/>" * 4_000

    with pytest.raises(BadManifestError, match="more than"):
        list(read_rows(endless()))


def test_shopify_s_export_gives_a_row_for_each_picture() -> None:
    text = (
        "Handle,Title,Body (HTML),Variant SKU,Image Src,Image Position,Variant Image\n"
        f'shirt,Shirt,"<p>long</p>",S-1,{X}/a.jpg,1,{X}/blue.jpg\n'
        f"shirt,,,S-2,{X}/b.jpg,2,{X}/blue.jpg\n"
        "shirt,,,S-3,,,\n"
        f"shirt,,,,{X}/c.jpg,3,\n"
    )
    found = rows(text)
    assert [(row.get("url"), row["id"]) for row in found] == [
        (f"{X}/a.jpg", "S-1"),
        (f"{X}/blue.jpg", "S-1"),
        (f"{X}/b.jpg", "S-2"),
        (f"{X}/blue.jpg", "S-2"),
        (None, "S-3"),
        (f"{X}/c.jpg", "shirt"),
    ]
    assert isinstance(found[4], RowWithoutPhoto)
    assert "Body (HTML)" not in found[0]
    assert found[0]["Handle"] == "shirt"


def test_woocommerce_s_export_is_read() -> None:
    text = (
        "ID,Type,SKU,Name,Description,Images\n"
        f'10,simple,RED-40,Shoe,long,"{X}/a.jpg, {X}/b.jpg"\n'
        f"11,simple,,Bag,,{X}/c.jpg\n12,variation,RED-41,Shoe,,\n"
    )
    found = rows(text)
    assert [(row.get("url"), row["id"], row.get("ID")) for row in found] == [
        (f"{X}/a.jpg", "RED-40", "10"),
        (f"{X}/b.jpg", "RED-40", "10"),
        (f"{X}/c.jpg", "11", None),
        (None, "RED-41", "12"),
    ]
    assert isinstance(found[3], RowWithoutPhoto)


def test_a_feed_s_own_columns_never_name_a_photo() -> None:
    text = f"id,url,key,upload,image_link\n1,{X}/page,k,u,{X}/a.jpg\n"
    assert rows(text, feed=Feed.GOOGLE) == [
        {"url": f"{X}/a.jpg", "id": "1", "URL": f"{X}/page", "KEY": "k", "UPLOAD": "u"}
    ]
    with pytest.raises(BadManifestError, match="`images`"):
        rows(text, feed=Feed.WOOCOMMERCE)


def test_a_report_is_read_as_a_list() -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        [
            "id",
            "custom_id",
            "name",
            "source",
            "status",
            "output_key",
            "options",
            "sku",
            "'=p",
            "name",
        ]
    )
    writer.writerow(["u", "'-1", "a.jpg", "s3://photos/a.jpg", "failed", "", '{"format": "webp"}',
                     "RED", "'=1+1", "Shoe"])  # fmt: skip
    writer.writerow(["u", "2", "b.jpg", f"{X}/b.jpg", "succeeded", "s3://m/1", "", "", "", ""])
    writer.writerow(["u", "3", "row 3", "row:3", "failed", "", "", "", "", ""])
    first, second, third = rows("\ufeff" + text.getvalue())
    item = READER.item(first, 1)
    assert (item.source, item.custom_id) == ("s3://photos/a.jpg", "-1")
    assert item.labels == {"sku": "RED", "=p": "=1+1", "name": "Shoe"}
    assert Options.model_validate(item.options).format == "webp"
    assert second == {"url": f"{X}/b.jpg", "id": "2"}
    assert problems([third]) == ["Row 3 names no photo in `source`"]


def test_a_report_leaves_out_what_its_job_left_out() -> None:
    text = "name,source,custom_id,status,output_key,error_code\nx.txt,row:2,,failed,,left-out\n"
    assert [type(row) for row in rows(text)] == [RowWithoutPhoto]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{X}/a.jpg\n{X}/b.jpg\n", "no header"),
        (f"1,{X}/a.jpg\n2,{X}/b.jpg\n", "no header"),
        (f'[{{"url": "{X}/a.jpg"}}]', "JSON array"),
        ("\n<!DOCTYPE html><p>Sign in</p>", "web page"),
    ],
)
def test_what_people_take_for_a_list_is_called_what_it_is(text: str, said: str) -> None:
    with pytest.raises(BadManifestError, match=said):
        rows(text)


HEADERS = st.sampled_from(
    ["id,url", "image_link,additional_image_link", "Handle,Image Src", "SKU,Images", "<rss>", "{"]
)


@given(HEADERS, st.binary(max_size=300), st.integers(1, 64))
def test_any_bytes_are_rows_or_an_error(header: str, data: bytes, size: int) -> None:
    try:
        found = rows(header.encode() + b"\n" + data, size=size)
    except BadManifestError:
        return
    for number, row in enumerate(found, 1):
        assert READER.item(row, number).source
