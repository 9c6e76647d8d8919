"""Measures how fast data sets are made, and in how much memory.

    python benchmarks/data.py [--size MB] [--kind jsonl|wiki|lines] [--duplicates keep|exact|near] [--folder PATH]

Writes a file of so many megabytes (sentences put together anew for every row), makes a data set of it in a real worker,
as the studio does, and tells the worker's highest resident memory and its pace, beside a loop that only reads the file
and decodes its rows. Other work on the machine makes both slower alike; the memory is what it is.
"""

from __future__ import annotations

import argparse
import bz2
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
import psutil

from studio.app.session import Session
from studio.core.events import Progress
from studio.core.paths import Paths

_WORDS = (
    "river stone lamp garden winter copper violin harbour meadow candle thunder mirror orchard saddle compass she he "
    "blanket feather kettle lantern marble needle ocean pepper quarry ribbon sparrow timber umbrella valley wagon the "
    "of and a in was under over with her his from slowly never again"
)
WORDS = _WORDS.split()
HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo><namespaces><namespace key="0"/>'
    '<namespace key="6">File</namespace><namespace key="14">Category</namespace></namespaces></siteinfo>\n'
)


def sentences(draw: random.Random, count: int) -> list[str]:
    return [f"{' '.join(draw.choices(WORDS, k=draw.randrange(6, 22))).capitalize()}." for _ in range(count)]


def rows(kind: str, size: int) -> Iterator[bytes]:
    """Pieces of the file, all of them together `size` bytes."""
    draw = random.Random(1)
    pool = sentences(draw, 5_000)
    made = at = 0
    if kind == "wiki":
        yield HEAD.encode()
    while made < size:
        text = " ".join(draw.choices(pool, k=draw.randrange(4, 40)))
        if kind == "wiki":
            body = (
                f"'''Page {at}''' is [[{text[:20]}|a page]].{{{{Box|a={{{{b}}}}}}}} {text}\n\n== Head ==\n* [[x{at}]]\n"
            )
            page = f"<page><title>Page {at}</title><ns>0</ns><revision><text>{body * 3}</text></revision></page>\n"
            line = page.encode()
        elif kind == "lines":
            line = f"{at} {text[:40]}\n".encode()
        else:
            line = msgspec.json.encode({"id": at, "text": f"{at}: {text}"}) + b"\n"
        made += len(line)
        at += 1
        yield line
    if kind == "wiki":
        yield b"</mediawiki>\n"


def write(path: Path, kind: str, size: int) -> None:
    if kind == "wiki":
        with bz2.open(path, "wb", compresslevel=1) as stream:
            stream.writelines(rows(kind, size))
    else:
        with open(path, "wb", buffering=1 << 20) as stream:
            stream.writelines(rows(kind, size))


def bare(path: Path, kind: str) -> float:
    """Seconds of reading alone."""
    began = time.perf_counter()
    if kind == "wiki":
        with bz2.open(path, "rb") as stream:
            while stream.read(1 << 18):
                pass
    else:
        with open(path, "rb") as stream:
            for line in stream:
                if kind == "jsonl":
                    msgspec.json.decode(line)
                else:
                    line.decode("utf-8")
    return time.perf_counter() - began


class Peak:
    """The highest resident memory of the worker of data sets, in bytes, as it is seen every 20 ms."""

    def __init__(self, session: Session) -> None:
        self.bytes = 0
        self._session = session
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            for lane, _, pid in self._session.workers():
                if lane == "dataset":
                    try:
                        self.bytes = max(self.bytes, psutil.Process(pid).memory_info().rss)
                    except psutil.Error:
                        continue

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=300, metavar="MB")
    parser.add_argument("--kind", choices=["jsonl", "wiki", "lines"], default="jsonl")
    parser.add_argument("--duplicates", choices=["keep", "exact", "near"], default="exact")
    parser.add_argument("--folder", help="where the file and the data set are put for the time being")
    options = parser.parse_args()
    endings = {"jsonl": "jsonl", "wiki": "xml.bz2", "lines": "txt"}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / f"source.{endings[options.kind]}"
        write(path, options.kind, options.size * 1_000_000)
        print(f"{options.kind}: {options.size:,} MB of text, {path.stat().st_size / 1e6:,.0f} MB on disk")
        seconds = bare(path, options.kind)
        print(f"reading alone: {options.size / seconds:,.1f} MB/s")

        shown = 0.0

        def told(event: object) -> None:
            nonlocal shown
            if isinstance(event, Progress) and time.monotonic() - shown > 30:
                shown = time.monotonic()
                print(f"  {event.phase} {event.done:,.0f} of {event.total:,.0f} {event.unit}", flush=True)

        with Session(Paths(Path(folder) / "home")) as session:
            session.subscribe(told)
            peak = Peak(session)
            given = {
                "sources": [str(path)], "duplicates": options.duplicates,
                "split_text": "line" if options.kind == "lines" else "document",
            }  # fmt: skip
            began = time.perf_counter()
            end = session.wait(session.submit(session.recipe("dataset", given).recipe).id)
            seconds = time.perf_counter() - began
            highest = peak.end()
            made = session.datasets()
            if not made:
                print(end)
                return
            count = sum(split.rows for split in made[0].splits.values())
            print(
                f"data set ({options.duplicates}): {options.size / seconds:,.1f} MB/s, {count:,} rows in "
                f"{seconds:,.0f} s, at most {highest / 1e6:,.0f} MB resident"
            )


if __name__ == "__main__":
    main()
