"""Recipes of making models one's own, and of judging them: data sets, training, search, evaluation.

Declared like all other recipes; `recipes.py` lists them. Knows no library and no file but by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from studio.core.declare import about
from studio.core.made import SEED_LIMIT, MadeWith, Seed
from studio.core.pictures import REFERENCE_LIMIT

NAME_LIMIT = 80  # characters of a data set's or a model's name
SAMPLE_LIMIT = 4_096  # characters of a prompt that is tried while a model learns
WORDS_LIMIT = 20_000  # characters of a list of words

_Name = Annotated[
    str, about("Name", "What the result is called; empty names it after its source.", max_length=NAME_LIMIT)
]
_Share: dict[str, float] = {"ge": 0.0, "le": 0.9}
_Average = Annotated[float, Meta(ge=0.0, le=0.99999)] | None
_Prompts = tuple[Annotated[str, Meta(min_length=1, max_length=SAMPLE_LIMIT)], ...]


def _dataset(help: str) -> Meta:
    return about("Data", help, refers="dataset", max_length=REFERENCE_LIMIT)


class WordGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """Words that stand for one group of people, in the same order as those of its counterpart."""

    name: Annotated[str, about("Group", "For example women.", min_length=1, max_length=NAME_LIMIT)]
    words: Annotated[
        str,
        about("Words", "With commas between them, in the order of the other groups’.", max_length=WORDS_LIMIT),
    ] = ""

    def listed(self) -> list[str]:
        """The words as they are written, in order. Semicolons part them, too: a command line parts fields by commas."""
        return [" ".join(word.split()) for word in self.words.replace(";", ",").split(",") if word.strip()]


# Two groups to begin with; they are there to be edited. The order pairs them: he with she, his and him with her.
GROUPS_GIVEN = (
    WordGroup(
        "women",
        "she, her, her, hers, herself, woman, women, girl, girls, mother, mothers, daughter, daughters, sister, "
        "sisters, wife, wives, aunt, aunts, grandmother, queen, actress, waitress, Mrs, lady, ladies, female",
    ),
    WordGroup(
        "men",
        "he, his, him, his, himself, man, men, boy, boys, father, fathers, son, sons, brother, brothers, husband, "
        "husbands, uncle, uncles, grandfather, king, actor, waiter, Mr, gentleman, gentlemen, male",
    ),
)


class DatasetRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dataset"):
    """A data set: texts, conversations or captioned pictures, read, cleaned, split and kept with its checksum."""

    sources: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=REFERENCE_LIMIT)], ...],
        about("Sources", "Files and folders: text, Markdown, JSONL, CSV, Parquet, chat exports, Wikipedia dumps, "
              "Common Crawl WET, pictures with captions.", max_length=256),
    ]  # fmt: skip
    name: _Name = ""
    format: Annotated[
        Literal["auto", "text", "markdown", "jsonl", "csv", "parquet", "chat", "wikipedia", "wet", "pictures"],
        about("Format", "What the sources are; auto looks at each."),
    ] = "auto"
    shape: Annotated[
        Literal["auto", "text", "chat", "captions"],
        about("Rows", "What a row is: a text, a conversation, or a picture with its caption."),
    ] = "auto"
    text: Annotated[
        str, about("Text column", "Which column holds the text or caption; empty finds it.", group="columns",
                   max_length=200),
    ] = ""  # fmt: skip
    question: Annotated[
        str, about("Question column", "Of questions with answers: what is asked.", group="columns", max_length=200)
    ] = ""
    answer: Annotated[
        str, about("Answer column", "Of questions with answers: what is to be learnt.", group="columns",
                   max_length=200),
    ] = ""  # fmt: skip
    image: Annotated[
        str, about("Picture column", "Which column names the picture file.", group="columns", max_length=200)
    ] = ""
    encoding: Annotated[
        str, about("Encoding", "Of text files, for example utf-8; empty finds it.", group="columns", max_length=40)
    ] = ""
    split_text: Annotated[
        Literal["document", "paragraph", "line"],
        about("A row of text is", "A whole file or article, a paragraph, or a line.", group="columns"),
    ] = "document"
    languages: Annotated[
        tuple[Annotated[str, Meta(min_length=2, max_length=8)], ...],
        about("Languages", "Keep only these, for example en, de; empty keeps all.", group="clean", max_length=32),
    ] = ()
    shortest: Annotated[
        int, about("Shortest", "Drop shorter rows.", unit="characters", group="clean", ge=0, le=1_000_000)
    ] = 1
    longest: Annotated[
        int, about("Longest", "Cut longer texts into pieces of this length; 0 leaves them.", unit="characters",
                   group="clean", ge=0, le=100_000_000),
    ] = 10_000  # fmt: skip
    boilerplate: Annotated[
        bool, about("Drop boilerplate", "Leave out menus, lists of links, and lines that come again and again.",
                    group="clean"),
    ] = False  # fmt: skip
    fix: Annotated[
        bool, about("Mend characters", "Repair text that was read in the wrong encoding, and unusual forms.",
                    group="clean"),
    ] = True  # fmt: skip
    duplicates: Annotated[
        Literal["keep", "exact", "near"],
        about("Duplicates", "Drop rows that are there already: the same, or nearly the same by MinHash.",
              group="clean"),
    ] = "exact"  # fmt: skip
    likeness: Annotated[
        float, about("Likeness", "How much of their words two rows must share to be nearly the same.", group="clean",
                     ge=0.3, le=1.0),
    ] = 0.8  # fmt: skip
    most: Annotated[
        int, about("At most", "Stop after so many rows; 0 takes all.", unit="rows", group="clean", ge=0,
                   le=1_000_000_000),
    ] = 0  # fmt: skip
    valid: Annotated[
        float, about("For validation", "Share that is kept apart to judge by while learning.", group="split", **_Share)
    ] = 0.05
    test: Annotated[float, about("For testing", "Share that is kept apart until the end.", group="split", **_Share)] = (
        0.0
    )
    tokenizer: Annotated[
        str, about("Count tokens of", "A text model, whose tokens are counted; empty counts words only.",
                   group="split", refers="text", max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    groups: Annotated[
        tuple[WordGroup, ...],
        about("Groups", "Whose words are counted in the report, and swapped where that is asked for.",
              group="balance", max_length=12),
    ] = GROUPS_GIVEN  # fmt: skip
    augment: Annotated[
        bool,
        about("Add counterparts", "Add every training row once more with the words of the first two groups swapped, "
              "where it has any: it softens what a model learns of groups.", group="balance"),
    ] = False  # fmt: skip
    seed: Annotated[
        int,
        about("Seed", "Another one puts other rows into each part; the same one the same.", group="split", ge=0,
              lt=SEED_LIMIT),
    ] = 0  # fmt: skip
    preview_only: bool = False  # only the first rows, and what was found of format, columns and encoding
    title: str = ""
    made_with: MadeWith | None = None


Precision = Literal["auto", "float32", "bfloat16", "float16"]
Schedule = Literal["cosine", "linear", "constant"]

# What both kinds of training have, said once; each sets its own default, in its own order.
_Rate = Annotated[
    Annotated[float, Meta(ge=1e-9, le=10.0)] | None,
    about("Learning rate", "How far each step goes; empty takes what suits the method."),
]
_Rank = Annotated[int, about("Rank", "Width of the adapter.", group="adapter", ge=1, le=1024)]
_Alpha = Annotated[float, about("Alpha", "The adapter counts alpha ÷ rank times.", group="adapter", ge=0.1, le=4096.0)]
_Accumulate = Annotated[
    int, about("Accumulate", "Batches that make one step, where memory is short.", group="learning", ge=1, le=4096)
]
_Warmup = Annotated[
    float, about("Warm-up", "Share of the steps in which the rate rises.", group="learning", ge=0.0, le=0.9)
]
_Schedule = Annotated[Schedule, about("Schedule", "How the rate falls afterwards.", group="learning")]
_Decay = Annotated[
    float,
    about("Weight decay", "How strongly AdamW draws all weights towards 0.", group="learning", ge=0.0, le=10.0),
]
_Clip = Annotated[float, about("Clip", "Longest gradient; 0 does not clip.", group="learning", ge=0.0, le=1000.0)]
_Checkpointing = Annotated[
    bool, about("Save memory", "Compute activations twice instead of keeping them.", group="learning")
]
_Precision = Annotated[
    Precision, about("Precision", "Number format of the computing; auto takes what the device is good at.",
                     group="learning"),
]  # fmt: skip
_CheckEvery = Annotated[
    int, about("Check every", "Steps between two looks at validation; 0 decides.", unit="steps", group="watch",
               ge=0, le=1_000_000),
]  # fmt: skip
_Patience = Annotated[
    int, about("Patience", "Stop early after so many looks without gain; 0 never does.", group="watch", ge=0,
               le=1000),
]  # fmt: skip


class TrainTextRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="train-text"):
    """A language model made one's own: from scratch, fine-tuned as a whole, or by a LoRA."""

    data: Annotated[str, _dataset("The data set to learn from: its name.")]
    name: _Name = ""
    method: Annotated[
        Literal["lora", "full", "scratch", "qlora"],
        about("Method", "lora adds a small adapter to a model; full changes all of it; scratch begins with nothing; "
              "qlora is lora over a model in 4 bits, on NVIDIA cards."),
    ] = "lora"  # fmt: skip
    model: Annotated[
        str,
        about("Base", "The model to go on from; not used from scratch.", refers="text", max_length=REFERENCE_LIMIT),
    ] = ""
    steps: Annotated[int, about("Steps", "How many steps of learning; 0 goes by epochs.", ge=0, le=10_000_000)] = 0
    epochs: Annotated[float, about("Epochs", "How often all rows are seen.", ge=0.01, le=10_000.0)] = 1.0
    rate: _Rate = None
    batch: Annotated[int, about("Batch", "Rows at once.", unit="rows", ge=1, le=4096)] = 4
    length: Annotated[
        int, about("Length", "Tokens of a row; longer ones are cut into pieces.", unit="tokens", ge=8, le=131_072)
    ] = 256
    # -- the adapter
    rank: _Rank = 16
    alpha: _Alpha = 32.0
    dropout: Annotated[
        float, about("Dropout", "Share of the adapter's inputs left out at random.", group="adapter", ge=0.0, le=0.9)
    ] = 0.0
    targets: Annotated[
        Literal["all", "attention"],
        about("Adapts", "All linear layers, or those of attention only.", group="adapter"),
    ] = "all"
    # -- from scratch
    layers: Annotated[int, about("Layers", "Depth of a new model.", group="scratch", ge=1, le=200)] = 4
    heads: Annotated[int, about("Heads", "Attention heads of each layer.", group="scratch", ge=1, le=256)] = 4
    width: Annotated[
        int, about("Width", "Numbers a token is; a multiple of the heads.", group="scratch", ge=8, le=16_384)
    ] = 256
    vocabulary: Annotated[
        int, about("Vocabulary", "Tokens of a new tokenizer, trained on the data.", unit="tokens", group="scratch",
                   ge=300, le=500_000),
    ] = 4096  # fmt: skip
    # -- how it learns
    accumulate: _Accumulate = 1
    warmup: _Warmup = 0.05
    schedule: _Schedule = "cosine"
    decay: _Decay = 0.01
    clip: _Clip = 1.0
    packing: Annotated[
        bool, about("Packing", "Lay short rows end to end, so that no step is spent on padding.", group="learning")
    ] = True
    answers_only: Annotated[
        bool, about("Answers only", "Of conversations learn the answers and not the questions.", group="learning")
    ] = True
    checkpointing: _Checkpointing = False
    precision: _Precision = "auto"
    # -- how it is watched
    check_every: _CheckEvery = 0
    patience: _Patience = 5
    prompts: Annotated[
        _Prompts, about("Try", "Prompts that are tried before, during and after, with the same seed.", group="watch",
                        max_length=12),
    ] = ()  # fmt: skip
    sample_tokens: Annotated[
        int, about("Try length", "Tokens of such a sample.", unit="tokens", group="watch", ge=1, le=4096)
    ] = 64
    seed: Seed = None
    run: str = ""  # the folder of checkpoints; the studio fills it in, and a job begun again goes on from there
    plan_only: bool = False  # tell what it would take, and do nothing
    title: str = ""
    made_with: MadeWith | None = None


class TrainImageRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="train-image"):
    """A picture model made one's own: a LoRA, DreamBooth, a whole model, or a small one from scratch."""

    data: Annotated[str, _dataset("The captioned pictures to learn from: a data set's name.")]
    name: _Name = ""
    method: Annotated[
        Literal["lora", "dreambooth", "full", "autoencoder", "scratch"],
        about("Method", "lora adds a small adapter to a model; dreambooth teaches it one subject; full changes its "
              "denoiser and text encoder; autoencoder and scratch make a small model of one's own, in that order."),
    ] = "lora"  # fmt: skip
    model: Annotated[
        str,
        about("Base", "The model to go on from; from scratch, one whose autoencoder is used.", refers="image",
              max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    steps: Annotated[int, about("Steps", "How many steps of learning.", ge=1, le=100_000_000)] = 500
    rate: _Rate = None
    batch: Annotated[int, about("Batch", "Pictures at once.", unit="pictures", ge=1, le=4096)] = 1
    size: Annotated[
        int, about("Size", "Side the pictures are brought to; 0 takes the model's own.", unit="px", ge=0, le=4096)
    ] = 0
    subject: Annotated[
        str, about("Subject", "For dreambooth: the words that stand for it, for example “a sks dog”.",
                   max_length=SAMPLE_LIMIT),
    ] = ""  # fmt: skip
    others: Annotated[
        str, about("Others", "For dreambooth: the words for its kind, for example “a dog”; keeps what the model "
                   "knew of it.", group="adapter", max_length=SAMPLE_LIMIT),
    ] = ""  # fmt: skip
    others_count: Annotated[
        int, about("How many others", "Pictures of its kind that the model paints beforehand.", group="adapter", ge=1,
                   le=10_000),
    ] = 50  # fmt: skip
    rank: _Rank = 8
    alpha: _Alpha = 8.0
    text_encoder: Annotated[bool, about("Text encoder too", "Let it learn as well.", group="adapter")] = False
    # -- from scratch
    vae: Annotated[
        str, about("Autoencoder", "For scratch, one that was trained here; empty takes the base model’s.",
                   group="scratch", refers="vae", max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    channels: Annotated[
        int,
        about(
            "Channels",
            "Width of the denoiser's first level; an autoencoder’s is a sixth.",
            group="scratch",
            ge=8,
            le=1024,
        ),
    ] = 96
    latents: Annotated[int, about("Latent channels", "Of a new autoencoder.", group="scratch", ge=1, le=64)] = 8
    text_width: Annotated[
        int, about("Text width", "Numbers of a token in the new text encoder.", group="scratch", ge=32, le=4096)
    ] = 256
    text_layers: Annotated[int, about("Text layers", "Of the new text encoder.", group="scratch", ge=1, le=48)] = 4
    vocabulary: Annotated[
        int, about("Vocabulary", "Tokens of the new tokenizer.", unit="tokens", group="scratch", ge=300, le=100_000)
    ] = 4096
    # -- how it learns
    accumulate: _Accumulate = 1
    warmup: _Warmup = 0.05
    schedule: _Schedule = "cosine"
    decay: _Decay = 0.01
    clip: _Clip = 1.0
    average: Annotated[
        _Average, about("Average", "Share of the old in the running average that is kept (EMA); 0 keeps the last, "
                        "empty takes what suits the method.", group="learning"),
    ] = None  # fmt: skip
    snr: Annotated[
        float, about("Min-SNR", "Weighs noise levels so that none rules; 0 is off, 5 is usual.", group="learning",
                     ge=0.0, le=100.0),
    ] = 5.0  # fmt: skip
    unguided: Annotated[
        float, about("Without words", "Share of pictures learnt without their caption, for guidance.",
                     group="learning", ge=0.0, le=0.9),
    ] = 0.1  # fmt: skip
    mirror: Annotated[bool, about("Mirror", "Show pictures mirrored, every other time.", group="learning")] = False
    checkpointing: _Checkpointing = False
    precision: _Precision = "auto"
    check_every: _CheckEvery = 0
    patience: _Patience = 0
    half: Annotated[
        bool, about("Keep in 16 bits", "Keep a whole model in half the room; adapters are kept as they are.",
                    group="learning"),
    ] = True  # fmt: skip
    prompts: Annotated[
        _Prompts, about("Try", "Prompts that are painted before, during and after, with the same seed.",
                        group="watch", max_length=12),
    ] = ()  # fmt: skip
    sample_every: Annotated[
        int, about("Try every", "Steps between two tries of the prompts; 0 decides.", unit="steps", group="watch",
                   ge=0, le=1_000_000),
    ] = 0  # fmt: skip
    seed: Seed = None
    run: str = ""
    plan_only: bool = False  # only say what it would take, from a few steps that change nothing
    title: str = ""
    made_with: MadeWith | None = None


class TextLora(msgspec.Struct, frozen=True):
    """A LoRA laid over a language model."""

    model: Annotated[
        str,
        about(
            "LoRA", "A LoRA's name, or the path of its folder or file.", refers="text-lora",
            max_length=REFERENCE_LIMIT,
        ),
    ]  # fmt: skip
    weight: Annotated[float, about("Weight", "How strongly it acts; 0 is not at all.", ge=-4.0, le=4.0)] = 1.0


class ConvertRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="convert"):
    """A language model written anew: with LoRAs merged into it, as safetensors or as a GGUF file."""

    model: Annotated[
        str, about("Model", "The language model to write anew.", refers="text", max_length=REFERENCE_LIMIT)
    ] = ""
    loras: Annotated[
        tuple[TextLora, ...],
        about("LoRAs", "Are merged into the model: it acts as with them, and needs them no more.", max_length=16),
    ] = ()
    to: Annotated[
        Literal["gguf", "safetensors"],
        about("To", "gguf is one file for llama.cpp, fast on any computer; safetensors can be trained on."),
    ] = "gguf"
    type: Annotated[
        Literal["auto", "float32", "float16", "bfloat16", "q8_0"],
        about("Numbers", "How its numbers are kept; auto takes float16 for GGUF and the model's own for safetensors. "
              "q8_0 is half as large as float16, for GGUF only."),
    ] = "auto"  # fmt: skip
    name: _Name = ""
    title: str = ""
    made_with: MadeWith | None = None


_Resamples = Annotated[
    int, about("Resamples", "Draws of the bootstrap that gives the 95 % intervals.", group="advanced", ge=100,
               le=100_000),
]  # fmt: skip


class EvaluateTextRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="evaluate-text"):
    """Texts and language models measured."""

    models: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=REFERENCE_LIMIT)], ...],
        about("Models", "Whose perplexity is measured, and which write what is measured; may be empty for texts that "
              "are there.", refers="text", max_length=8),
    ] = ()  # fmt: skip
    data: Annotated[str, _dataset("A data set: its test rows, or those for validation, are used.")] = ""
    candidates: Annotated[
        str, about("Texts", "A file of texts to measure, one a line; instead of a model's.",
                   max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    references: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=REFERENCE_LIMIT)], ...],
        about("References", "Files of what the texts should have been, one a line.", max_length=16),
    ] = ()
    measures: Annotated[
        tuple[Literal["perplexity", "bleu", "chrf", "rouge", "meteor", "distinct", "self_bleu", "repetition", "bias",
                      "toxicity"], ...],
        about("Measures", "What is measured; empty measures all that can be."),
    ] = ()  # fmt: skip
    rows: Annotated[int, about("Rows", "At most so many rows of the data set.", unit="rows", ge=1, le=1_000_000)] = 200
    max_tokens: Annotated[
        int, about("Length", "The most tokens a model writes per row.", unit="tokens", ge=1, le=4096)
    ] = 64
    window: Annotated[
        int, about("Window", "Tokens a perplexity is measured over at once.", unit="tokens", group="advanced", ge=8,
                   le=131_072),
    ] = 512  # fmt: skip
    groups: Annotated[
        tuple[WordGroup, ...],
        about("Groups", "Whose words are swapped to probe for bias.", group="balance", max_length=12),
    ] = GROUPS_GIVEN
    toxic: Annotated[
        str, about("Words to look for", "A list of one's own, with commas; empty takes the studio's.",
                   group="balance", multiline=True, max_length=WORDS_LIMIT),
    ] = ""  # fmt: skip
    resamples: _Resamples = 1000
    seed: Seed = None
    title: str = ""
    made_with: MadeWith | None = None


class EvaluateImageRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="evaluate-image"):
    """Pictures measured: against other pictures, and against their prompts."""

    pictures: Annotated[
        str, about("Pictures", "A folder of pictures, or a data set's name.", max_length=REFERENCE_LIMIT)
    ] = ""
    references: Annotated[
        str, about("References", "A folder of pictures they should be like, or a data set's name.",
                   max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    model: Annotated[
        str, about("Model", "A picture model that paints the prompts; instead of a folder.", refers="image",
                   max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    prompts: Annotated[_Prompts, about("Prompts", "What is painted and judged; one a line.", max_length=1000)] = ()
    encoder: Annotated[
        str, about("Judge", "A CLIP or Inception model of one's own (a folder), for FID, KID and CLIP score.",
                   max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    classifier: Annotated[
        str, about("Classifier", "One trained here on rendered pictures, for how well prompts are followed.",
                   max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    resamples: _Resamples = 1000
    seed: Seed = None
    title: str = ""
    made_with: MadeWith | None = None


class EvaluateSpeechRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="evaluate-speech"):
    """Speech measured: what is heard against what was said, loudness, pace and pauses."""

    sounds: Annotated[
        str, about("Sounds", "A folder of sound files with the text beside each (name.txt), or a work's id.",
                   max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    listener: Annotated[
        str, about("Listener", "A Whisper model of one's own (a folder), for word and character errors.",
                   max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    language: Annotated[str, about("Language", "Of the speech, for example en.", max_length=8)] = "en"
    resamples: _Resamples = 1000
    seed: Seed = None
    title: str = ""
    made_with: MadeWith | None = None


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """One hyper-parameter of a search."""

    field: Annotated[str, about("Field", "A field of the training, for example rate.", min_length=1, max_length=40)]
    low: Annotated[float, about("From", "Lowest value.")] = 0.0
    high: Annotated[float, about("To", "Highest value.")] = 0.0
    log: Annotated[bool, about("By factors", "Draw evenly over factors of ten.")] = False
    choices: Annotated[str, about("Or one of", "Values with commas between them.", max_length=400)] = ""


class SearchRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="search"):
    """Trainings with several values of chosen hyper-parameters; the best is kept."""

    training: TrainTextRecipe | TrainImageRecipe
    over: Annotated[tuple[Range, ...], about("Over", "What is varied.", min_length=1, max_length=12)]
    trials: Annotated[int, about("Trials", "How many trainings at most.", ge=1, le=10_000)] = 20
    prune: Annotated[bool, about("Prune", "End trials early that are worse than the middle one.")] = True
    seed: Seed = None
    run: str = ""
    title: str = ""
    made_with: MadeWith | None = None


# -- what is kept of them ----------------------------------------------------------------------------------------------


class Split(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a data set. `tokens`: 0 where none were counted."""

    rows: int = 0
    bytes: int = 0
    words: int = 0
    tokens: int = 0
    sha256: str = ""


class Looked(msgspec.Struct, frozen=True):
    """One file of a preview. `kind`: what it is, in words. `mapping`: which column is what, in words."""

    name: str = ""
    kind: str = ""
    bytes: int = 0
    encoding: str = ""
    columns: tuple[str, ...] = ()
    mapping: str = ""


class Preview(msgspec.Struct, frozen=True):
    """The first rows of sources, before a data set is made of them: what is told to a form.

    Attributes:
        files: those that were looked into. count: of all files; `more` says that there are others beyond.
        columns: all names of columns, for the fields that take one.
        rows: as they would be kept, their texts cut short; “dropped” says why one would not be, and “picture” where its
            picture lies.
    """

    format: str = "studio-preview"
    shape: str = ""
    files: tuple[Looked, ...] = ()
    count: int = 0
    more: bool = False
    bytes: int = 0
    columns: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    left_out: dict[str, int] = {}
    notes: tuple[str, ...] = ()


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """`dataset.json` of a data set: all that is known of it. Its rows are in train.jsonl, valid.jsonl and test.jsonl.

    Rows are JSON objects, one a line: {"text": …}; {"messages": [{"role": …, "content": …}, …]}; or
    {"image": "images/NAME", "text": caption}, with the path relative to the data set's folder.

    Attributes:
        id: its name and the first twelve letters of its checksum. sha256: of the checksums of its files, so that
            equal data have equal checksums.
        dropped: why rows were left out -> how many. notes: in sentences.
        sources: path -> checksum of what it was made of.
        balance: counts of each group's words, and of what stands beside them; see engines/data/balance.py.
        lengths: upper end of a band of characters -> rows. languages: of a sample where none were asked for.
    """

    format: str = "studio-dataset"
    version: int = 1
    id: str
    name: str
    shape: Literal["text", "chat", "captions"]
    sha256: str
    created: str
    splits: dict[str, Split]
    recipe: DatasetRecipe
    dropped: dict[str, int] = {}
    languages: dict[str, int] = {}
    lengths: dict[str, int] = {}
    sources: dict[str, str] = {}
    balance: dict[str, Any] = {}
    samples: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


class Point(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a curve. `values`: "loss", "valid", "rate", "norm", "speed" (tokens or pictures a second)."""

    step: int
    seconds: float
    values: dict[str, float]


class Sampled(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model made of a prompt at some step; before the first it is 0. `image`: a file beside the report."""

    step: int
    prompt: str
    text: str = ""
    image: str = ""


class Made(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model or adapter that a training left, loaded back and tried. `kind`: "adapter", "model", "gguf", …"""

    kind: str
    path: str
    sha256: str = ""
    bytes: int = 0
    checked: str = ""  # what was compared, in a sentence


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """`training.json`: what became of a training."""

    format: str = "studio-training"
    version: int = 1
    run: str
    name: str
    method: str
    base: str = ""
    data: str = ""
    data_sha256: str = ""
    steps: int = 0
    planned: int = 0
    best_step: int = 0
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    curve: tuple[Point, ...] = ()
    samples: tuple[Sampled, ...] = ()
    made: tuple[Made, ...] = ()
    estimate: dict[str, float] = {}  # "seconds", "bytes" as told before the start
    seconds: float = 0.0
    peak_bytes: int = 0
    why: str = ""  # why it ended before its last step
    trials: tuple[dict[str, Any], ...] = ()  # of a search
    importance: dict[str, float] = {}
    notes: tuple[str, ...] = ()


class Measure(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One figure. `low`, `high`: its 95 % interval; `better`: "higher", "lower" or empty."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    of: str = ""  # whose: a model, a file
    n: int = 0
    better: str = ""
    signature: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`report.json`: what an evaluation found. `tables`: title -> rows, the first of them the heads."""

    format: str = "studio-report"
    version: int = 1
    title: str
    created: str
    measures: tuple[Measure, ...] = ()
    tables: dict[str, list[list[str]]] = {}
    plots: dict[str, list[Point]] = {}
    data: str = ""
    data_sha256: str = ""
    seeds: tuple[int, ...] = ()
    versions: dict[str, str] = {}
    settings: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
