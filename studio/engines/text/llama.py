"""Texts from GGUF models through llama.cpp. Knows recipes and windows of tokens; knows no HTTP and no Jinja."""

from __future__ import annotations

import functools
import platform
import secrets
from pathlib import Path
from typing import Any, ClassVar

from studio.core.cards import Broken, ModelCard
from studio.core.plans import Plan
from studio.core.problems import (
    BadRecipe,
    BadResult,
    ModelBroken,
    ModelMissing,
    ModelRefused,
    ModelUnfit,
    OutOfMemory,
    StudioError,
)
from studio.core.recipes import SEED_LIMIT, MadeWith, Message, Recipe, TextRecipe
from studio.core.text import file_stem, shown
from studio.core.works import Artifact, Result
from studio.engines.context import JobCancelled, RunContext
from studio.engines.text import gguf_lora, underway
from studio.engines.text.adapters import checked, summed
from studio.engines.text.llama_server import LlamaServer, graphics_there
from studio.engines.text.local_http import LocalRefused
from studio.engines.text.templates import ModelLayout, Renderer, own_layout, parted
from studio.engines.text.underway import ANSWER_ROOM, USUAL_WINDOW, Underway
from studio.models.fingerprint import fingerprint
from studio.models.gguf_header import GGUFHeader, read_gguf
from studio.models.text_adapters import look_gguf_lora

SHORTEST_WINDOW = 1024  # tokens, when memory is short
SHORTEST_ANSWER = 256  # tokens that stay for the answer even then
WINDOW_STEP = 256  # tokens; llama.cpp rounds windows up to this
LORAS_KEPT = 4  # laid over an open model, at rest or at work; another one means to open it anew


