"""Looking at files and folders: what they are, or one clause that says why they cannot be used."""

from __future__ import annotations

import ast
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.cards import Broken, Looked, ModelCard, NotThisKind
from studio.core.paths import assets_folder
from studio.models.fingerprint import fingerprint
from studio.models.identify import look
from studio.models.pipelines import PIPELINES
from tests.models.makers import diffusers, edit_json, gguf, onnx, safetensors, voice, write_json


def card(looked: Looked) -> ModelCard:
    assert isinstance(looked, ModelCard), looked
    return looked


def broken(looked: Looked, code: str = "model_broken") -> str:
    assert isinstance(looked, Broken), looked
    assert looked.code == code
    return looked.why


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# --- texts


def test_a_gguf_file_is_a_text_model(tmp_path: Path) -> None:
    made = card(look(put(tmp_path / "Tiny Llama.gguf", gguf())))
    assert (made.kind, made.engine, made.format, made.family) == ("text", "text.llama", "gguf", "llama")
    assert made.can == ("complete",)
    assert made.limits.context == 512
    assert made.id.startswith("tiny-llama-")
    assert made == card(look(tmp_path / "Tiny Llama.gguf"))


def test_a_gguf_file_with_a_template_can_chat(tmp_path: Path) -> None:
    assert card(look(put(tmp_path / "a.gguf", gguf(chat=True)))).can == ("complete", "chat")


def test_a_gguf_file_is_known_by_its_content_too(tmp_path: Path) -> None:
    assert card(look(put(tmp_path / "model.download", gguf()))).format == "gguf"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gguf(tokenizer__ggml__model=None), "tokenizer is missing"),
        (gguf(tokenizer__ggml__tokens=None), "tokenizer is missing"),
        (gguf(tokenizer__ggml__model="gpt2"), "no merges"),
        (gguf(tokens=8, embedded=9), "8 tokens and its weights 9"),
        (gguf(general__architecture=None), "of which architecture"),
    ],
)
def test_a_text_model_that_could_not_load_is_broken(tmp_path: Path, data: bytes, says: str) -> None:
    assert says in broken(look(put(tmp_path / "a.gguf", data)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gguf(general__architecture="flux"), "a picture model, not a text model"),
        (gguf(general__architecture="kokoro"), "a voice, not a text model"),
        (gguf(general__type="adapter"), "a LoRA"),
    ],
)
def test_a_gguf_file_of_another_kind_is_called_what_it_is(tmp_path: Path, data: bytes, says: str) -> None:
    looked = look(put(tmp_path / "a.gguf", data))
    assert isinstance(looked, NotThisKind)
    assert says in looked.why


def test_a_model_in_several_files_names_the_missing_one(tmp_path: Path) -> None:
    first = put(tmp_path / "big-00001-of-00002.gguf", gguf(split__count=2, split__no=0))
    assert "part 2 of 2 is missing: big-00002-of-00002.gguf" in broken(look(first))
    put(tmp_path / "big-00002-of-00002.gguf", gguf(split__count=2, split__no=1))
    made = card(look(first))
    assert made.name == "big"
    assert made.bytes == sum(f.stat().st_size for f in tmp_path.iterdir())


# --- pictures


