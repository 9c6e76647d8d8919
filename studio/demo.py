"""The demo: one small piece made by all three kinds of model, as a page that can be opened in any browser."""

from __future__ import annotations

import html
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from studio.core.events import Cancelled, Failed
from studio.core.jobs import Job
from studio.core.problems import NotSaved, ProblemRaised, StudioError
from studio.core.works import Work
from studio.show import follow

OPENING = (
    "The moon was lonely. Every night she looked down at the sleeping town and smiled. One evening a little girl "
    "opened her window and"
)
PICTURE = "full moon face, noto style"
SEED = 1


class Stopped(StudioError):
    code = "cancelled"


def run_demo(session: Any, out: Path, *, seed: int | None = None, as_json: bool = False) -> int:
    """Make the piece and write it to `out`: story.md, picture.png, narration.wav, index.html.

    Raises:
        StudioError: something could not be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotSaved(
            f"The folder {out} cannot be made: {error.strerror or error}.", "Choose another --out."
        ) from None
    seed = SEED if seed is None else seed
    began = time.monotonic()
    for kind in ("image", "speech"):
        session.warm(kind)  # both get ready while the text is written
    wanted = {"max_tokens": 120, "seed": seed, "temperature": 0.7, "repeat_penalty": 1.1, "stop": ["\n\n"]}
    text = _made(session, _submit(session, "text", prompt=OPENING, **wanted), as_json)
    story = _whole_sentences(f"{OPENING}{session.path(text).read_text(encoding='utf-8')}")
    # Two lanes at once: the voice reads while the picture is painted.
    jobs = [_submit(session, "image", prompt=PICTURE, seed=seed + 1), _submit(session, "speech", text=story, seed=seed)]
    picture, voice = (_made(session, job, as_json) for job in jobs)

    files = {"story.md": text, "picture.png": picture, "narration.wav": voice}
    for name, work in files.items():
        _export(session, work, out / name)
    page = out / "index.html"
    page.write_text(_page(story, files, time.monotonic() - began), encoding="utf-8")
    if as_json:
        made = {"out": str(out.absolute()), "files": [str((out / n).absolute()) for n in (*files, page.name)]}
        print(msgspec.json.encode({**made, "seconds": {n: w.seconds for n, w in files.items()}}).decode())
        return 0
    print()
    for name, work in files.items():
        print(f"{name:14} {work.seconds:6.1f} s   {(out / name).absolute()}")
    print(f"{'index.html':14} {time.monotonic() - began:6.1f} s   {page.absolute()}   (all of it, with loading)")
    return 0


def _submit(session: Any, kind: str, **given: Any) -> Job:
    job: Job = session.submit(session.recipe(kind, given).recipe)
    return job


def _made(session: Any, job: Job, quiet: bool) -> Work:
    end, streamed = follow(session, job, quiet=quiet)
    if isinstance(end, Failed):
        raise ProblemRaised(end.problem)
    if isinstance(end, Cancelled):
        raise Stopped("Cancelled.")
    if not quiet and not streamed:
        print(f"{job.kind}: made in {end.works[0].seconds:.1f} s", file=sys.stderr)
    return end.works[0]


def _export(session: Any, work: Work, to: Path) -> None:
    end, _ = follow(session, session.export(work.id, to, overwrite=True), quiet=True)
    if isinstance(end, Failed):
        raise ProblemRaised(end.problem)


def _whole_sentences(text: str) -> str:
    """Without the sentence that the token limit cut off, if another one ended before it."""
    end = max(text.rfind(mark) for mark in (". ", "! ", "? ", ".\n", ".”", '."'))
    whole = text.rstrip()
    if whole.endswith((".", "!", "?", "”", '"')) or end < len(OPENING):
        return whole
    return text[: end + 1]


def _page(story: str, files: dict[str, Work], seconds: float) -> str:
    rows = "\n".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(_model(work)))}</td><td>{work.seconds:.1f} s</td></tr>"
        for name, work in files.items()
    )
    links = " · ".join(f'<a href="{name}">{name}</a>' for name in files)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>A piece made on this computer</title>
<style>
  body {{ font: 17px/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; color: #222; }}
  img {{ width: 256px; height: 256px; border-radius: 8px; image-rendering: auto; display: block; margin: 1.5rem 0; }}
  audio {{ width: 100%; }}
  table {{ border-collapse: collapse; font-size: 14px; color: #555; margin-top: 2rem; }}
  td {{ padding: 2px 16px 2px 0; }}
  @media (prefers-color-scheme: dark) {{ body {{ background: #1c1d20; color: #e6e6e6; }} table {{ color: #aaa; }} }}
</style>
<h1>A piece made on this computer</h1>
<img src="picture.png" alt="{html.escape(PICTURE)}">
<audio controls src="narration.wav"></audio>
<p>{html.escape(story).replace(chr(10), "<br>")}</p>
<p>{links}</p>
<table>
{rows}
<tr><td>all of it</td><td>with loading</td><td>{seconds:.1f} s</td></tr>
</table>
</html>
"""


def _model(work: Work) -> str:
    return str(getattr(work.recipe, "model", "") or getattr(work.recipe, "voice", ""))