class Llama:
    """The engine "text.llama". Holds one model; see studio.engines.base for the order of calls."""

    kind: ClassVar[str] = "text"

    def __init__(self) -> None:
        self._card: ModelCard | None = None
        self._plan = Plan()
        self._stamp: tuple[int, int] = (0, 0)
        self._header: GGUFHeader | None = None
        self._server: LlamaServer | None = None
        self._renderer = Renderer()
        self._loras: tuple[Path, ...] = ()  # the files that a server is opened with
        self._shrunk: dict[int, tuple[int, str]] = {}  # window asked for -> window and device that fitted

    # --- loading

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Open a GGUF file. Nothing happens when it is open already, unchanged and under the same plan.

        Raises:
            ModelMissing, ModelBroken, ModelRefused: the file. ModelUnfit: llama.cpp does not know its kind.
            OutOfMemory, EngineMissing
        """
        path = Path(card.path)
        if card.parts:
            self._assemble(card, ctx)
        loaded = (self._card, _matters(self._plan), self._stamp)
        if self._server is not None and (card, _matters(plan), _stamp(path)) == loaded:
            return
        self._close_server()
        # llama.cpp refuses broken files too, but says why only in its log. What was put together from parts was held
        # to its checksum, and its card says all that is needed.
        header = read_gguf(path) if not card.parts or "chat" in card.can else None
        if isinstance(header, Broken):
            raise _broken(path, header)
        if header is not None and header.chat_template:
            self._renderer.start()  # gets ready while the model loads
        self._card, self._plan, self._stamp, self._header = card, plan, _stamp(path), header
        self._loras = ()
        self._shrunk = {}
        self._open(self._window(0), ctx)

    @staticmethod
    def _assemble(card: ModelCard, ctx: RunContext) -> None:
        from studio.models import starter

        def progress(fraction: float) -> None:
            ctx.check()
            ctx.loading(card.name, fraction)

        if not starter.assembled(card):
            starter.assemble(card, progress)

    def _open(self, n_ctx: int, ctx: RunContext, least: int = SHORTEST_WINDOW) -> LlamaServer:
        """The model with a window of `n_ctx` tokens. Another length changes the numbers slightly, so it is exact.

        Where memory runs out it is opened on the processor instead of the graphics card, and then with shorter
        windows down to `least` tokens, which is told.

        Raises:
            OutOfMemory: not even that fits.
        """
        assert self._card is not None
        window, device = self._shrunk.get(n_ctx, (n_ctx, self._plan.device))
        if window < min(least, n_ctx):
            window = n_ctx  # what fitted before is too short for this
        if self._server is None or self._server.n_ctx != window:
            self._close_server()
        while self._server is None:
            ctx.check()
            ctx.loading(self._card.name)
            try:
                self._server = LlamaServer(
                    Path(self._card.path),
                    n_ctx=window,
                    threads=self._plan.threads,
                    n_batch=self._plan.n_batch,
                    device=device,
                    loras=self._loras,
                    log=ctx.cache_dir / "llama-load.log",
                )
            except OutOfMemory:
                shorter = max(_rounded(window // 2), _rounded(least))
                if device != "cpu" and graphics_there():
                    device = "cpu"
                elif shorter < window and not self._plan.again:
                    window = shorter
                else:
                    raise
            ctx.loading(self._card.name, 1.0)
        if (window, device) != (n_ctx, self._plan.device):
            self._shrunk[n_ctx] = window, device
        # told with every text that was written so, not only with the one that met it first
        if device != self._plan.device:
            ctx.note("The memory of the graphics card is too small, so the model runs on the processor.")
        if window < n_ctx:
            ctx.note(f"Memory ran out, so the context window was made {window:,} tokens long.")
        return self._server

    def unload(self) -> None:
        self._close_server()
        self._renderer.close()
        self._card = self._header = None
        self._loras = ()

    def _close_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def made_with(self) -> MadeWith:
        server = self._server
        return MadeWith(
            engine="text.llama",
            model_sha256=self._card.sha256 if self._card else "",
            device=server.device if server else "cpu",
            threads=server.threads if server else 0,
            n_batch=server.n_batch if server else 0,
            n_ctx=server.n_ctx if server else 0,
            versions=dict(_versions()),
            system=f"{platform.system()} {platform.machine()}",
        )

    # --- what is laid over the model

    def _laid(self, recipe: TextRecipe, ctx: RunContext) -> dict[Path, float]:
        """The files of the recipe's LoRAs and how strongly they act. A model without one of them is opened anew.

        Raises:
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit: a LoRA that cannot be used. OSError
        """
        weights: dict[Path, float] = {}
        for card_id, weight in summed(recipe.loras).items():
            ctx.check()
            weights[self._lora_file(ctx.card(card_id), ctx)] = weight
        if not weights.keys() <= set(self._loras):
            resting = [file for file in self._loras if file not in weights]
            self._loras = (*resting[max(0, len(resting) + len(weights) - LORAS_KEPT) :], *weights)
            self._close_server()
        return weights

    def _lora_file(self, card: ModelCard, ctx: RunContext) -> Path:
        """A GGUF file of a LoRA; one of peft is written as such once."""
        assert self._card is not None
        path = Path(card.path)
        if card.format == "gguf":
            if not path.is_file():
                raise ModelMissing(
                    f"The LoRA “{shown(card.name)}” is not there.", "Was it moved or deleted?", field="loras"
                )
            looked = look_gguf_lora(path)
            if isinstance(looked, ModelCard):
                return path
            if isinstance(looked, Broken):
                raise _broken(path, looked)
            raise ModelUnfit(f"The LoRA “{shown(card.name)}” cannot be used: {looked.why}.", field="loras")
        folder = checked(card)
        header = self._header or read_gguf(Path(self._card.path))
        if isinstance(header, Broken):
            raise _broken(Path(self._card.path), header)
        self._header = header
        # of which layers there are and how they are laid out, not of which model: others of its kind take the same
        model = f"{header.architecture}-{self._card.base.replace('/', '-')}"
        file = ctx.cache_dir / "loras" / f"{fingerprint(folder, ctx.cache_dir)[:24]}-{file_stem(model, 60)}.gguf"
        if not file.is_file():
            ctx.loading(card.name)
            gguf_lora.write(folder, header, file, card.name)
            ctx.loading(card.name, 1.0)
        return file

    # --- the window of tokens

    @property
    def _longest(self) -> int:
        """Tokens the model was made for, 0 if it does not say."""
        said = self._card.limits.context if self._card else None
        return said or (self._header.context_length if self._header else 0)

    def _window(self, asked: int) -> int:
        """The window for a recipe that asks for `asked` tokens, or 0."""
        window = asked or self._plan.n_ctx or USUAL_WINDOW
        return _rounded(min(window, self._longest or window))

    def _fitted(self, server: LlamaServer, count: int, recipe: TextRecipe, ctx: RunContext) -> LlamaServer:
        """The server whose window takes a prompt of `count` tokens and at least one more.

        Raises:
            BadRecipe: there is none, or the recipe itself sets a window that is too short.
        """
        if count < server.n_ctx:
            return server
        longest = self._longest or server.n_ctx
        if count >= longest:
            raise underway.beyond_model(count, longest)
        if recipe.context:
            raise underway.beyond_window(count, server.n_ctx, longest)
        wanted = count + min(recipe.max_tokens, ANSWER_ROOM)
        grown = _rounded(min(1 << (wanted - 1).bit_length(), longest))
        ctx.note(f"The prompt has {count:,} tokens, so the context window was made {grown:,} tokens long.")
        return self._open(grown, ctx, min(count + min(recipe.max_tokens, SHORTEST_ANSWER), grown))

    def count_tokens(self, text: str) -> int:
        """How many tokens the model reads `text` as, with the one that marks the beginning if it wants one.

        Raises:
            ModelMissing: nothing is loaded.
        """
        if self._server is None:
            raise ModelMissing("No text model is loaded.")
        try:
            return len(self._server.tokens(text, whole=True))
        except LocalRefused as error:
            raise _unanswered(error) from error

    # --- writing

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Write `recipe.n` texts, one after another with seed, seed + 1, …; each is a file of UTF-8 text.

        The file holds what the model wrote, without the prompt. The pieces sent as tokens, joined, are that text.

        Raises:
            BadRecipe: the prompt does not fit the window. ModelUnfit: no such template, or not a recipe for a text.
            BadResult: llama.cpp gave up while writing. JobCancelled. OSError: a file could not be written.
        """
        if not isinstance(recipe, TextRecipe):
            raise ModelUnfit("A text model can only write texts.")
        if self._card is None:
            raise ModelMissing("No text model is loaded.")
        ctx.check()
        # 1. what is laid over the model, and the window the recipe asks for
        laid = self._laid(recipe, ctx)
        underway.note_shorter(ctx, recipe.context, self._longest)
        window = self._window(recipe.context)
        try:
            server = self._open(window, ctx, window if recipe.context else SHORTEST_WINDOW)
        except ModelUnfit:
            self._loras = ()  # the next text is not to meet the same one
            raise
        # 2. what the model reads, as numbers
        try:
            prompt, stops, trim = self._prompt(server, recipe, ctx)
        except LocalRefused as error:
            raise _unanswered(error) from error
        if not prompt:
            raise BadRecipe("The model reads nothing in this prompt.", "Write some words.", field="prompt")
        server = self._fitted(server, len(prompt), recipe, ctx)
        # 3. the texts
        first = secrets.randbelow(SEED_LIMIT) if recipe.seed is None else recipe.seed
        artifacts: list[Artifact] = []
        for index in range(recipe.n):
            ctx.check()
            writing = _Writing(ctx, recipe, Underway(ctx, recipe, index, len(prompt), stops, trim))
            artifacts += writing.write(server, prompt, ctx.seed(first, index), laid)
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))

    def _prompt(
        self, server: LlamaServer, recipe: TextRecipe, ctx: RunContext
    ) -> tuple[list[int], tuple[str, ...], bool]:
        """The prompt as tokens, where to stop, and whether white space around the answer is only layout."""
        own = self._header.chat_template if self._header else ""
        return underway.laid_out(
            recipe,
            ctx,
            bool(own),
            lambda turns: self._own_prompt(server, own, turns, recipe.system, ctx),
            # as a string, the prompt would be read with control tokens
            lambda text: server.tokens(text, whole=True, check=ctx.check),
        )

    def _own_prompt(
        self, server: LlamaServer, template: str, turns: tuple[Message, ...], system: str, ctx: RunContext
    ) -> list[int]:
        """The turns in the model's own layout, as tokens: control tokens from the template, text from the person.

        Raises:
            TemplateFailed
        """
        bos, eos = server.marks()
        layout: ModelLayout = own_layout(self._renderer, template, turns, system, bos, eos)
        for note in layout.notes:
            ctx.note(f"About the chat template: {note}.")
        begins = bool(bos) and layout.text.startswith(bos)
        if all(self._harmless(server, turn["content"], ctx) for turn in layout.turns):
            # read in one go, as the model's trainers did: words may join across the borders of the pieces
            return server.tokens(layout.text, whole=not begins, special=True, check=ctx.check)
        tokens: list[int] = []
        for i, (text, theirs) in enumerate(parted(self._renderer, template, layout.turns, bos, eos)):
            whole = i == 0 and not (bos and text.startswith(bos) and not theirs)
            tokens += server.tokens(text, whole=whole, special=not theirs, check=ctx.check)
        return tokens

    @staticmethod
    def _harmless(server: LlamaServer, text: str, ctx: RunContext) -> bool:
        """Whether a text is read the same with and without control tokens."""
        as_text = server.tokens(text, whole=False, check=ctx.check)
        return as_text == server.tokens(text, whole=False, special=True, check=ctx.check)


