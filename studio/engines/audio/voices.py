"""Opening a Piper voice: its description, its graph, and a session that is quick to make the second time.

Knows files, piper and onnxruntime; knows nothing of recipes. Nothing here downloads or runs code from a voice's folder.

onnxruntime spends most of the time it needs to open a voice on rearranging the graph. The rearranged graph, with the
noise already an input (graph.py), is kept in the cache folder under the checksum of the voice, the version of
onnxruntime and the processor, because the arrangement is made for one kind of processor.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _ort
from piper import PiperConfig
from piper.config import PhonemeType

from studio.core.cards import ModelCard
from studio.core.files import sync_folder, write_durably
from studio.core.problems import EngineMissing, ModelBroken, ModelMissing, ModelRefused, ModelUnfit
from studio.engines.audio.graph import NoiseInput, survey

# onnxruntime's errors share no base class but Exception
ORT_ERRORS: tuple[type[Exception], ...] = (
    _ort.EPFail, _ort.Fail, _ort.InvalidArgument, _ort.InvalidGraph, _ort.InvalidProtobuf, _ort.NoModel,
    _ort.NoSuchFile, _ort.NotImplemented, _ort.RuntimeException, RuntimeError, ValueError,
)  # fmt: skip

_CONFIG_LIMIT = 4 << 20  # bytes; a real one has 5 KB
_MODEL_LIMIT = (1 << 31) - 1  # bytes; protobuf ends there, and a real voice has 20 to 120 MB
_PATCH = 1  # raise when graph.py writes other nodes, so that older cache files are left alone
_AGAIN = "Copy or download the voice again: x.onnx and x.onnx.json belong together."


# What of a voice's JSON must be there and sound; the rest is Piper's business.
class _Audio(msgspec.Struct):
    sample_rate: int


class _Espeak(msgspec.Struct):
    voice: str = ""


class _Inference(msgspec.Struct):
    noise_scale: float = 0.667
    length_scale: float = 1.0
    noise_w: float = 0.8


class _Config(msgspec.Struct):
    num_symbols: int
    num_speakers: int
    audio: _Audio
    espeak: _Espeak
    phoneme_id_map: dict[str, list[int]]
    inference: _Inference = msgspec.field(default_factory=_Inference)
    speaker_id_map: dict[str, int] = {}
    phoneme_type: str = "espeak"
    hop_length: int = 256
    default_speaker_id: int = 0


@dataclasses.dataclass
class OpenVoice:
    """A voice ready to speak.

    Attributes:
        output: name of the graph's sound. speaker_input: the graph wants to know the speaker.
        noise: inputs that take the noise; empty where the graph makes none, or makes it itself.
        own_noise: the graph makes its own noise, so that a seed needs a session of its own (`reseeded`).
        model: the file's bytes in that case, else empty.
        device: "cpu" or "cuda:0".
    """

    session: onnxruntime.InferenceSession
    config: PiperConfig
    output: str
    speaker_input: bool
    noise: tuple[NoiseInput, ...]
    own_noise: bool
    model: bytes
    device: str
    threads: int

    def reseeded(self, seed: int) -> onnxruntime.InferenceSession:
        """A session whose graph makes the noise of `seed`; about half a second for a voice of usual size."""
        onnxruntime.set_seed(seed)
        return _session(self.model, self.device, self.threads)


def open_voice(card: ModelCard, device: str, threads: int, cache_dir: Path) -> OpenVoice:
    """Open a voice.

    Args:
        device: "auto" and "cpu" take the processor, which is fast enough; "cuda" or "cuda:1" a graphics card where
            this onnxruntime can use one, else the processor.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing: with a sentence.
    """
    path = Path(card.path)
    config = read_config(path, card.name)
    check_phonemes(config, card.name)
    try:
        if path.stat().st_size > _MODEL_LIMIT:
            raise ModelRefused(f"“{card.name}” is larger than any voice can be.", "Is it the right file?")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelMissing(f"The voice file {path.name} is not there any more.", _AGAIN) from None
    except OSError as error:
        raise ModelMissing(f"The voice file {path.name} cannot be read: {error.strerror}.", detail=str(error)) from None
    where = f"cuda:{device.partition(':')[2] or 0}" if device.startswith("cuda") and _can_cuda() else "cpu"
    try:
        session, noise, own = _fitting_session(data, card.name, where, threads, cache_dir)
    except ORT_ERRORS as error:
        raise _broken(card.name, "its graph cannot be opened", detail=str(error)) from None
    speaker = _check_graph(session, card.name, config, {n.name for n in noise})
    return OpenVoice(
        session, config, session.get_outputs()[0].name, speaker, noise, own, data if own else b"", where, threads
    )


def read_config(model: Path, name: str) -> PiperConfig:
    """Read and check x.onnx.json beside x.onnx.

    Raises:
        ModelBroken: missing, too large, not JSON, or without something that a voice needs.
        ModelUnfit: a way of writing phonemes that this Piper does not know.
    """
    path = model.with_name(f"{model.name}.json")
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise _broken(name, f"{path.name} is far too large for a voice's description")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise _broken(name, f"{path.name} is missing beside {model.name}") from None
    except OSError as error:
        raise _broken(name, f"{path.name} cannot be read: {error.strerror}") from None
    try:
        config = msgspec.json.decode(raw, type=_Config)
        plain: dict[str, Any] = json.loads(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _broken(name, f"{path.name} is not a voice's description", detail=str(error)) from None
    if config.phoneme_type not in {t.value for t in PhonemeType}:
        raise ModelUnfit(
            f"“{name}” writes its phonemes as “{config.phoneme_type[:40]}”, which this Piper does not know."
        )
    wrong = _wrong(config)
    if wrong:
        raise _broken(name, f"{path.name} {wrong}")
    return PiperConfig.from_dict(plain)


def _wrong(config: _Config) -> str:
    if not 4_000 <= config.audio.sample_rate <= 384_000:
        return f"names a sample rate of {config.audio.sample_rate} Hz"
    if not (1 <= config.num_symbols <= 1_000_000 and 0 <= config.num_speakers <= 1_000_000):
        return "names impossible numbers of phonemes or speakers"
    if not 0 <= config.default_speaker_id < max(1, config.num_speakers):
        return "names a default speaker that is not there"
    if not (0.01 <= config.inference.length_scale <= 100):
        return "names an impossible pace"
    if not (0 <= config.inference.noise_scale <= 100 and 0 <= config.inference.noise_w <= 100):
        return "names impossible amounts of noise"
    ids = config.phoneme_id_map
    # Chinese pinyin maps phonemes to numbers by itself where the map is empty; all others look these three up.
    if any(mark not in ids for mark in "_^$") and config.phoneme_type != "pinyin":
        return "lacks the phonemes for start, end and gap"
    if any(not 0 <= i < config.num_symbols for row in ids.values() for i in row):
        return "maps phonemes to numbers that the voice does not have"
    return ""


def check_phonemes(config: PiperConfig, name: str) -> None:
    """See that the voice's way from letters to phonemes works here, offline.

    Raises:
        EngineMissing: it needs a package or a dictionary that is not installed.
        ModelRefused: it would download a model and run code that lies beside it.
        ModelBroken: espeak does not know the voice's language.
    """
    kind = config.phoneme_type
    if kind == PhonemeType.PINYIN:
        raise ModelRefused(
            f"“{name}” reads pinyin with g2pW, which downloads a model and runs code that comes with it.",
            "Take a Chinese voice with espeak phonemes.",
        )
    needs = {PhonemeType.JAPANESE: ("pyopenjtalk",), PhonemeType.THAI: ("tltk", "unicode_rbnf")}.get(kind, ())
    for package in needs:
        if importlib.util.find_spec(package) is None:
            raise EngineMissing(
                f"“{name}” needs the package {package} to read its language, which is not installed.",
                f"Install {package}, or take a voice with espeak phonemes.",
            )
    if kind == PhonemeType.JAPANESE:
        dictionary = getattr(importlib.import_module("pyopenjtalk"), "OPEN_JTALK_DICT_DIR", "")
        if not os.path.isdir(os.fsdecode(dictionary)):  # pyopenjtalk would fetch it at the first word
            raise EngineMissing(
                f"“{name}” needs the dictionary of pyopenjtalk, which is not there.",
                "Fetch it once with pyopenjtalk while online, or install pyopenjtalk-plus, which brings it along.",
            )
    if kind == PhonemeType.ESPEAK:
        from piper import espeakbridge
        from piper.phonemize_espeak import EspeakPhonemizer

        EspeakPhonemizer()  # sets up espeak's data once per process
        try:
            espeakbridge.set_voice(config.espeak_voice)
        except (RuntimeError, ValueError) as error:
            raise _broken(name, f"espeak knows no language “{config.espeak_voice[:40]}”", detail=str(error)) from None


def _check_graph(session: onnxruntime.InferenceSession, name: str, config: PiperConfig, noise: set[str]) -> bool:
    """Hold the graph to Piper's form. Returns whether it takes a speaker."""
    needed = {"input": "tensor(int64)", "input_lengths": "tensor(int64)", "scales": "tensor(float)"}
    given = {i.name: i.type for i in session.get_inputs() if i.name not in noise}
    speaker = given.pop("sid", None)
    if given != needed or speaker not in (None, "tensor(int64)"):
        raise _broken(
            name,
            "its graph does not take what Piper gives (input, input_lengths, scales)",
            detail=f"inputs: {given}, sid: {speaker}",
        )
    output = session.get_outputs()[0]
    if output.type != "tensor(float)":
        raise _broken(name, f"its graph gives {output.type} where sound should be")
    if config.num_speakers > 1 and speaker is None:
        raise _broken(name, f"it names {config.num_speakers} speakers, but its graph has one")
    return speaker is not None


