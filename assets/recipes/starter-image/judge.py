"""Train the small classifier that judges how well the picture starter follows prompts, and write its prompt sheet.

    python assets/recipes/starter-image/judge.py PICTURES CLASSIFIER

PICTURES is the folder that prepare.py drew. CLASSIFIER gets `classifier.json`, `classifier.safetensors`, and
`prompts.txt`: each word that the classifier tells reliably on pictures it has not learnt from, in each of the three
styles. `studio evaluate image --classifier CLASSIFIER --prompts …` paints and judges them. Takes about five minutes on
two cores, and gives the same classifier each time on the same machine.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from studio.engines.evaluate import adherence

STYLES = ("noto", "flat", "sticker")
FEWEST = 24  # pictures that a word must have
SURE = 0.85  # share of held-out answers about a word that must be right
STEPS = 2500
# Words of tags that say nothing of what is to be seen.
ABSTRACT = frozenset([
    "style", "with", "in", "of", "no", "mark", "o", "time", "s", "not", "up", "right", "left", "down", "accessibility",
    "143", "00", "30", "thirty", "index", "game", "sport",
])  # fmt: skip


def main(pictures: Path, folder: Path) -> int:
    captions: dict[str, list[str]] = defaultdict(list)
    for line in (pictures / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        captions[row["file_name"]].append(row["text"])
    counts = Counter(word for each in captions.values() for word in set(adherence.words_in(" ".join(each))))
    words = [w for w, n in counts.most_common() if n >= FEWEST and w.isascii() and w not in ABSTRACT | set(STYLES)]
    words = [*STYLES, *words]
    images = [Image.open(pictures / name).convert("RGB").resize((adherence.SIDE,) * 2, Image.Resampling.LANCZOS)
              for name in captions]  # fmt: skip

    def progress(done: int, total: int) -> None:
        if done % 250 == 0:
            print(f"step {done} of {total}", flush=True)

    about = adherence.train(
        folder, images, [" ".join(each) for each in captions.values()], steps=STEPS, words=words, progress=progress
    )
    known = [word for word in about.words if about.of_word.get(word, 0.0) >= SURE and word not in STYLES]
    (folder / "prompts.txt").write_text("".join(f"{w}, {s} style\n" for w in known for s in STYLES), encoding="utf-8")
    print(f"{len(about.words)} words from {about.pictures:,} pictures; {about.accuracy:.1%} of the answers on "
          f"{about.held_out:,} held-out pictures are right; {len(known)} words are in the prompt sheet.")  # fmt: skip
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
