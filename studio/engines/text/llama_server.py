"""One GGUF model held open by llama.cpp. Knows xllamacpp, sockets and logs; knows nothing of recipes.

xllamacpp's `Server` always listens somewhere. Here that is a Unix socket in a folder only its owner can enter, so no
port is opened; on Windows it is a port on loopback that answers only to a random key.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from studio.core.problems import EngineMissing, ModelBroken, ModelUnfit, OutOfMemory
from studio.engines.text.local_http import LocalHttp

FOLDER = "studio-llama-"
SOCKET = "llama.sock"
SOCKET_PATH_LIMIT = 100  # bytes; the kernel's is 108 on Linux and 104 on macOS, and xllamacpp fails without a word
STALE_SECONDS = 3600.0
ERRORS_ONLY = 1  # of llama.cpp's log levels
LOG_KEPT = 4000  # characters
LOG_SECONDS = 1.0
LAST_LINE = b"exiting due to"  # of a load that failed


def lacks_avx2(machine: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this is an x86 processor without AVX2, which xllamacpp's wheels are built for. False when in doubt.

    Args:
        machine: as `platform.machine()` says it.
        cpuinfo: where Linux lists the processor's abilities.
    """
    if machine.lower() not in ("x86_64", "amd64", "i686", "i386"):
        return False
    if sys.platform == "win32":
        import ctypes

        return not ctypes.windll.kernel32.IsProcessorFeaturePresent(40)  # PF_AVX2_INSTRUCTIONS_AVAILABLE
    try:
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    except OSError:
        return False
    return bool(flags) and "avx2" not in flags.split()


def library() -> Any:
    """The module xllamacpp.

    Raises:
        EngineMissing: it is not installed, or this processor cannot run it.
    """
    if lacks_avx2(platform.machine()):
        # before the import: an unknown instruction ends the process without a word
        raise EngineMissing(
            "Text models need a processor with AVX2, and this one has none.", "Most processors since 2015 have it."
        )
    try:
        import xllamacpp  # type: ignore[import-untyped]
    except ImportError as error:
        raise EngineMissing(
            "The library that runs text models, xllamacpp, cannot be loaded.",
            "Run the set-up again, or “pip install xllamacpp”.",
            detail=str(error),
        ) from error
    return xllamacpp


def graphics(devices: list[dict[str, Any]]) -> list[str]:
    """Names of the graphics processors llama.cpp can use, for example ["CUDA0"]."""
    return [d["name"] for d in devices if "GPU" in str(d["type"])]


def graphics_there() -> bool:
    """Whether llama.cpp has a graphics processor to use here."""
    return bool(graphics(library().get_device_info()))


class LlamaServer:
    """A loaded model.

    Args:
        path: the GGUF file.
        n_ctx: length of the context window, tokens.
        device: "cpu", or "auto" and anything else for all layers on a graphics processor where there is one;
            a number after a colon picks it.
        loras: GGUF files that are laid over the model; how strongly, each text says.
        log: file for what llama.cpp says while it loads; it is left behind if that kills the process.
        loopback: listen on a port with a key instead of a Unix socket.

    Attributes:
        device: where it really runs: "cpu", "cuda:0", "metal:0".

    Raises:
        EngineMissing, ModelBroken, ModelUnfit, OutOfMemory
    """

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int,
        threads: int,
        n_batch: int,
        device: str,
        log: Path,
        loras: Sequence[Path] = (),
        loopback: bool = os.name == "nt",
    ) -> None:
        xllamacpp = library()
        found = [] if device == "cpu" else graphics(xllamacpp.get_device_info())
        number = min(int(device.partition(":")[2] or 0), max(len(found) - 1, 0))
        self.device = re.sub(r"(\D+)(\d+)$", r"\1:\2", found[number].lower()) if found else "cpu"
        self.n_ctx, self.threads, self.n_batch, self.loras = n_ctx, threads, n_batch, tuple(loras)
        self._folder: Path | None = None
        self._server: Any = None
        self._answered = False

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = n_batch
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_parallel = 1
        # at rest until a text asks for one: with a strength of 0 it is passed over, and nothing is computed with it
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(file), 0.0) for file in self.loras]
        if not found:
            params.n_gpu_layers = 0
            # a build for graphics processors would otherwise still hand large batches over
            params.no_op_offload = params.no_kv_offload = True
        elif ":" in device:
            params.main_gpu = number
            params.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_NONE
        # The studio plans memory itself, and the first text warms up as well as an empty one.
        params.warmup = params.fit_params = False
        params.cache_ram_mib = 0  # prompts are never reused: that would change the numbers
        params.verbosity = ERRORS_ONLY
        # llama.cpp tries the file's own chat template while it loads, without any limit: an endless one never returns.
        # The studio renders templates itself.
        params.chat_template = "{{ messages[0].content }}"
        key = ""
        params.ui = params.endpoint_slots = False
        params.cors_origins = ""
        if loopback:
            key = secrets.token_urlsafe(32)
            params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [key]
        else:
            self._folder = _private_folder()
            params.hostnames = [str(self._folder / SOCKET)]
        try:
            with _said(log) as said:
                self._server = xllamacpp.Server(params)
        except (RuntimeError, MemoryError) as error:
            self.close()
            raise _explained(path, said(), error, bool(self.loras)) from error
        except BaseException:
            self.close()
            raise
        address: str | tuple[str, int] = params.hostnames[0]
        if loopback:
            where = urlsplit(self._server.listening_address)
            address = (where.hostname or "127.0.0.1", where.port or 0)
        self._http = LocalHttp(address, key)

    def tokens(
        self, text: str, *, whole: bool, special: bool = False, check: Callable[[], None] | None = None
    ) -> list[int]:
        """The numbers a text is read as.

        Args:
            whole: with what the model wants before (and after) every text, mostly one token that marks its beginning.
            special: read “<end_of_turn>” and the like as the model's control tokens; False reads them as letters.
            check: called while waiting.

        Raises:
            LocalRefused: the server does not answer.
        """
        body = {"content": text.encode("utf-8", "replace").decode(), "add_special": whole, "parse_special": special}
        return list(self._http.ask("/tokenize", body, check)["tokens"])

    def marks(self) -> tuple[str, str]:
        """The texts of the tokens that begin and end a text, for example ("<bos>", "<eos>"); empty where none."""
        about = self._http.ask("/props")
        return about.get("bos_token") or "", about.get("eos_token") or ""

    def complete(
        self,
        request: dict[str, Any],
        take: Callable[[dict[str, Any]], bool],
        loras: Mapping[Path, float] | None = None,
    ) -> None:
        """Write a text; `take` gets each chunk on this thread and returns True to stop. It must not raise.

        Args:
            loras: how strongly each acts; the others are at rest.
        """
        if self.loras:
            weights = loras or {}
            asked = [{"id": at, "scale": weights.get(file, 0.0)} for at, file in enumerate(self.loras)]
            request = {**request, "lora": asked}

        def heard(chunk: dict[str, Any]) -> bool:
            self._answered = True
            return take(chunk)

        self._server.handle_completions(request, heard)

    def close(self) -> None:
        """Give the memory back and remove the socket."""
        if self._server is not None and not self._answered:
            # Ending a server whose own loop has not begun yet waits for ever (seen within 10 ms of opening one); an
            # answer, stopped at its first sign of life, shows that it has.
            request = {"prompt": [0], "max_tokens": 1, "stream": True, "return_progress": True, "cache_prompt": False}
            self.complete(request, lambda chunk: True)
        self._server = None
        gc.collect()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _private_folder() -> Path:
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base / f"{FOLDER}12345678" / SOCKET)) > SOCKET_PATH_LIMIT:
        base = Path("/tmp")
    _sweep(base)
    return Path(tempfile.mkdtemp(prefix=FOLDER, dir=base))  # 0700: nobody else may enter


