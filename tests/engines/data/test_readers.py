"""What is read of each format, and what of files that are odd or damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from studio.core.problems import BadRecipe, NotRead
from studio.engines.data import chats, readers, sources, streams
from studio.engines.data.readers import page_text
from studio.engines.data.streams import Bad
from studio.engines.data.wiki import plain
from tests.engines.data.bench import read, recipe

GREEK = "Ἐν ἀρχῇ ἦν ὁ λόγος"


def file(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("document", ["One\nstill one\n\nTwo\n\n\nThree"]),
        ("paragraph", ["One\nstill one\n", "Two\n", "Three"]),
        ("line", ["One", "still one", "Two", "Three"]),
    ],
)
def test_a_text_is_one_row_or_its_paragraphs_or_its_lines(tmp_path: Path, by: str, expected: list[str]) -> None:
    found, _ = read(file(tmp_path / "a.txt", "One\r\nstill one\r\n\r\nTwo\r\n\r\n\r\nThree"), split_text=by)
    assert found == expected


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_what_is_compressed_is_read_as_if_it_were_not(tmp_path: Path, pack: Any) -> None:
    found, _ = read(
        file(tmp_path / "a.txt.gz", pack(b"One two.")), file(tmp_path / "b.jsonl.xz", pack(b'{"text": "x"}'))
    )
    assert found == ["One two.", "x"]


def test_markdown_loses_its_front_matter_and_nothing_else(tmp_path: Path) -> None:
    front = "---\ntitle: x\n---\n\n# Head\n\n---\n\nText"
    assert read(file(tmp_path / "a.md", front))[0] == ["# Head\n\n---\n\nText"]
    assert read(file(tmp_path / "b.md", "# Head\n---\nText"))[0] == ["# Head\n---\nText"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "Ein schöner Tag"), ("utf-16", "Ein schöner Tag"), ("utf-32", GREEK), ("utf-8", GREEK),
        ("cp1252", "Dies ist ein längerer Satz über schöne Tage im Grünen, damit man die Größe sieht. " * 5),
        ("cp1252", "Straße\n" + "Plain ASCII all the way.\n" * 40),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy a nikdo ho neslyšel, protože všichni spali. " * 5),
        ("koi8_r", "Это довольно длинное предложение на русском языке о хорошей погоде. " * 5),
        ("cp1251", "Это довольно длинное предложение на русском языке о хорошей погоде. " * 5),
        ("shift_jis", "これは日本語で書かれた長い文章です。天気が良いので散歩に行きます。" * 5),
    ],
)  # fmt: skip
def test_the_encoding_is_found(tmp_path: Path, encoding: str, text: str) -> None:
    assert "".join(read(file(tmp_path / "a.txt", text, encoding))[0]) == text


def test_an_encoding_that_does_not_fit_is_told_with_the_place(tmp_path: Path) -> None:
    path = file(tmp_path / "a.txt", b"x" * 300_000 + b"caf\xe9!" + b"x" * 10)
    with pytest.raises(NotRead) as caught:
        read(path, encoding="utf-8")
    assert caught.value.problem.sentence == "“a.txt” is not written in utf-8: byte 300,003 does not fit."
    with pytest.raises(NotRead) as caught:
        read(file(tmp_path / "b.jsonl", b'{"text": "x"}\n{"text": "caf\xe9"}\n'), encoding="utf-8")
    assert "byte 27 does not fit" in caught.value.problem.sentence
    with pytest.raises(BadRecipe, match="no encoding “klingon”"):
        read(path, encoding="klingon")


def test_single_broken_characters_are_replaced_and_told(tmp_path: Path) -> None:
    path = file(tmp_path / "a.txt", "schön ".encode() * 60_000 + b"\xff" + " schön".encode())
    found, reading = read(path, longest=10_000_000)
    assert found[0].count("\ufffd") == 1 and found[0].count("schön") == 60_001
    assert reading.encodings == {"a.txt": "utf-8"}


def test_a_line_of_many_megabytes_comes_in_pieces(tmp_path: Path) -> None:
    path = file(tmp_path / "a.txt", b"word " * 2_000_000)
    for by in ("document", "paragraph", "line"):
        found, _ = read(path, split_text=by, longest=100_000)
        assert max(map(len, found)) <= 100_000
        assert sum(len(text) for text in found) == 10_000_000


def test_a_json_line_beyond_all_measure_is_left_out_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LINE_LIMIT", 1_000)
    monkeypatch.setattr(streams, "BLOCK", 100)
    content = b'{"text": "%s"}\n{"text": "next"}\n' % (b"x" * 5_000)
    assert read(file(tmp_path / "a.jsonl", content))[0] == [Bad("a line over 128 MB"), "next"]


def test_books_are_read_in_the_order_of_their_spine(tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="in/p.opf"/></rootfiles></container>',
        )
        book.writestr(
            "in/p.opf",
            '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="b" href="two%20b.xhtml"/>'
            '<item id="a" href="one.xhtml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
        )
        book.writestr(
            "in/one.xhtml", "<html><head><title>no</title></head><body><p>First &amp; best.</p></body></html>"
        )
        book.writestr("in/two b.xhtml", "<p>Second<br/>line.</p><script>no()</script>")
    assert read(file(tmp_path / "a.epub", held.getvalue()))[0] == ["First & best.\n\nSecond\nline."]


def test_a_book_that_declares_entities_is_read_without_them(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><container>&b;</container>'
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr("META-INF/container.xml", bomb)
        book.writestr("c.xhtml", "<p>Text.</p>")
    assert read(file(tmp_path / "a.epub", held.getvalue()))[0] == ["Text."]


def test_a_web_page_is_its_text() -> None:
    page = "<head><style>x</style></head><nav>Menu</nav><h1>Title</h1><p>One <b>two</b>\n three.</p><ul><li>a<li>b</ul>"
    assert page_text(page) == "Title\n\nOne two three.\n\na\n\nb"


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_is_read_whatever_parts_its_cells(tmp_path: Path, separator: str) -> None:
    head, rows = ["id", "text"], [["1", "One"], ["2", f'"Two{separator} ""quoted""\nand on"'], ["3", "Three", "many"]]
    content = "\n".join(separator.join(row) for row in [head, *rows])
    found, reading = read(file(tmp_path / "a.csv", content))
    assert found == ["One", f'Two{separator} "quoted"\nand on', Bad("a line with too many columns")]
    assert reading.columns == {"a.csv": ["id", "text"]}


def test_long_cells_are_read_and_the_limit_of_the_process_stays(tmp_path: Path) -> None:
    import csv

    usual = csv.field_size_limit(131_072)
    found, _ = read(file(tmp_path / "a.csv", f"id,text\n1,{'x' * 300_000}\n"))
    assert [len(text) for text in found] == [300_000]
    assert csv.field_size_limit(usual) == 131_072


def test_a_table_without_names_numbers_its_columns(tmp_path: Path) -> None:
    path = file(tmp_path / "a.csv", "1,This is a first text.\n2,This is a second one.\n")
    assert read(path)[0] == ["This is a first text.", "This is a second one."]
    assert read(path, text="column 1")[0] == ["1", "2"]
    with pytest.raises(BadRecipe, match="There is no column “text”"):
        read(path, text="text")


@pytest.mark.parametrize("text", ["[1, 2", '[{"text": "a"}, {"text": "b"', '[{"text": "a"}, nonsense]', '{"a": '])
def test_json_that_breaks_off_gives_what_is_whole(tmp_path: Path, text: str) -> None:
    found, _ = read(file(tmp_path / "a.json", text))
    assert isinstance(found[-1], Bad)
    assert [each for each in found if isinstance(each, str)] == (["a"] if '"a"}' in text else [])


def test_json_arrays_are_read_value_by_value_over_the_borders_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [
        {"text": f"“{'y' * (at % 40)}” and [brackets], {{braces}}, \\ ", "n": [1, {"a": None}]} for at in range(200)
    ]
    text = (
        "\ufeff ["
        + ",\n ".join(json.dumps(value, ensure_ascii=at % 2 == 0) for at, value in enumerate(values))
        + " ] x"
    )
    for size in (1, 7, 64, 10_000):
        blocks = (text[at : at + size] for at in range(0, len(text), size))
        assert list(streams.json_array(blocks)) == values, size


def test_an_object_that_holds_rows_is_read_as_those_rows(tmp_path: Path) -> None:
    path = file(tmp_path / "a.json", json.dumps({"version": "2", "data": [{"text": "a"}, {"text": "b"}]}, indent=1))
    assert read(path)[0] == ["a", "b"]


def test_parquet_reads_only_the_columns_it_needs(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"id": [1, 2], "body": ["One", None], "blob": [b"x", b"y"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found, reading = read(tmp_path / "a.parquet", text="body")
    assert found == ["One", Bad("a row without this column")]
    assert reading.columns == {"a.parquet": ["id", "body", "blob"]}
    content = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(NotRead, match="damaged"):
        read(file(tmp_path / "b.parquet", content[: len(content) // 2]))


@pytest.mark.parametrize(
    ("columns", "row", "given", "expected"),
    [
        (["id", "content"], {"id": "a longer name", "content": "x"}, {}, readers.Mapping("text", text="content")),
        (["a", "b"], {"a": "short", "b": "much longer than that"}, {}, readers.Mapping("text", text="b")),
        (["Text", "url"], {"Text": "x"}, {}, readers.Mapping("text", text="Text")),
        (["instruction", "input", "output"], {}, {},
         readers.Mapping("chat", question="instruction", answer="output", more="input")),
        (["instruction", "output"], {}, {"shape": "text", "text": "output"}, readers.Mapping("text", text="output")),
        (["q", "a"], {}, {"question": "q", "answer": "a"}, readers.Mapping("chat", question="q", answer="a")),
        (["file_name", "text"], {"file_name": "x/1.PNG"}, {},
         readers.Mapping("captions", image="file_name", text="text")),
        (["file_name", "text"], {"file_name": "notes.doc"}, {}, readers.Mapping("text", text="text")),
        (["image", "caption"], {"image": {"bytes": b"x"}}, {},
         readers.Mapping("captions", image="image", text="caption")),
        (["m", "text"], {"m": [{"role": "user", "content": "x"}]}, {}, readers.Mapping("chat", messages="m")),
    ],
)  # fmt: skip
def test_columns_are_found_by_their_names_and_contents(
    columns: list[str], row: dict[str, Any], given: dict[str, Any], expected: readers.Mapping
) -> None:
    assert readers.mapping(columns, [row], recipe(Path("x"), **given), "x") == expected


@pytest.mark.parametrize(
    ("given", "field"),
    [({"question": "no"}, "question"), ({"shape": "captions"}, "image"), ({"shape": "chat"}, "question")],
)
def test_columns_that_are_missing_are_told_with_those_that_are_there(given: dict[str, str], field: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        readers.mapping(["title", "n"], [{"title": "x", "n": 1}], recipe(Path("x"), **given), "x.csv")
    assert caught.value.problem.field == field
    assert "“title”, “n”" in caught.value.problem.hint


# -- conversations -----------------------------------------------------------------------------------------------------

TALK = [("user", "Hi"), ("assistant", "Hello.")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                      {"role": "tool", "content": "x"}, {"role": "assistant", "content": "Hello."}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
        {"instruction": "Hi", "input": "", "output": "Hello."},
        {"prompt": "Hi", "completion": "Hello."},
        {"prompt": "Hi", "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
    ],
)  # fmt: skip
def test_conversations_are_read_in_all_usual_forms(tmp_path: Path, row: Any) -> None:
    assert read(file(tmp_path / "a.jsonl", f"{json.dumps(row)}\n"))[0] == [TALK]
    assert read(file(tmp_path / "a.json", json.dumps([row], indent=2)))[0] == [TALK]


def test_a_question_comes_with_what_it_is_about_and_with_its_system_prompt() -> None:
    assert chats.asked("Sum up.", "Short.", "A long text", "Be brief.") == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sum up.\n\nA long text"},
        {"role": "assistant", "content": "Short."},
    ]  # fmt: skip


def test_an_export_of_chatgpt_is_read_along_the_branch_that_was_kept(tmp_path: Path) -> None:
    def node(name: str, parent: str | None, role: str, text: str) -> dict[str, Any]:
        return {"id": name, "parent": parent, "message": {"author": {"role": role}, "content": {"parts": [text]}}}

    mapping = {each["id"]: each for each in (
        node("0", None, "system", ""), node("1", "0", "user", "Hi"), node("2", "1", "assistant", "Left."),
        node("3", "1", "assistant", "Hello."),
    )}  # fmt: skip
    mapping["3"]["parent"], mapping["0"]["message"] = "1", None
    content = json.dumps([{"title": "x", "mapping": mapping, "current_node": "3"}])
    assert read(file(tmp_path / "conversations.json", content))[0] == [TALK]
    mapping["1"]["parent"] = "3"  # a circle ends
    assert read(file(tmp_path / "c.json", json.dumps([{"mapping": mapping, "current_node": "3"}])))[0] == [TALK]


def test_a_whatsapp_chat_is_a_conversation_a_day(tmp_path: Path) -> None:
    content = (
        "[01.02.23, 10:00:01] Ben: Hi\n\u200e[01.02.23, 10:00:05] Anna: Hello.\nmore\n"
        "[01.02.23, 10:01:00] Anna: <Media omitted>\n[02.02.23, 09:00:00] Ben: Up?\n[02.02.23, 09:00:10] Anna: Yes.\n"
        "[02.02.23, 09:00:20] Anna: Now.\n"
    )
    path = file(tmp_path / "_chat.txt", content)
    assert sources.kind_of(path) == "whatsapp"
    found, _ = read(path)
    assert found == [
        [("user", "Hi"), ("assistant", "Hello.\nmore")], [("user", "Up?"), ("assistant", "Yes.\nNow.")],
    ]  # fmt: skip
    american = file(tmp_path / "us.txt", "12/31/23, 9:41 PM - Messages are encrypted.\n12/31/23, 9:42 PM - Al: Hi\n"
                                         "12/31/23, 9:43 PM - Bo: Hello.\n")  # fmt: skip
    assert read(american, answer="Bo")[0] == [TALK]
    with pytest.raises(BadRecipe) as caught:
        read(american, answer="Cy")
    assert "“Al”" in caught.value.problem.hint


# -- large collections -------------------------------------------------------------------------------------------------

DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="de"><siteinfo><namespaces>
<namespace key="0" case="first-letter"/><namespace key="6" case="first-letter">Datei</namespace>
<namespace key="14" case="first-letter">Kategorie</namespace></namespaces></siteinfo>
<page><title>Stein</title><ns>0</ns><revision><text>{{Infobox|name={{x|y}}}}
'''Stein''' ist [[Mineral|hart]]&lt;ref&gt;no&lt;/ref&gt;.

== Arten ==
* [[Granit]]
[[Datei:a.jpg|mini|Ein [[Bild]]]]
{| class="x"
| no
|}
Ende &amp;amp; Schluss.
[[Kategorie:Steine]]</text></revision></page>
<page><title>Weg</title><ns>0</ns><redirect title="Stein"/>
<revision><text>#WEITERLEITUNG [[Stein]]</text></revision></page>
<page><title>Diskussion:Stein</title><ns>1</ns><revision><text>Talk</text></revision></page>
</mediawiki>"""