def test_a_diffusers_folder_is_a_picture_model(tmp_path: Path) -> None:
    made = card(look(diffusers(tmp_path / "Birds")))
    assert (made.kind, made.engine, made.family) == ("image", "image.diffusers", "StableDiffusionPipeline")
    assert (made.limits.width, made.limits.height, made.limits.size_multiple) == (64 * 8, 48 * 8, 8)
    assert made.limits.prompt_tokens == 77
    assert made.can[:5] == ("picture", "negative", "guidance", "guidance_rescale", "scheduler")
    assert {"from_picture", "into_picture", "lora", "embedding", "control", "reference", "seamless"} <= set(made.can)
    assert made.base == ""  # its settings do not say how wide it is
    assert made.needs.weights == 3 * len(safetensors())
    assert card(look(tmp_path / "Birds" / "model_index.json")) == made


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "model_index.json").write_text("[]"), "does not hold the settings"),
        (lambda f: (f / "model_index.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "model_index.json").write_text(""), "model_index.json is empty"),
        (lambda f: (f / "model_index.json").write_bytes(b'{"a":"\xff"}'), "not UTF-8"),
        (lambda f: (f / "model_index.json").write_text("[" * 20_000), "nested too deep"),
        (lambda f: (f / "model_index.json").write_text("<html>404"), "a web page"),
        (lambda f: (f / "model_index.json").write_bytes(b" " * 5_000_000), "5,000,000 bytes"),
        (lambda f: edit_json(f / "model_index.json", _class_name="gone"), "names no pipeline"),
        (lambda f: edit_json(f / "model_index.json", unet=["diffusers"]), "in an unknown way"),
        (lambda f: edit_json(f / "model_index.json", vae="gone"), "has no vae"),
        (lambda f: os.rename(f / "vae", f / "vea"), "folder “vae” is missing"),
        (lambda f: (f / "unet" / "config.json").unlink(), "unet/config.json is missing"),
        (lambda f: edit_json(f / "vae" / "config.json", block_out_channels="gone"), "how many blocks"),
        (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "are missing"),
        (
            lambda f: os.truncate(f / "unet" / "diffusion_pytorch_model.safetensors", 70),
            "unet/diffusion_pytorch_model.safetensors is unusable: it is incomplete",
        ),
        (lambda f: (f / "tokenizer" / "tokenizer.json").unlink(), "tokenizer/tokenizer.json is missing"),
        (lambda f: edit_json(f / "text_encoder" / "config.json", vocab_size=2), "3 tokens, but its text_enco"),
        (
            lambda f: edit_json(f / "tokenizer" / "tokenizer.json", model={"type": "BPE", "vocab": {"a": 0}}),
            "has no merges",
        ),
    ],
)  # fmt: skip
def test_an_incomplete_folder_names_what_is_wrong(tmp_path: Path, damage: Damage, says: str) -> None:
    folder = diffusers(tmp_path / "m")
    damage(folder)
    assert says in broken(look(folder))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: edit_json(f / "model_index.json", _class_name=["pipeline", "Mine"]), "a pipeline of its own"),
        (lambda f: edit_json(f / "model_index.json", unet=["my_unet", "Net"]), "“my_unet.Net”"),
        (lambda f: edit_json(f / "model_index.json", unet=["os", "System"]), "“os.System”"),
        (lambda f: edit_json(f / "model_index.json", unet=["diffusers", "utils.x"]), "“diffusers.utils.x”"),
        (lambda f: edit_json(f / "model_index.json", **{"../up": ["diffusers", "Net"]}), "points outside"),
        (lambda f: edit_json(f / "unet" / "config.json", auto_map={"AutoModel": "x.Y"}), "(“auto_map”)"),
        (lambda f: edit_json(f / "text_encoder" / "config.json", text_config={"auto_map": {"a": "b"}}), "(“auto_map”)"),
        (lambda f: edit_json(f / "tokenizer" / "tokenizer_config.json", trust_remote_code=True), "trust_remote_code"),
        (lambda f: edit_json(f / "vae" / "config.json", _attn_implementation_internal="x/y"), "_attn_implementation"),
        (lambda f: (f / "unet" / "diffusers.py").write_text("open('made', 'w')"), "brings a program"),
        (
            lambda f: os.rename(
                f / "unet" / "diffusion_pytorch_model.safetensors", f / "unet" / "diffusion_pytorch_model.bin"
            ),
            "only as a pickle (.bin)",
        ),
    ],
)
def test_a_folder_that_brings_code_or_pickles_is_refused(tmp_path: Path, damage: Damage, says: str) -> None:
    folder = diffusers(tmp_path / "m")
    damage(folder)
    looked = look(folder)
    assert says in broken(looked, "model_refused")
    assert isinstance(looked, Broken)
    assert looked.hint