def _sweep(base: Path) -> None:
    """Remove the sockets of workers that were killed. One that answers, or is just being made, is left alone."""
    for folder in base.glob(f"{FOLDER}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(0.2)
                probe.connect(str(folder / SOCKET))
        except ConnectionRefusedError:
            shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


@contextlib.contextmanager
def _said(log: Path) -> Iterator[Callable[[], str]]:
    """Send what C code writes to standard error into `log`; yields a function that reads it afterwards.

    llama.cpp gives its reasons only there. A file, not a pipe: loading holds the interpreter lock, so nobody could
    empty a pipe. Everything is passed on to the real standard error afterwards.
    """
    text = ""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        stream = open(log, "w+b")  # noqa: SIM115  closed below, in the order the descriptors need
        kept = os.dup(2)
    except OSError:
        yield lambda: text  # without a log the model is still worth loading
        return
    sys.stderr.flush()
    os.dup2(stream.fileno(), 2)
    try:
        yield lambda: text
    except RuntimeError:
        # a thread of llama.cpp writes the log, and may not have come to its last line yet
        end = time.monotonic() + LOG_SECONDS
        while LAST_LINE not in log.read_bytes() and time.monotonic() < end:
            time.sleep(0.01)
        raise
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        stream.seek(0)
        data = stream.read()
        stream.close()
        log.unlink(missing_ok=True)
        text = data[-LOG_KEPT:].decode("utf-8", "replace")
        if text:
            sys.stderr.write(text)


def _explained(
    path: Path, log: str, error: RuntimeError | MemoryError, with_loras: bool = False
) -> ModelBroken | ModelUnfit | OutOfMemory:
    """Turn llama.cpp's log into the one sentence that helps."""
    detail = f"{error}\n{log}".strip()
    if with_loras and re.search(r"lora|adapter", log, re.I) and not isinstance(error, MemoryError):
        return ModelUnfit(
            f"A LoRA does not fit the model {path.name}.", "Choose one that was made for this model.", detail=detail,
            field="loras",
        )  # fmt: skip
    unknown = re.search(r"unknown (?:model architecture|pre-tokenizer type): '([^']*)'", log)
    if unknown:
        return ModelUnfit(
            f"The model {path.name} is of the kind “{unknown[1][:60]}”, which this version of llama.cpp does not know.",
            "A newer version of xllamacpp may know it.",
            detail=detail,
        )
    short = r"unable to allocate|failed to allocate|out of memory|cannot allocate|alloc_tensor_range|bad_alloc"
    if isinstance(error, MemoryError) or re.search(short, log, re.I):
        asked = re.search(r"failed to allocate .*?of size (\d+)(?![.\d])", log)
        piece = f", which asked for {int(asked[1]) / 1e6:,.0f} MB more" if asked else ""
        free = psutil.virtual_memory().available / 1e6
        return OutOfMemory(
            f"There is not enough memory to open {path.name}{piece}; {free:,.0f} MB are free now.",
            "Close other programs, take a smaller model, or set a shorter context.",
            detail=detail,
        )
    return ModelBroken(
        f"llama.cpp could not open {path.name}.", "Copy or download it again; the log has the reason.", detail=detail
    )