def test_a_wikipedia_dump_gives_its_articles_as_text(tmp_path: Path) -> None:
    path = file(tmp_path / "wiki.xml.bz2", bz2.compress(DUMP.encode()))
    found, _ = read(path)
    assert found == [
        "Stein\n\nStein ist hart.\n\nArten\n\nGranit\n\nEnde & Schluss.",
        Bad("a redirect"), Bad("a page that is no article"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("A [[house|home]] and a [[dog]]s.", "A home and a dogs."),
        ("Foo ({{IPA|[f]}}, ''fu'') is {{convert|12|km|mi}} long.", "Foo (, fu) is 12 km long."),
        ("It ({{IPA|[f]}}) is {{lang|de|ein Haus}}<ref>{{cite|a=[[b]]}}</ref>, {{abbr|etc|et cetera}}.",
         "It is ein Haus, etc."),
        ("One<br />two<!-- no\n -->&nbsp;x&mdash;y", "One\ntwo\u00a0x—y"),
        ("[[File:a.jpg|thumb|A [[b]], {{c}}]]Text [https://x.org a site].", "Text a site."),
        ("a\n[[de:Haus]]\n[[fr:Maison]]\nb", "a\n\nb"),
        ("{|\n|x\n{|\n|y\n|}\n|}\nafter", "after"),
        ("Unclosed {{a and [[b", "Unclosed {{a and [[b"),
        ("5 < 6, x .5 and (1,)", "5 < 6, x .5 and (1,)"),
        ("== Head ==\ntext\n=== Sub ===\nmore", "Head\n\ntext\n\nSub\n\nmore"),
    ],
)  # fmt: skip
def test_the_markup_of_articles_becomes_text(markup: str, text: str) -> None:
    assert plain(markup, {"file"}) == text


