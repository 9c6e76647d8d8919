"""Render openly licensed emoji to captioned pictures, for `studio data`. The picture starter is made of these.

    python prepare.py PACKAGES FOLDER

PACKAGES holds the unpacked npm packages that docs/starter.md names, each as NAME-VERSION/package. FOLDER gets the
pictures, 128 × 128 on white, and metadata.jsonl with several captions for each. Needs `pip install resvg-py pillow`.

The same packages give the same pictures and captions: what is drawn by lot is drawn from each picture's own name.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIDE, DRAWN = 128, 120  # px: of the page, and of what is drawn on it
SMALLEST = 96  # px of what is drawn smaller, somewhere on the page
CAPTIONS = 8  # that are drawn for each picture; equal ones are kept once
CHINESE = 0.15  # of the captions, where there are Chinese words
STYLED = 0.65  # of the captions name the style
FLAGS = 9  # emojibase's group; of hundreds alike only these are kept
KEPT_FLAGS = re.compile("pirate|rainbow|chequered|white|black|triangular|crossed")

STYLES = {"noto": "noto style", "fluent-emoji-flat": "flat style", "twemoji": "sticker style"}


def bare(code: str) -> str:
    """A sequence of code points without the mark that only asks for colour."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def package(folder: Path, name: str) -> Path:
    found = [path for path in folder.glob(f"{name}-[0-9]*") if (path / "package").is_dir()]
    if len(found) != 1:
        raise SystemExit(f"{folder} should hold {name}-VERSION/package once, and holds it {len(found)} times.")
    return found[0] / "package"


def words(packages: Path, language: str) -> dict[str, dict[str, Any]]:
    data = json.loads((package(packages, "emojibase-data") / language / "data.json").read_text("utf-8"))
    return {bare(each["hexcode"]): each for each in data}


def icons(packages: Path, name: str) -> Iterator[tuple[str, str, str]]:
    """Name, code points and SVG of each icon of a set."""
    folder = package(packages, f"iconify-json-{name}")
    drawn = json.loads((folder / "icons.json").read_text("utf-8"))
    codes: dict[str, str] = {}
    for code, icon in json.loads((folder / "chars.json").read_text("utf-8")).items():
        codes.setdefault(icon, bare(code))
    for icon, about in sorted(drawn["icons"].items()):
        if icon not in codes:
            continue
        wide = about.get("width", drawn.get("width", 16))
        high = about.get("height", drawn.get("height", 16))
        yield (
            icon,
            codes[icon],
            (
                '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="0 0 {wide} {high}" width="{DRAWN}" height="{DRAWN}">{about["body"]}</svg>'
            ),
        )


def wanted(about: dict[str, Any] | None) -> bool:
    if about is None or about.get("group") is None:
        return False
    return about["group"] != FLAGS or KEPT_FLAGS.search(about["label"]) is not None


def captions(english: dict[str, Any], chinese: dict[str, Any], style: str, draws: random.Random) -> list[str]:
    """Ways to say a picture: its label, with some of its tags, tags alone; some in Chinese; most with the style."""
    found = []
    for _ in range(CAPTIONS):
        in_chinese = bool(chinese.get("label")) and draws.random() < CHINESE
        about = chinese if in_chinese else english
        label, tags = about["label"], about.get("tags", [])
        kind = draws.random()
        if kind < 0.55 or not tags:
            said = label
        elif kind < 0.83:
            said = ", ".join([label, *draws.sample(tags, min(len(tags), draws.randint(1, 2)))])
        else:
            said = " ".join(draws.sample(tags, min(len(tags), draws.randint(1, 3))))
        found.append(f"{said}, {style}" if draws.random() < STYLED else said)
    return list(dict.fromkeys([english["label"], f"{english['label']}, {style}", *found]))


def main() -> None:
    import resvg_py
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=0, help="stop after so many icons of each set")
    parser.add_argument(
        "--smaller", action="store_true",
        help="draw every other icon once more, smaller and somewhere on the page; what is kept apart for validation is "
        "then no longer unseen",
    )  # fmt: skip
    given = parser.parse_args()
    english, chinese = words(given.packages, "en"), words(given.packages, "zh")
    given.folder.mkdir(parents=True, exist_ok=True)
    rows, pictures, failed = [], 0, 0
    for name, style in STYLES.items():
        count = 0
        for icon, code, svg in icons(given.packages, name):
            if not wanted(english.get(code)) or (given.most and count >= given.most):
                continue
            try:
                drawn = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN, height=DRAWN))
            except (ValueError, RuntimeError):  # an icon that resvg cannot read
                failed += 1
                continue
            picture = Image.open(io.BytesIO(drawn)).convert("RGBA")
            draws = random.Random(f"{name}/{icon}")
            said = captions(english[code], chinese.get(code, {}), style, draws)
            smaller = draws.randint(SMALLEST, DRAWN)
            # in the middle, and if asked for every other one once more, smaller and somewhere else
            shapes = [(picture, (SIDE - picture.width) // 2, (SIDE - picture.height) // 2)]
            if given.smaller and draws.random() < 0.5:
                small = picture.resize((smaller, smaller), Image.Resampling.LANCZOS)
                shapes.append((small, draws.randint(0, SIDE - smaller), draws.randint(0, SIDE - smaller)))
            for number, (shape, left, top) in enumerate(shapes):
                page = Image.new("RGBA", (SIDE, SIDE), "white")
                page.alpha_composite(shape, (left, top))
                file = f"{name}-{icon}{'-small' if number else ''}.png"
                page.convert("RGB").save(given.folder / file, optimize=True)
                rows += [json.dumps({"file_name": file, "text": text}, ensure_ascii=False) for text in said]
                pictures += 1
            count += 1
        print(f"{name}: {count:,} icons", flush=True)
    (given.folder / "metadata.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    print(f"{pictures:,} pictures with {len(rows):,} captions; {failed:,} icons could not be drawn")


if __name__ == "__main__":
    main()