def sharded(folder: Path, *places: str) -> Path:
    model = diffusers(folder)
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    index = model / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    write_json(index, {"metadata": {}, "weight_map": {f"t{i}": place for i, place in enumerate(places)}})
    return model


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    names = [f"diffusion_pytorch_model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    model = sharded(tmp_path / "m", *names)
    for name in (names[0], names[2]):
        (model / "unet" / name).write_bytes(safetensors())
    assert broken(look(model)) == f"its file unet/{names[1]} is missing"
    (model / "unet" / names[1]).write_bytes(safetensors())
    assert card(look(model)).bytes == 5 * len(safetensors())


@pytest.mark.parametrize("place", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x.safetensors", "", ".."])
def test_an_index_that_points_outside_its_folder_is_refused(tmp_path: Path, place: str) -> None:
    assert "points outside its folder" in broken(look(sharded(tmp_path / "m", place)), "model_refused")


def test_an_unknown_pipeline_is_not_called_broken(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m")
    edit_json(folder / "model_index.json", _class_name="WanPipeline")
    looked = look(folder)
    assert isinstance(looked, NotThisKind)
    assert "WanPipeline" in looked.why


def test_what_a_model_can_follows_from_its_settings(tmp_path: Path) -> None:
    consistent = diffusers(tmp_path / "lcm")
    edit_json(consistent / "unet" / "config.json", time_cond_proj_dim=256)
    limited = card(look(consistent)).can
    assert {"picture", "guidance", "lora"} <= set(limited)
    assert not {"negative", "guidance_rescale", "scheduler"} & set(limited)
    schnell = diffusers(tmp_path / "flux", "FluxPipeline", "transformer")
    edit_json(schnell / "transformer" / "config.json", guidance_embeds=False, sample_size="gone")
    made = card(look(schnell))
    assert "picture" in made.can and "guidance" not in made.can
    assert made.base == "flux"
    assert (made.limits.width, made.limits.size_multiple, made.limits.prompt_tokens) == (1024, 16, 512)


def test_a_folder_with_fp16_weights_only_says_so(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m")
    os.rename(
        folder / "unet" / "diffusion_pytorch_model.safetensors",
        folder / "unet" / "diffusion_pytorch_model.fp16.safetensors",
    )
    assert card(look(folder)).notes == ("some weights are there only as fp16",)


@pytest.mark.parametrize(
    ("width", "xl", "base"),
    [(768, False, "sd1"), (1024, False, "sd2"), (256, False, "sd-256"), (2048, True, "sdxl"), (640, True, "sdxl-640"),
     (2048, False, "sd-2048"), ("wide", False, ""), (None, False, "")],
)  # fmt: skip
def test_the_width_of_a_stable_diffusion_is_its_base(tmp_path: Path, width: Any, xl: bool, base: str) -> None:
    folder = diffusers(tmp_path / "m", "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline")
    edit_json(folder / "unet" / "config.json", cross_attention_dim=width)
    assert card(look(folder)).base == base


def test_the_base_of_the_starter_is_its_own() -> None:
    assert card(look(assets_folder() / "models" / "starter-image")).base == "sd-256"


def test_a_model_that_repaints_is_known_by_its_input_channels(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m", "StableDiffusionInpaintPipeline")
    edit_json(folder / "unet" / "config.json", in_channels=9)
    made = card(look(folder))
    assert made.family == "StableDiffusionInpaintPipeline"
    assert "into_picture" in made.can and "picture" not in made.can and "from_picture" not in made.can
    edit_json(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    assert card(look(folder)) == made
    edit_json(folder / "unet" / "config.json", in_channels=5)  # depth
    looked = look(folder)
    assert isinstance(looked, NotThisKind) and "5 channels" in looked.why


def test_an_ordinary_model_saved_for_another_mode_is_an_ordinary_model(tmp_path: Path) -> None:
    for saved in ("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"):
        folder = diffusers(tmp_path / saved, saved)
        edit_json(folder / "unet" / "config.json", in_channels=8)
        edit_json(folder / "vae" / "config.json", latent_channels=8)
        made = card(look(folder))
        assert made.family == "StableDiffusionPipeline", saved
        assert "picture" in made.can


def test_a_flux_that_fills_is_known_by_its_input_channels(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m", "FluxFillPipeline", "transformer")
    edit_json(folder / "transformer" / "config.json", in_channels=384)
    assert card(look(folder)).can == ("into_picture", "guidance", "lora")
    edit_json(folder / "transformer" / "config.json", in_channels=64)
    assert card(look(folder)).family == "FluxPipeline"
    edit_json(folder / "transformer" / "config.json", in_channels=128)  # depth or canny
    assert isinstance(look(folder), NotThisKind)


def test_the_refiner_of_sdxl_is_no_model_of_its_own(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m", "StableDiffusionXLImg2ImgPipeline")
    edit_json(
        folder / "model_index.json",
        text_encoder=[None, None], tokenizer=[None, None],
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"], tokenizer_2=["transformers", "CLIPTokenizer"],
    )  # fmt: skip
    (folder / "text_encoder").rename(folder / "text_encoder_2")
    (folder / "tokenizer").rename(folder / "tokenizer_2")
    looked = look(folder)
    assert isinstance(looked, NotThisKind) and "refiner" in looked.why


class _Class(msgspec.Struct):
    """A pipeline class of diffusers, as its source says: the names of its bases, and what its call takes."""

    bases: set[str]
    takes: set[str]


@pytest.fixture(scope="module")
def classes() -> dict[str, _Class]:
    import importlib.util

    spec = importlib.util.find_spec("diffusers")
    if spec is None or spec.origin is None:
        pytest.skip("diffusers is not installed")
    wanted = {c for p in PIPELINES.values() for c in msgspec.structs.astuple(p.modes) if c} | set(PIPELINES)
    found: dict[str, _Class] = {}
    for file in (Path(spec.origin).parent / "pipelines").rglob("pipeline_*.py"):
        source = file.read_text("utf-8")
        if not any(f"class {name}(" in source for name in wanted):
            continue
        for made in ast.parse(source).body:
            if isinstance(made, ast.ClassDef) and made.name in wanted:
                call = next(m for m in made.body if isinstance(m, ast.FunctionDef) and m.name == "__call__")
                found[made.name] = _Class({ast.unparse(b) for b in made.bases}, {a.arg for a in call.args.args})
    assert set(found) == wanted
    return found


@pytest.mark.parametrize("name", PIPELINES)
def test_what_a_pipeline_can_agrees_with_the_installed_diffusers(classes: dict[str, _Class], name: str) -> None:
    can, modes = set(PIPELINES[name].can), PIPELINES[name].modes
    takes, bases = classes[name].takes, classes[name].bases
    assert ("guidance_rescale" in can) == ("guidance_rescale" in takes)
    assert "negative" not in can or "negative_prompt" in takes
    assert "guidance" not in can or "guidance_scale" in takes
    assert ("lora" in can) == any("LoraLoaderMixin" in b for b in bases)
    assert ("reference" in can) == any("IPAdapterMixin" in b for b in bases) == ("ip_adapter_image" in takes)
    assert ("clip_skip" in can) == ("clip_skip" in takes)
    # Flux and Chroma inherit it too; their text encoders that matter are no CLIP
    assert ("embedding" in can) == (PIPELINES[name].core == "unet" and "TextualInversionLoaderMixin" in bases)
    assert ("seamless" in can) == (PIPELINES[name].core == "unet")
    assert ("picture" in can) == bool(modes.from_words)
    assert ("from_picture" in can) == bool(modes.from_picture)
    assert ("into_picture" in can) == bool(modes.into_picture)
    assert ("control" in can) == any((modes.control, modes.control_into, modes.adapter))


@pytest.mark.parametrize("name", PIPELINES)
def test_the_modes_of_a_pipeline_take_what_their_names_say(classes: dict[str, _Class], name: str) -> None:
    needs: dict[str, set[str]] = {
        "from_words": {"prompt", "width", "height"},
        "from_picture": {"image", "strength"},
        "into_picture": {"image", "mask_image", "strength"},
        "control": {"controlnet_conditioning_scale"},
        "control_from": {"image", "control_image", "strength", "controlnet_conditioning_scale"},
        "control_into": {"image", "mask_image", "control_image", "strength", "controlnet_conditioning_scale"},
        "union": {"control_image", "control_mode"},
        "union_from": {"image", "control_image", "strength", "control_mode"},
        "union_into": {"image", "mask_image", "control_image", "strength", "control_mode"},
        "adapter": {"image", "adapter_conditioning_scale"},
    }
    modes = msgspec.structs.asdict(PIPELINES[name].modes)
    assert set(modes) == set(needs)
    for mode, made_by in modes.items():
        if made_by:
            assert needs[mode] <= classes[made_by].takes, (mode, made_by)
    assert not modes["from_words"] or modes["from_words"] == name


def test_the_modes_are_those_that_diffusers_itself_would_choose() -> None:
    import importlib.util

    spec = importlib.util.find_spec("diffusers")
    if spec is None or spec.origin is None:
        pytest.skip("diffusers is not installed")
    tree = ast.parse((Path(spec.origin).parent / "pipelines" / "auto_pipeline.py").read_text("utf-8"))
    maps: dict[str, dict[str, str]] = {}
    for line in tree.body:
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Call) and line.value.args:
            pairs = line.value.args[0]
            if isinstance(pairs, ast.List) and pairs.elts:
                names = [p.elts for p in pairs.elts if isinstance(p, ast.Tuple)]
                maps[ast.unparse(line.targets[0])] = {ast.literal_eval(k): ast.unparse(v) for k, v in names}
    words, pictures, masks = (maps[f"AUTO_{w}_PIPELINES_MAPPING"] for w in ("TEXT2IMAGE", "IMAGE2IMAGE", "INPAINT"))
    keys = {made_by: key for key, made_by in words.items()}
    compared = 0
    for name, pipeline in PIPELINES.items():
        key, modes = keys.get(name), pipeline.modes
        if key is None:
            continue
        steers = [
            (modes.from_picture, pictures.get(key)), (modes.into_picture, masks.get(key)),
            (modes.control, words.get(f"{key}-controlnet")), (modes.control_from, pictures.get(f"{key}-controlnet")),
            (modes.control_into, masks.get(f"{key}-controlnet")),
            (modes.union, words.get(f"{key}-controlnet-union")),
            (modes.union_from, pictures.get(f"{key}-controlnet-union")),
            (modes.union_into, masks.get(f"{key}-controlnet-union")),
        ]  # fmt: skip
        for ours, theirs in steers:
            if ours and theirs:
                assert ours == theirs, name
                compared += 1
            elif theirs:  # left out by hand: these take a picture to keep in mind, not one to begin from
                assert theirs in ("Flux2Pipeline", "Flux2KleinPipeline", "StableDiffusion3ControlNetInpaintingPipeline")
    assert compared >= 20


# --- voices


def test_a_piper_voice_is_a_voice(tmp_path: Path) -> None:
    made = card(look(voice(tmp_path)))
    assert (made.kind, made.engine, made.can) == ("speech", "speech.piper", ("speech",))
    assert (made.limits.sample_rate, made.limits.speakers) == (16_000, 1)
    assert made.notes == ("speaks German (de_DE)",)
    assert card(look(tmp_path / "anna.onnx.json")) == made
    assert card(look(tmp_path)) == made


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"audio": {"sample_rate": 10**9}}, "sample rate"),
        ({"audio": None}, "sample rate"),
        ({"num_speakers": 0}, "number of speakers"),
        ({"num_speakers": 4}, "its weights know one"),
        ({"phoneme_id_map": {"a": ["x"]}}, "phonemes is damaged"),
        ({"phoneme_id_map": {}}, "phonemes is missing"),
        ({"inference": {"noise_scale": "loud"}}, "liveliness"),
    ],
)
def test_a_voice_with_damaged_settings_is_broken(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert says in broken(look(voice(tmp_path, **changes)))


def test_a_voice_without_settings_or_weights_names_the_missing_file(tmp_path: Path) -> None:
    path = voice(tmp_path)
    path.unlink()
    assert "weights are missing: anna.onnx" in broken(look(tmp_path / "anna.onnx.json"))
    voice(tmp_path)
    (tmp_path / "anna.onnx.json").unlink()
    assert "settings are missing: anna.onnx.json" in broken(look(path))


def test_a_damaged_onnx_file_is_broken(tmp_path: Path) -> None:
    path = voice(tmp_path)
    data = onnx()
    for length in range(1, len(data)):
        assert isinstance(look(put(path, data[:length])), Broken | NotThisKind), length
    assert broken(look(put(path, data[:-1]))) == f"it is incomplete: {len(data) - 1:,} of {len(data):,} bytes are there"
    assert "other files" in broken(look(put(path, onnx(external=True))), "model_refused")


def test_another_onnx_file_is_not_a_voice(tmp_path: Path) -> None:
    looked = look(put(tmp_path / "upscaler.onnx", onnx(inputs=("image",))))
    assert looked == NotThisKind("it is an ONNX file, but neither a Piper voice nor a cut-out, detector or depth model")


# --- everything else


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".pth", ".bin", ".pkl"])
def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path, ending: str) -> None:
    looked = look(put(tmp_path / f"model{ending}", pickle.dumps({"a": 1})))
    assert "can run any program" in broken(looked, "model_refused")
    assert isinstance(looked, Broken)
    assert ".safetensors" in looked.hint


def test_paths_without_a_model_are_told_apart(tmp_path: Path) -> None:
    assert broken(look(tmp_path / "no"), "model_missing") == "there is no such file or folder"
    assert broken(look(Path("a\0b")), "model_missing")
    assert look(tmp_path) == NotThisKind("the folder holds no model")
    assert look(put(tmp_path / "empty", b"")) == NotThisKind("it holds nothing")
    assert "none of the kinds" in getattr(look(put(tmp_path / "x.txt", b"hello")), "why", "")


def test_a_transformers_folder_with_code_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "x", "auto_map": {"AutoModel": "modeling_x.X"}})
    assert "auto_map" in broken(look(tmp_path), "model_refused")
    write_json(tmp_path / "config.json", {"model_type": "x"})
    assert "transformers folder" in getattr(look(tmp_path), "why", "")


