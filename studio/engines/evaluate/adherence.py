"""How well prompts are followed, by a small classifier that is trained here on captioned pictures.

The classifier says of each word of its own whether it is to be seen in a picture. It knows what its pictures showed and
no more: it suits models that were trained on pictures of the same kind, such as the studio's starter.

Its folder holds `classifier.json` (words, side, and how often it was right on pictures it had not learnt from) and
`classifier.safetensors`. Knows tensors and pixels; knows no report.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from studio.core.files import sync_folder, write_durably
from studio.core.problems import BadRecipe, ModelBroken, ModelMissing
from studio.engines.evaluate.intervals import Array

ABOUT, WEIGHTS = "classifier.json", "classifier.safetensors"
ABOUT_LIMIT = 4 * 1024 * 1024  # bytes
WORDS_LIMIT = 1000
FEWEST = 40  # pictures to learn from
SIDE = 64  # px
HELD_OUT = 0.15  # share of pictures that it is tried on
BATCH = 32
RATE = 2e-3
_RARE, _COMMON = 0.02, 0.9  # share of captions: words beyond are not learnt
_SMALL = frozenset([
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "in", "into", "is", "it", "its", "of", "on",
    "or", "that", "the", "their", "this", "to", "with", "over", "under",
])  # fmt: skip

Progress = Callable[[int, int], None]


class Classifier(msgspec.Struct, frozen=True, kw_only=True):
    """`classifier.json`. `accuracy`: share of held-out answers that were right, of words that are there and not there
    with equal weight, 0…1; `of_word`: the same of each word."""

    format: str = "studio-classifier"
    version: int = 1
    words: tuple[str, ...]
    side: int = SIDE
    width: int = 24
    accuracy: float = 0.0
    of_word: dict[str, float] = {}
    pictures: int = 0
    held_out: int = 0
    seed: int = 0


def words_in(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def words_to_learn(captions: Sequence[str]) -> list[str]:
    """Words that some captions have and some have not, the commonest first."""
    counts = Counter(word for caption in captions for word in set(words_in(caption)))
    low, high = max(4.0, _RARE * len(captions)), _COMMON * len(captions)
    found = [word for word, count in counts.most_common() if low <= count <= high and word not in _SMALL]
    return found[:WORDS_LIMIT]


def pixels(images: Sequence[Image.Image], side: int) -> Any:
    """(n, 3, side, side), −1…1, float32."""
    rows = [np.asarray(image.resize((side, side), Image.Resampling.LANCZOS), np.float32) for image in images]
    return np.stack(rows).transpose(0, 3, 1, 2) / 127.5 - 1.0


def network(words: int, width: int) -> Any:
    """Five convolutions, each but the first halving the picture, and one layer over their mean."""
    from torch import nn

    parts: list[Any] = []
    before = 3
    for i in range(5):
        after = width * min(2**i, 8)
        parts += [nn.Conv2d(before, after, 3, stride=1 if i == 0 else 2, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
        before = after
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, words))


def train(
    folder: Path, images: Sequence[Image.Image], captions: Sequence[str], *, steps: int = 400, side: int = SIDE,
    width: int = 24, seed: int = 0, words: Sequence[str] = (), progress: Progress = lambda done, total: None,
) -> Classifier:  # fmt: skip
    """Train a classifier and leave it in `folder`, which is made.

    Args:
        captions: what each picture shows. words: to be learnt; empty takes those of the captions.
        progress: called at every step; may raise to stop, and then nothing is left.

    Raises:
        BadRecipe: too few pictures, or captions without words that tell them apart.
    """
    import torch
    from safetensors.torch import save

    if len(images) < FEWEST:
        raise BadRecipe(f"A classifier needs at least {FEWEST} captioned pictures; these are {len(images)}.")
    known = list(words) or words_to_learn(captions)
    if not known:
        raise BadRecipe("No word tells these pictures apart.", "Their captions must differ in words.")
    wanted = torch.tensor([[float(word in set(words_in(caption))) for word in known] for caption in captions])
    draws = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=draws)
    held = max(8, round(HELD_OUT * len(images)))
    tried, learnt = order[:held], order[held:]
    seen = torch.from_numpy(pixels(images, side))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(len(known), width)
    share = wanted[learnt].mean(0).clamp(1e-3, 1 - 1e-3)
    rule = torch.nn.BCEWithLogitsLoss(pos_weight=((1 - share) / share).clamp(max=50))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    for step in range(steps):
        progress(step, steps)
        chosen = learnt[torch.randint(len(learnt), (BATCH,), generator=draws)]
        loss = rule(net(seen[chosen]), wanted[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plan.step()
    with torch.inference_mode():
        said = torch.cat([net(seen[tried[at : at + 64]]) for at in range(0, len(tried), 64)]) > 0
    of_word = {word: _right(said[:, i], wanted[tried, i] > 0.5) for i, word in enumerate(known)}
    fair = [value for value in of_word.values() if value is not None]
    about = Classifier(
        words=tuple(known), side=side, width=width, accuracy=sum(fair) / len(fair) if fair else 0.0,
        of_word={word: value for word, value in of_word.items() if value is not None}, pictures=len(learnt),
        held_out=len(tried), seed=seed,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / WEIGHTS, save({name: each.contiguous() for name, each in net.state_dict().items()}))
    write_durably(folder / ABOUT, msgspec.json.format(msgspec.json.encode(about), indent=1))
    sync_folder(folder)
    return about


def _right(said: Any, true: Any) -> float | None:
    """The mean of how many of those that are there were found and how many of those that are not were not."""
    if not bool(true.any()) or bool(true.all()):
        return None
    return float((said[true].float().mean() + (~said[~true]).float().mean()) / 2)


class Following:
    """A classifier held open.

    Raises:
        ModelMissing, ModelBroken: the folder.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            with open(folder / ABOUT, "rb") as stream:
                self.about = msgspec.json.decode(stream.read(ABOUT_LIMIT), type=Classifier)
            self._net = network(len(self.about.words), self.about.width)
            self._net.load_state_dict(load_file(folder / WEIGHTS))
        except FileNotFoundError as error:
            raise ModelMissing(f"“{folder.name}” is no classifier that was trained here.",
                               f"Its folder has {ABOUT} and {WEIGHTS}.", detail=str(error)) from error  # fmt: skip
        except (OSError, msgspec.MsgspecError, SafetensorError, RuntimeError, ValueError) as error:
            raise ModelBroken(f"The classifier “{folder.name}” is damaged.", "Train it again.",
                              detail=str(error)[:2000]) from error  # fmt: skip
        self._net.eval()
        self._torch = torch

    def sees(self, images: Sequence[Image.Image]) -> Array:
        """How sure it is of each word, (n, words), 0…1."""
        with self._torch.inference_mode():
            found = self._net(self._torch.from_numpy(pixels(images, self.about.side))).sigmoid()
        return np.asarray(found.double().numpy())

    def followed(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[dict[str, bool]]:
        """Of each picture: the words of its prompt that the classifier knows -> whether it sees them."""
        sure = self.sees(images)
        place = {word: i for i, word in enumerate(self.about.words)}
        return [
            {word: bool(row[place[word]] > 0.5) for word in dict.fromkeys(words_in(prompt)) if word in place}
            for row, prompt in zip(sure, prompts, strict=True)
        ]