class _Writing:
    """One text on its way: takes llama.cpp's chunks and tells of them."""

    def __init__(self, ctx: RunContext, recipe: TextRecipe, text: Underway) -> None:
        self._ctx = ctx
        self._recipe = recipe
        self._text = text
        self._error: dict[str, Any] | None = None
        self._raised: BaseException | None = None

    def write(
        self, server: LlamaServer, prompt: list[int], seed: int, loras: dict[Path, float]
    ) -> tuple[Artifact, ...]:
        """Write and save the text, and a small picture of it.

        Raises:
            BadRecipe, BadResult: llama.cpp refused or gave up. JobCancelled. OSError: it could not be saved.
        """
        recipe, text = self._recipe, self._text
        request = {
            "prompt": prompt,
            "max_tokens": recipe.max_tokens,
            "seed": seed,
            "temperature": recipe.temperature,
            "top_p": recipe.top_p,
            "top_k": recipe.top_k,
            "min_p": recipe.min_p,
            "repeat_penalty": recipe.repeat_penalty,
            "repeat_last_n": recipe.repeat_last_n,
            "cache_prompt": False,  # a reused prompt changes the numbers
            "stream": True,
            "return_progress": True,  # else nothing is heard, and no cancel, while a long prompt is read
        }
        text.begin()
        server.complete(request, self._take, loras)
        if self._raised is not None:
            if isinstance(self._raised, JobCancelled):
                text.cancelled(seed)
            raise self._raised
        if self._error is not None:
            raise _refused(self._error)
        if not text.finish:
            self._ctx.check()
            raise BadResult("The text broke off without a reason.", "Try again; the log may have the reason.")
        return text.ended(seed, server.n_ctx)

    def _take(self, chunk: dict[str, Any]) -> bool:
        # An exception must not cross the C++ frames between here and write(): it would be swallowed there.
        try:
            return self._taken(chunk)
        except BaseException as error:
            self._raised = error
            return True

    def _taken(self, chunk: dict[str, Any]) -> bool:
        """Returns whether to stop."""
        self._ctx.check()
        if "error" in chunk:
            self._error = chunk["error"]
            return True
        text, reading = self._text, chunk.get("prompt_progress")
        if reading is not None:
            text.begin_writing()
            text.reading(reading["processed"])
            return False
        # a token is not always a chunk; the last chunk has the true number
        text.tokens = int(chunk.get("usage", {}).get("completion_tokens", text.tokens + 1))
        choice = chunk["choices"][0]
        if text.feed(choice["text"]):
            return True
        text.finish = choice.get("finish_reason") or ""
        text.tell()
        return False