def test_deeply_nested_markup_takes_little_time() -> None:
    began = time.process_time()
    for markup in ("{{a|" * 9_000, "[[" * 9_000 + "]]" * 9_000, "{{a|" * 9_000 + "}}" * 9_000, "'" * 30_000):
        plain(markup, {"file"})
    assert time.process_time() - began < 20  # on a busy machine; alone it is a second


def test_a_dump_that_ends_in_the_middle_or_declares_entities_is_read_so_far(tmp_path: Path) -> None:
    damaged = "the rest of a damaged file"
    half = bz2.compress(DUMP.encode())[:-30]
    assert read(file(tmp_path / "a.xml.bz2", half))[0][-1] == Bad(damaged)
    text = DUMP[: DUMP.index("<page><title>Weg")]
    found, _ = read(file(tmp_path / "b.xml", text))
    assert found[0].startswith("Stein") and found[1] == Bad(damaged)
    bomb = '<!DOCTYPE mediawiki [<!ENTITY a "b">]>' + DUMP.replace("Ende", "&a;")
    assert read(file(tmp_path / "c.xml", bomb), format="wikipedia")[0] == [Bad(damaged)]


def record(kind: str, text: str) -> bytes:
    body = text.encode()
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body + b"\r\n\r\n"


def test_common_crawl_gives_the_text_of_its_pages(tmp_path: Path) -> None:
    parts = [record("warcinfo", "Software: x"), record("conversion", "Erste Seite\nüber."), record("conversion", "Two")]
    expected = ["Erste Seite\nüber.", "Two"]
    assert read(file(tmp_path / "a.warc.wet", b"".join(parts)))[0] == expected
    packed = b"".join(map(gzip.compress, parts))
    assert read(file(tmp_path / "a.warc.wet.gz", packed))[0] == expected
    found, _ = read(file(tmp_path / "b.warc.wet.gz", packed[:-12]))
    assert found[:1] == expected[:1]