@pytest.mark.skipif(os.name == "nt", reason="permissions are another matter there")
def test_a_file_without_permission_says_so() -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        os.chmod(name, 0o755)
        path = put(Path(name) / "a.gguf", gguf())
        path.chmod(0)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65_534)  # root reads everything
        try:
            looked = look(path)
        finally:
            os.seteuid(me)
    assert "may not be read" in broken(looked)


def test_what_is_written_beside_a_model_is_laid_over_its_card(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m")
    about = {
        "name": "Bird\x1b[31ms",
        "licence": "MIT",
        "licence_url": "javascript:alert(1)",
        "defaults": {"steps": 12, "guidance": 999.0, "prompt": "x", "nonsense": 1, "seed": 3},
        "extra": [],
    }
    write_json(folder / "studio.json", about)
    made = card(look(folder))
    assert (made.name, made.licence, made.licence_url) == ("Birds", "MIT", "")
    assert made.defaults == {"steps": 12}
    assert len(made.notes) == 6
    assert "Guidance must be a number from 0 to 50" in " ".join(made.notes)
    (folder / "studio.json").write_text("{")
    assert card(look(folder)).notes == ("studio.json is ignored: its studio.json is not JSON",)


def test_notes_beside_a_file_are_found(tmp_path: Path) -> None:
    write_json(tmp_path / "a.gguf.studio.json", {"name": "Tiny one", "defaults": {"temperature": 0.2}})
    made = card(look(put(tmp_path / "a.gguf", gguf())))
    assert (made.name, made.defaults) == ("Tiny one", {"temperature": 0.2})


def test_a_fingerprint_depends_on_content_and_not_on_the_place(tmp_path: Path) -> None:
    one, other = diffusers(tmp_path / "one"), diffusers(tmp_path / "other")
    first = fingerprint(one)
    (one / "README.md").write_text("hello")
    write_json(one / "studio.json", {"name": "x"})
    assert fingerprint(one) == first == fingerprint(other)
    edit_json(other / "vae" / "config.json", scaling_factor=0.5)
    assert fingerprint(other) != first


def test_a_fingerprint_is_computed_once_and_again_after_a_change(tmp_path: Path) -> None:
    import hashlib

    path, cache = put(tmp_path / "a.gguf", b"one"), tmp_path / "cache"
    assert fingerprint(path, cache) == hashlib.sha256(b"one").hexdigest()
    kept = (cache / "checksums.json").read_text()
    (cache / "checksums.json").write_text(kept.replace(hashlib.sha256(b"one").hexdigest(), "remembered"))
    assert fingerprint(path, cache) == "remembered"
    put(path, b"three")
    assert fingerprint(path, cache) == hashlib.sha256(b"three").hexdigest()
    (cache / "checksums.json").write_bytes(b"\xff{")
    assert fingerprint(path, cache) == hashlib.sha256(b"three").hexdigest()


def test_the_shipped_picture_model_is_whole() -> None:
    made = card(look(assets_folder() / "models" / "starter-image"))
    assert (made.name, made.licence) == ("Starter 128", "CC-BY-4.0")
    assert made.defaults == {"steps": 25, "guidance": 4.0, "guidance_rescale": 0.7}
    assert (made.limits.width, made.limits.height, made.limits.prompt_tokens) == (128, 128, 32)
    assert made.notes == ()
    readme = (assets_folder() / "models" / "starter-image" / "README.md").read_text("utf-8")
    assert all(name in readme for name in ("Noto Emoji", "Fluent Emoji", "Twemoji", "emojibase"))