@functools.cache
def _versions() -> dict[str, str]:
    # not at the top: looking into packages costs 0.05 s, and the first token should not wait for it
    from importlib.metadata import version

    return {"xllamacpp": version("xllamacpp"), "python": platform.python_version()}


def _matters(plan: Plan) -> tuple[str, int, int, int]:
    """The part of a plan that a loaded model depends on."""
    return plan.device, plan.threads, plan.n_batch, plan.n_ctx


def _rounded(window: int) -> int:
    return -(-window // WINDOW_STEP) * WINDOW_STEP


def _stamp(path: Path) -> tuple[int, int]:
    """Tells a changed file from an unchanged one; (0, 0) where there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _broken(path: Path, broken: Broken) -> StudioError:
    kinds: dict[str, type[StudioError]] = {"model_missing": ModelMissing, "model_refused": ModelRefused}
    kind = kinds.get(broken.code, ModelBroken)
    return kind(f"The model {path.name} cannot be used: {broken.why}.", broken.hint)


def _refused(error: dict[str, Any]) -> StudioError:
    """llama.cpp's answer to a request it does not take, or could not go on with."""
    message = str(error.get("message", ""))[:500]
    if error.get("type") == "exceed_context_size_error":
        return BadRecipe(
            f"The prompt has {error.get('n_prompt_tokens', 0):,} tokens, and the context window holds "
            f"{error.get('n_ctx', 0):,} with the answer.",
            "Shorten the prompt or set a longer Context.",
            field="prompt",
            detail=message,
        )
    if error.get("type") == "invalid_request_error":
        return BadRecipe("llama.cpp does not take this recipe.", "The log has its reason.", detail=message)
    return BadResult("llama.cpp could not write this text.", "Try again; the log has its reason.", detail=message)


def _unanswered(error: LocalRefused) -> BadResult:
    return BadResult("llama.cpp did not answer.", "Try again; the log has the reason.", detail=str(error))