# -- pictures ----------------------------------------------------------------------------------------------------------


def picture(path: Path, colour: int = 0) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(path)
    return path


@pytest.mark.parametrize("how", ["txt", "jsonl", "csv"])
def test_captions_lie_beside_their_pictures_or_in_a_table(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "in"
    paths = [picture(folder / "sub" / f"{at}.png", at) for at in range(2)]
    names = [f"sub/{at}.png" for at in range(2)]
    if how == "txt":
        for at, path in enumerate(paths):
            file(path.with_suffix(".txt"), f"Caption {at}\n")
    elif how == "jsonl":
        rows = [json.dumps({"file_name": name, "text": f"Caption {at}"}) for at, name in enumerate(names)]
        file(folder / "metadata.jsonl", "\n".join(rows))
    else:
        file(
            folder / "metadata.csv",
            "file_name,caption\n" + "\n".join(f"{n},Caption {at}" for at, n in enumerate(names)),
        )
    found, _ = read(folder)
    assert found == [(path, f"Caption {at}") for at, path in enumerate(paths)]


def test_a_picture_outside_of_the_folder_is_not_taken(tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret.png")
    folder = tmp_path / "in"
    rows = [{"file_name": name, "text": "x"} for name in ("../secret.png", str(secret), "a\0.png")]
    file(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    assert read(folder)[0] == [Bad("a picture outside of the folder")] * 3


# -- which files -------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_with_all_below_it_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/10.txt", "a.txt", "c.md", ".hidden/x.txt", "d.xyz"):
        file(tmp_path / "in" / name, name)
    assert read(tmp_path / "in")[0] == ["a.txt", "b/10.txt", "b/2.txt", "c.md"]
    found = sources.find(recipe(tmp_path / "in"), lambda: None)
    assert found.left_out == {"a file of another kind (.xyz)": 1}
    assert [s.name for s in sources.find(recipe(tmp_path / "in", format="markdown"), lambda: None).sources] == ["c.md"]


def test_links_lead_neither_in_circles_nor_out_of_the_folder(tmp_path: Path) -> None:
    file(tmp_path / "secret.txt", "secret")
    folder = tmp_path / "in"
    file(folder / "a" / "x.txt", "x")
    (folder / "a" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "dead.txt").symlink_to(folder / "gone")
    assert read(folder)[0] == ["x"]
    left = sources.find(recipe(folder), lambda: None).left_out
    assert left == {
        "a link back to a folder": 1, "a link to somewhere outside of the folder": 1, "a link that leads nowhere": 1,
    }  # fmt: skip


def test_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotRead, match=r"“.*gone\.txt” cannot be read: No such file"):
        read(tmp_path / "gone.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotRead, match="nothing in these sources"):
        read(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.txt", '{"text": "x"}\n{"text": "y"}\n', "jsonl"), ("a", '[\n {"text": "x"}\n]', "json"),
        ("a.json", '{"text": "x"}\n{"text": "y"}\n', "jsonl"), ("a.jsonl", '[{"text": "x"}]', "json"),
        ("a.txt", "[1] A footnote.\n", "text"), ("a.md", "[link](x)", "markdown"), ("a.xml", "<a/>", "text"),
        ("a.txt", DUMP, "wikipedia"), ("a", "WARC/1.0\r\n", "wet"), ("a.txt", "", "text"),
        ("a", "<!doctype html><p>x", "html"), ("a.csv", "a,b\n", "csv"), ("a.log", "12:00 started\n", "text"),
    ],
)  # fmt: skip
def test_a_file_is_known_by_its_content_before_its_ending(tmp_path: Path, name: str, content: str, kind: str) -> None:
    assert sources.kind_of(file(tmp_path / name, content)) == kind
