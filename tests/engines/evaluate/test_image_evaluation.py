"""Pictures measured: by their pixels, by features of a tiny judge, and by a classifier that is trained here."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from studio.core.cards import ModelCard
from studio.core.events import Progress
from studio.core.learning import Dataset, DatasetRecipe
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelBroken, ModelMissing, ModelUnfit, StudioError
from studio.core.recipes import check
from studio.engines.context import JobCancelled
from studio.engines.evaluate import adherence, distances, features, looks
from studio.engines.evaluate.adherence import Following
from studio.engines.evaluate.features import Judge
from studio.engines.evaluate.image import EvaluateImage
from tests.engines.evaluate.surroundings import Job, value
from tests.engines.image import tiny

torch.set_num_threads(1)
CARD = ModelCard(id="evaluate-image", name="", kind="evaluate-image", engine="evaluate.image", path="", format="")
NEVER = lambda: None  # noqa: E731
COLOURS = {"red": (210, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 210)}


def drawing(colour: str, shape: str, chance: random.Random) -> Image.Image:
    """A shape somewhere on a light ground."""
    image = Image.new("RGB", (64, 64), tuple(chance.randint(215, 255) for _ in range(3)))
    size, pen = chance.randint(22, 40), ImageDraw.Draw(image)
    left, top = chance.randint(0, 63 - size), chance.randint(0, 63 - size)
    box = (left, top, left + size, top + size)
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=COLOURS[colour])
    return image


def drawings(count: int, seed: int = 1) -> tuple[list[Image.Image], list[str]]:
    chance = random.Random(seed)
    kinds = [(chance.choice(list(COLOURS)), chance.choice(["circle", "square"])) for _ in range(count)]
    return [drawing(*kind, chance) for kind in kinds], [f"a {colour} {shape}" for colour, shape in kinds]


def saved(folder: Path, images: Sequence[Image.Image], captions: Sequence[str] = ()) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        image.save(folder / f"{i:03}.png")
        if captions:
            (folder / f"{i:03}.txt").write_text(captions[i])
    return folder


# -- pixels


def test_a_flat_picture_has_neither_contrast_nor_edges_and_a_board_has_both() -> None:
    flat = looks.look(Image.new("RGB", (100, 50), (255, 255, 255)))
    assert (flat.light, flat.contrast, flat.colour, flat.sharp, flat.edges) == pytest.approx(
        (100, 0, 0, 0, 0), abs=1e-6
    )
    board = Image.fromarray(np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((32, 32))).astype(np.uint8) * 255)
    found = looks.look(board.convert("RGB"))
    assert found.light == pytest.approx(50, abs=1) and found.contrast == pytest.approx(50, abs=1)
    assert found.edges > 5 and found.sharp > looks.look(board.convert("RGB").filter(ImageFilter.GaussianBlur(3))).sharp


def test_colourfulness_is_that_of_the_paper() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8))
    red, green, blue = np.asarray(image, dtype=float).transpose(2, 0, 1)
    first, second = red - green, 0.5 * (red + green) - blue
    spread = math.sqrt(first.std() ** 2 + second.std() ** 2)
    expected = spread + 0.3 * math.sqrt(first.mean() ** 2 + second.mean() ** 2)
    assert looks.look(image).colour == pytest.approx(expected)


def test_nearly_the_same_pictures_are_found() -> None:
    images, _ = drawings(8, seed=4)
    again = images[2].resize((90, 90)).filter(ImageFilter.GaussianBlur(0.5))
    marks = [looks.look(image).mark for image in [*images, again]]
    assert (2, 8) in looks.near(marks)
    assert len(looks.near(marks)) <= 2


# -- distances


def test_fid_equals_the_formula_with_a_matrix_root() -> None:
    from scipy.linalg import sqrtm

    chance = np.random.default_rng(3)
    first, second = chance.normal(size=(80, 12)), chance.normal(0.3, 1.4, size=(70, 12)) @ chance.normal(size=(12, 12))
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    apart = first.mean(0) - second.mean(0)
    expected = apart @ apart + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert distances.fid(first, second) == pytest.approx(expected, rel=1e-6)
    assert distances.fid(first, first) == pytest.approx(0.0, abs=1e-9)


def test_kid_equals_plain_sums_over_pairs() -> None:
    chance = np.random.default_rng(5)
    first, second = chance.normal(size=(9, 6)), chance.normal(0.5, 1, size=(7, 6))

    def kernel(x: Any, y: Any) -> float:
        return float((x @ y / 6 + 1) ** 3)

    def within(rows: Any) -> float:
        n = len(rows)
        return sum(kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    between = np.mean([[kernel(x, y) for y in second] for x in first])
    assert distances.kid(first, second) == pytest.approx(within(first) + within(second) - 2 * between)


def test_distances_of_the_same_kind_are_small_and_of_others_large_with_intervals_that_tell_them_apart() -> None:
    chance = np.random.default_rng(6)
    a, b, c = chance.normal(size=(60, 8)), chance.normal(size=(60, 8)), chance.normal(1.0, 1, size=(60, 8))
    same, other = distances.kid_interval(a, b, 300, 1), distances.kid_interval(a, c, 300, 1)
    assert same.low is not None and same.high is not None and other.low is not None
    assert same.low < 0.05 and same.high < other.low
    near, far = distances.fid_interval(a, b, 60, 1), distances.fid_interval(a, c, 60, 1)
    assert near.high is not None and far.low is not None and near.high < far.low
    assert far.low < far.value < (far.high or 0)


# -- judges


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    words = tiny._clip_tokenizer(folder / "words")
    words.save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(2)
    config = CLIPConfig(
        text_config={**small, "vocab_size": len(words), "max_position_embeddings": 20, "projection_dim": 12,
                     "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id},
        vision_config={**small, "image_size": 32, "patch_size": 8, "projection_dim": 12}, projection_dim=12,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_features_equal_those_of_transformers_on_pictures_prepared_by_hand(clip: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    images, captions = drawings(3)
    images[1] = images[1].resize((90, 60))
    judge = Judge(clip, "cpu", 1)
    model = CLIPModel.from_pretrained(clip, local_files_only=True).eval()
    prepared = []
    for image in images:
        scale = 32 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left = (image.width - 32) // 2
        pixels = np.asarray(image.crop((left, 0, left + 32, 32)), np.float32) / 255
        prepared.append(((pixels - features._CLIP_MEAN) / features._CLIP_SPREAD).transpose(2, 0, 1))
    given = AutoTokenizer.from_pretrained(clip, local_files_only=True)(captions, padding=True, return_tensors="pt")
    with torch.inference_mode():
        answer = model(pixel_values=torch.tensor(np.stack(prepared), dtype=torch.float32), **given)
    ours, read = judge.see(images, NEVER), judge.read(captions, NEVER)
    score = features.likeness(ours, read)
    expected = (answer.image_embeds * answer.text_embeds).sum(-1).clamp(min=0) * 100
    assert score == pytest.approx(expected.numpy(), abs=1e-2)
    judge.close()


def onnx(path: Path) -> Path:
    """A judge of one layer: the mean of each channel."""
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["pixels"], ["features"])], "judge",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3, 1, 1])],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_an_onnx_judge_sees_pictures_prepared_as_its_folder_says(tmp_path: Path) -> None:
    onnx(tmp_path / "judge.onnx")
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "size": 16}')
    judge = Judge(tmp_path, "cpu", 1)
    seen = judge.see([Image.new("RGB", (40, 30), (255, 51, 0))], NEVER)
    assert seen == pytest.approx(np.array([[1.0, 0.2, 0.0]]), abs=1e-6)
    assert not judge.reads
    judge.close()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda at: None, ModelBroken),
        (lambda at: at.rmdir(), ModelMissing),
        (lambda at: (at / "x.onnx").write_bytes(b"no"), ModelBroken),
        (lambda at: ((at / "config.json").write_text('{"model_type": "gpt2"}'),
                     (at / "m.safetensors").write_bytes(b"")), ModelUnfit),
        (lambda at: ((at / "config.json").write_text('{"model_type": "clip", "auto_map": {}}'),), StudioError),
    ],
    ids=["empty", "gone", "bad onnx", "no pictures", "own code"],
)  # fmt: skip
def test_a_judge_that_is_none_is_a_sentence(tmp_path: Path, make: Any, error: type[StudioError]) -> None:
    at = tmp_path / "judge"
    at.mkdir()
    make(at)
    with pytest.raises(error) as caught:
        Judge(at, "cpu", 1)
    assert caught.value.problem.sentence.endswith(".")


# -- a classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "classifier"
    images, captions = drawings(240)
    adherence.train(folder, images, captions, steps=80, width=8, side=32, seed=1)
    return folder


def test_a_classifier_learns_colours_and_shapes_and_tells_how_often_it_is_right(classifier: Path) -> None:
    found = Following(classifier)
    assert set(found.about.words) == {"red", "green", "blue", "circle", "square"}
    assert found.about.accuracy > 0.7 and found.about.held_out == 36
    assert min(found.about.of_word[word] for word in COLOURS) > 0.95, "shapes take longer than a test may"
    images, captions = drawings(60, seed=77)
    rows = found.followed(images, captions)
    seen = [row[word] for row in rows for word in COLOURS if word in row]
    assert sum(seen) / len(seen) > 0.95
    wrong = [caption.replace("red", "x").replace("blue", "red").replace("x", "blue") for caption in captions]
    swapped = [row[word] for row in found.followed(images, wrong) for word in ("red", "blue") if word in row]
    assert sum(swapped) / len(swapped) < 0.15


def test_the_same_seed_trains_the_same_classifier(tmp_path: Path) -> None:
    images, captions = drawings(50)
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        adherence.train(tmp_path / name, images, captions, steps=4, width=4, side=16, seed=seed)
        made.append((tmp_path / name / adherence.WEIGHTS).read_bytes())
    assert made[0] == made[1] != made[2]


def test_a_classifier_that_cannot_be_trained_or_opened_is_a_sentence(tmp_path: Path) -> None:
    images, captions = drawings(50)
    with pytest.raises(BadRecipe, match="at least 40"):
        adherence.train(tmp_path / "x", images[:39], captions[:39])
    with pytest.raises(BadRecipe, match="No word"):
        adherence.train(tmp_path / "x", images, ["a picture"] * 50)
    assert not (tmp_path / "x").exists()
    with pytest.raises(ModelMissing):
        Following(tmp_path)
    (tmp_path / adherence.ABOUT).write_text('{"words": ["red"], "width": 4}')
    (tmp_path / adherence.WEIGHTS).write_bytes(b"no")
    with pytest.raises(ModelBroken):
        Following(tmp_path)


# -- the engine


def recipe(**given: Any) -> Any:
    return check("evaluate-image", {"seed": 3, "resamples": 100, "title": "T", **given}).recipe


def engine(tmp_path: Path) -> EvaluateImage:
    made = EvaluateImage()
    made.load(CARD, Plan(device="cpu", threads=1), Job(tmp_path / "load").ctx)
    return made


def test_a_folder_is_measured_with_judge_classifier_and_references(
    tmp_path: Path, clip: Path, classifier: Path
) -> None:  # fmt: skip
    ours, others = saved(tmp_path / "ours", *drawings(12)), saved(tmp_path / "others", drawings(10, 9)[0])
    job = Job(tmp_path)
    asked = recipe(pictures=str(ours), references=str(others), encoder=str(clip), classifier=str(classifier))
    report = job.report(engine(tmp_path).run(asked, job.ctx))
    assert {m.name for m in report.measures} == {
        "Light", "Contrast", "Colourfulness", "Sharpness", "Edges", "Nearly the same as another", "FID", "KID",
        "CLIP score", "Prompt adherence", "All of the prompt",
    }  # fmt: skip
    assert value(report, "Light", "ours") > 50 and value(report, "Light", "References") > 50
    assert value(report, "Prompt adherence") > 50
    head, *rows = report.tables["Prompts"]
    assert head == ["Picture", "Prompt", "CLIP score", "Seen", "Not seen"] and len(rows) == 12
    assert {row[0] for row in report.tables["Adherence by word"][1:]} == {"blue", "circle", "green", "red", "square"}
    progress = [e for e in job.events if isinstance(e, Progress)]
    assert [e.done for e in progress] == sorted(e.done for e in progress)
    assert progress[-1].done == progress[-1].total
    assert len(report.data_sha256) == 64 and any("KID" in note for note in report.notes)
    again = Job(tmp_path / "again")
    other = again.report(engine(tmp_path).run(asked, again.ctx))
    assert (other.measures, other.tables) == (report.measures, report.tables)


def test_captioned_references_train_a_judge_of_prompts_once(tmp_path: Path) -> None:
    ours, others = saved(tmp_path / "ours", *drawings(4)), saved(tmp_path / "others", *drawings(44, 9))
    asked = recipe(pictures=str(ours), references=str(others))
    job = Job(tmp_path)
    real, adherence.train.__kwdefaults__["steps"] = adherence.train.__kwdefaults__["steps"], 6
    try:
        report = job.report(engine(tmp_path).run(asked, job.ctx))
    finally:
        adherence.train.__kwdefaults__["steps"] = real
    assert "Prompt adherence" in {m.name for m in report.measures}
    assert any("learnt 5 words" in note for note in report.notes)
    (kept,) = (tmp_path / "cache" / "classifiers").iterdir()
    before = (kept / adherence.WEIGHTS).stat().st_mtime_ns
    again = Job(tmp_path / "again")
    again.ctx.cache_dir = job.ctx.cache_dir
    assert again.report(engine(tmp_path).run(asked, again.ctx)).measures == report.measures
    assert (kept / adherence.WEIGHTS).stat().st_mtime_ns == before


def test_the_pictures_of_a_model_are_painted_and_not_kept(tmp_path: Path) -> None:
    card = tiny.card(tiny.save_tiny("sd", tmp_path / "models"), "sd")
    card = msgspec.structs.replace(card, defaults={"steps": 2, "width": 32, "height": 32})
    job = Job(tmp_path, card)
    report = job.report(engine(tmp_path).run(recipe(model="sd", prompts=["red apple", "blue house"]), job.ctx))
    assert value(report, "Light", "sd") > 0
    assert [row[:2] for row in report.tables["Prompts"][1:]] == [["1", "red apple"], ["2", "blue house"]]
    assert sorted(p.name for p in job.out.iterdir() if p.suffix != ".jsonl") == ["0.report.json"]
    progress = [e for e in job.events if isinstance(e, Progress)]
    assert progress[-1].done <= progress[-1].total


def test_a_data_set_of_pictures_is_found_by_its_name(tmp_path: Path) -> None:
    job = Job(tmp_path)
    folder = job.ctx.paths.datasets / "shapes-0123456789ab"
    images, captions = drawings(3)
    saved(folder / "images", images)
    rows = [{"image": f"images/{i:03}.png", "text": caption} for i, caption in enumerate(captions)]
    (folder / "valid.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    about = Dataset(
        id=folder.name, name="shapes", shape="captions", sha256="a", created="2026", splits={},
        recipe=DatasetRecipe(sources=("x",)),
    )  # fmt: skip
    (folder / "dataset.json").write_bytes(msgspec.json.encode(about))
    report = job.report(engine(tmp_path).run(recipe(pictures="shapes"), job.ctx))
    assert report.data == "shapes: 3 pictures"
    assert [row[1] for row in report.tables["Prompts"][1:]] == captions


def test_a_cancel_is_heard_within_one_picture(tmp_path: Path) -> None:
    ours = saved(tmp_path / "ours", drawings(6)[0])
    job = Job(tmp_path, on_event=lambda event: job.cancelled.set() if isinstance(event, Progress) else None)
    with pytest.raises(JobCancelled):
        engine(tmp_path).run(recipe(pictures=str(ours)), job.ctx)
    assert len([e for e in job.events if isinstance(e, Progress)]) == 1
    assert list(job.out.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "pictures"),
        ({"model": "sd"}, "prompts"),
        ({"model": "sd", "prompts": ["x"], "pictures": "HERE/ours"}, "model"),
        ({"pictures": "HERE/gone"}, "pictures"),
        ({"pictures": "HERE/empty"}, "pictures"),
        ({"pictures": "HERE/ours", "references": "HERE/empty"}, "references"),
        ({"pictures": "HERE/ours", "prompts": ["one"]}, "prompts"),
        ({"pictures": "HERE/ours", "classifier": "HERE"}, "prompts"),
        ({"pictures": "HERE/ours", "encoder": "HERE/judge.onnx"}, "references"),
        ({"pictures": "HERE/bad"}, "image"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_missing_is_one_sentence_beside_its_field(tmp_path: Path, given: dict[str, Any], field: str) -> None:
    saved(tmp_path / "ours", drawings(2)[0])
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    onnx(tmp_path / "judge.onnx")
    here = msgspec.json.decode(msgspec.json.encode(given).replace(b"HERE", str(tmp_path).encode()))
    with pytest.raises(BadRecipe) as caught:
        engine(tmp_path).run(recipe(**here), Job(tmp_path, tiny.card(tmp_path, "sd")).ctx)
    assert caught.value.problem.field == field
    assert caught.value.problem.sentence.endswith(".")