def _broken(name: str, why: str, detail: str = "") -> ModelBroken:
    return ModelBroken(f"The voice “{name}” cannot be used: {why}.", _AGAIN, detail=detail)


def _can_cuda() -> bool:
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.log_severity_level = 3  # errors: it warns that a saved graph fits this processor only, which is known
    return options


def _session(
    model: bytes, device: str, threads: int, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        # as Piper asks for it; the processor takes what the card cannot do
        cuda = {"cudnn_conv_algo_search": "HEURISTIC", "device_id": device.partition(":")[2]}
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    return onnxruntime.InferenceSession(model, options or _options(threads), providers=providers)


def _fitting_session(
    data: bytes, name: str, device: str, threads: int, cache_dir: Path
) -> tuple[onnxruntime.InferenceSession, tuple[NoiseInput, ...], bool]:
    """A session for a voice's file, its noise inputs, and whether the graph makes its noise by itself instead."""
    # a graph arranged for a graphics card cannot be saved
    cached = _Cached(cache_dir / "piper", hashlib.sha256(data).hexdigest()) if device == "cpu" else None
    if cached and (kept := cached.read()):
        options = _options(threads)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is done
        with suppress(*ORT_ERRORS):
            return _session(kept[0], device, threads, options), kept[1], False
    try:
        found = survey(data)
    except ValueError as error:
        raise _broken(name, f"its file is damaged or incomplete ({error})") from None
    if found.external:
        raise ModelRefused(f"“{name}” keeps its weights in other files, which Piper voices do not.", _AGAIN)
    if found.random and not found.model:
        return _session(data, device, threads), (), True
    model = found.model or data
    if cached:
        with suppress(OSError):  # a full disk is no reason not to speak
            return cached.write(model, found.noise, device, threads), found.noise, False
    return _session(model, device, threads), found.noise, False


class _About(msgspec.Struct):
    bytes: int
    sha256: str
    noise: list[tuple[str, str, int]]


class _Cached:
    """The rearranged graph of one voice on disk: the graph, and beside it its checksum and its noise inputs."""

    def __init__(self, folder: Path, sha256: str) -> None:
        circumstances = f"{_PATCH} {onnxruntime.__version__} {platform.machine()} {_processor()}"
        here = hashlib.sha256(circumstances.encode()).hexdigest()[:12]
        self._voice = sha256[:32]
        self._graph = folder / f"{self._voice}-{here}.onnx"
        self._about = folder / f"{self._voice}-{here}.json"

    def read(self) -> tuple[bytes, tuple[NoiseInput, ...]] | None:
        """The graph and its noise inputs, or None where they are not there or not as they were written."""
        try:
            about = msgspec.json.decode(self._about.read_bytes(), type=_About)
            if self._graph.stat().st_size != about.bytes:
                return None
            data = self._graph.read_bytes()
        except (OSError, msgspec.MsgspecError):
            return None
        if hashlib.sha256(data).hexdigest() != about.sha256:
            return None
        return data, tuple(NoiseInput(*n) for n in about.noise)

    def write(
        self, model: bytes, noise: tuple[NoiseInput, ...], device: str, threads: int
    ) -> onnxruntime.InferenceSession:
        """Open `model` and keep what onnxruntime made of it.

        Raises:
            OSError: the folder cannot be written.
        """
        folder = self._graph.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # a name of our own: two workers may meet the same voice at once, and either result is good
        temporary = folder / f"{self._graph.name}.{os.getpid()}.tmp"
        options = _options(threads)
        options.optimized_model_filepath = str(temporary)
        try:
            try:
                session = _session(model, device, threads, options)
            except ORT_ERRORS:
                return _session(model, device, threads)  # perhaps only the writing failed; else this says why
            with open(temporary, "rb+") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                os.fsync(stream.fileno())
                size = stream.tell()
            os.replace(temporary, self._graph)
            sync_folder(folder)
            about = _About(size, digest, [(n.name, n.size, n.index) for n in noise])
            write_durably(self._about, msgspec.json.encode(about))
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        for old in folder.glob(f"{self._voice}-*"):  # made by another onnxruntime or on another processor
            if old.stem != self._graph.stem and not old.name.endswith(".tmp"):
                with suppress(OSError):
                    old.unlink()
        return session


def _processor() -> str:
    """What tells processors with different vector units apart."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
        lines = [line for line in stream if line.lower().startswith(("model name", "flags", "features"))]
        return "".join(sorted(set(lines)))
    return platform.processor()
