"""The command line: the same Session as the window. Scripts rely on what it prints with --json and on its exit codes.

Exit codes: 0 done · 1 a Problem · 2 the command itself is wrong · 130 cancelled by Ctrl+C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from studio import __version__, figures
from studio.app.home import default_home
from studio.core.events import Cancelled, EndEvent, Failed
from studio.core.grids import Axis, Group, chosen, parse_values
from studio.core.jobs import Job, JobState
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, Problem, StudioError
from studio.core.recipes import RECIPES, WORDS, Field, fields
from studio.core.text import clean
from studio.core.works import Work

VERBS = {
    "text": "text",
    "image": "image",
    "speak": "speech",
    "edit": "edit",
    "upscale": "upscale",
    "cutout": "cutout",
    "data": "dataset",
    "convert": "convert",
}  # the command's word -> kind of work
# the command's two words -> kind of work
PAIRS = {
    "train": {"text": "train-text", "image": "train-image"},
    "evaluate": {"text": "evaluate-text", "image": "evaluate-image", "speech": "evaluate-speech"},
}
FACTOR = 10.0  # from which on a range is searched by factors rather than evenly

EXIT_PROBLEM, EXIT_USAGE, EXIT_CANCELLED = 1, 2, 130


class _Usage(StudioError):
    code = "usage"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as a Problem, so that --json stays JSON."""

    def error(self, message: str) -> NoReturn:
        raise _Usage(f"{message[:1].upper()}{message[1:]}.", f"“{self.prog} --help” shows what it takes.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character shows an escape instead of ending the program.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        options = parser().parse_args(arguments)
        return int(options.run(options))
    except _Usage as error:
        return _complain(error.problem, as_json, EXIT_USAGE)
    except StudioError as error:
        return _complain(error.problem, as_json, EXIT_PROBLEM)
    except BrokenPipeError:
        # Whoever read our output has gone (`studio works | head`); what was begun is done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PROBLEM


def _complain(problem: Problem, as_json: bool, code: int) -> int:
    if as_json:
        print(msgspec.json.encode(problem).decode())
    else:
        print(problem.sentence, file=sys.stderr)
        if problem.hint:
            print(problem.hint, file=sys.stderr)
    return code


# -- what it takes -----------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The whole command line; flags of the three verbs come from the recipes' declarations."""
    top = _Parser(prog="studio", description="Write, paint and speak with models on this computer.")
    top.add_argument("--version", action="version", version=f"studio {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    _command(commands, "window", "open the window, as no command does", _window)
    about = {
        "text": "write a text", "image": "paint a picture", "speak": "read a text aloud",
        "edit": "cut, turn, resize or recolour a picture", "upscale": "enlarge a picture",
        "cutout": "make a picture's background transparent", "data": "make a data set of files and folders",
        "convert": "write a text model, with its LoRAs, as another file",
    }  # fmt: skip
    for verb, kind in VERBS.items():
        sub = _command(commands, verb, about[verb], _make)
        sub.set_defaults(kind=kind)
        _add_fields(sub, kind)

    pairs = {"train": "make a model one's own", "evaluate": "measure what models make"}
    what = {"text": "texts", "image": "pictures", "speech": "speech"}
    for verb, kinds in PAIRS.items():
        both = commands.add_parser(verb, help=pairs[verb], description=pairs[verb][:1].upper() + pairs[verb][1:] + ".")
        inner = both.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=_Parser)
        for word, kind in kinds.items():
            sub = _command(inner, word, f"{pairs[verb]}: {what[word]}", _make)
            sub.set_defaults(kind=kind)
            _add_fields(sub, kind)

    both = commands.add_parser("search", help="find what trains best", description="Find what trains best.")
    inner = both.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=_Parser)
    for word, kind in PAIRS["train"].items():
        sub = _command(inner, word, f"train {what[word]} with several settings and keep the best", _search)
        sub.set_defaults(kind=kind)
        sub.add_argument("--over", action="append", required=True, metavar="FIELD=VALUES", type=_range,
                         help="what is varied, “rate=1e-5..1e-3” or “rank=4, 8, 16”; may be given several times. A "
                              "range over a factor of ten or more is searched by factors.")  # fmt: skip
        for name in ("trials", "prune"):
            _add_field(sub, next(field for field in fields(RECIPES["search"]) if field.name == name))
        _add_fields(sub, kind)

    sub = _command(commands, "datasets", "list data sets, newest first", _datasets)
    sub.add_argument("--remove", metavar="ID", help="delete a data set, for good")

    sub = _command(commands, "grid", "paint variations side by side, and a labelled sheet of them", _grid)
    sub.set_defaults(kind="image")
    example = "what changes {}, for example “steps=10, 20, 30”, “guidance=3-9 (+3)”, “scheduler=ddim, euler a”"
    sub.add_argument("--x", required=True, metavar="FIELD=VALUES", help=example.replace("{}", "from left to right"))
    sub.add_argument("--y", metavar="FIELD=VALUES", help="what changes from top to bottom")
    sub.add_argument("--z", metavar="FIELD=VALUES", help="what changes from block to block")
    sub.add_argument("--ground", choices=("light", "dark"), default="light", help="ground of the sheet (%(default)s)")
    _add_fields(sub, "image")

    sub = _command(commands, "redo", "make a work again, the same", _redo)
    sub.add_argument("id", help="the work's id, or the beginning of it")

    sub = _command(commands, "export", "write a work to a file; the ending decides the format", _export)
    sub.add_argument("id", help="the work's id, or the beginning of it")
    sub.add_argument("--to", required=True, metavar="FILE", help="for example story.md, picture.webp, voice.mp3")
    for field in fields(RECIPES["export"]):
        _add_field(sub, field)

    sub = _command(commands, "jobs", "list jobs, newest first", _jobs)
    sub.add_argument("--limit", type=int, default=50, help="how many (%(default)s)")
    sub.add_argument("--retry", metavar="ID", help="run an ended job once more")
    sub.add_argument("--cancel", metavar="ID", help="cancel a waiting job")
    sub.add_argument("--run", action="store_true", dest="run_waiting", help="run what still waits from earlier")

    sub = _command(commands, "works", "list works, newest first", _works)
    sub.add_argument("--limit", type=int, default=50, help="how many (%(default)s)")
    sub.add_argument("--kind", choices=sorted(WORDS), default="", help="only this kind")
    sub.add_argument("--remove", metavar="ID", help="put a work into the bin; its files stay until that is emptied")
    sub.add_argument("--restore", metavar="ID", help="take a work out of the bin")
    sub.add_argument("--bin", action="store_true", help="list what is in the bin")
    sub.add_argument("--empty-bin", action="store_true", help="delete what is in the bin, for good")

    sub = _command(commands, "models", "list models", _models)
    sub.add_argument("--add", metavar="PATH", help="remember a model file or folder")

    sub = _command(commands, "doctor", "look whether all is well", _doctor)
    sub.add_argument("--rebuild", action="store_true", help="bring works back whose database entry is lost")
    sub.add_argument(
        "--restore",
        action="store_true",
        help="bring back a library whose database is damaged, from backups and sidecar files; close the studio first",
    )

    sub = _command(commands, "demo", "make one piece: a text, a picture of it, and a narration", _demo)
    sub.add_argument("--out", metavar="DIR", default="demo-output", help="where to put it (%(default)s)")
    sub.add_argument("--seed", type=int, default=None, help="start of the random numbers")
    return top


def _command(commands: Any, name: str, help: str, run: Any) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help[:1].upper() + help[1:] + ".")
    sub.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    sub.set_defaults(run=run)
    return sub


def _add_fields(sub: argparse.ArgumentParser, kind: str) -> None:
    words = WORDS.get(kind, "")
    for field in fields(RECIPES[kind]):
        if field.required and field.type == "strings":
            sub.add_argument(field.name, metavar="PATH", nargs="+", help=field.help)
        elif field.required and field.refers == "picture":
            sub.add_argument(field.name, metavar="PICTURE", help=f"{field.help}")
        elif field.name == words:
            sub.add_argument("words", metavar=words.upper(), nargs="?", help=f"{field.help} “-” reads standard input.")
            sub.add_argument(f"--{words}-file", dest="words_file", metavar="FILE", help="read it from a text file")
        else:
            _add_field(sub, field)
    if kind == "speech":
        sub.add_argument("--model", dest="voice", help=argparse.SUPPRESS)


def _add_field(sub: argparse.ArgumentParser, field: Field) -> None:
    flag = "--" + field.name.replace("_", "-")
    names = [flag] if flag == f"--{field.name}" else [flag, f"--{field.name}"]
    default = "" if field.default in (None, "", ()) else f" ({field.default})"
    unit = f" [{field.unit}]" if field.unit else ""
    help = f"{field.help}{unit}{default}".replace("%", "%%")
    common: dict[str, Any] = {"dest": field.name, "default": None, "help": help}
    if field.type == "bool" and field.default:
        sub.add_argument(*names, action=argparse.BooleanOptionalAction, **common)
    elif field.type == "bool":
        sub.add_argument(*names, action="store_true", **common)
    elif field.type == "strings":
        sub.add_argument(*names, action="append", metavar="STRING", **common)
    elif field.type == "choices":
        sub.add_argument(
            *names,
            type=lambda text: [part.strip() for part in text.split(",") if part.strip()],
            metavar=",".join(field.choices[:3]) + ",…",
            **common,
        )
    elif field.type == "choice":
        sub.add_argument(*names, choices=field.choices, **common)
    elif field.type == "structs" and field.item is not None:
        parts = [f.name for f in fields(field.item)] or [f.name for f in msgspec.structs.fields(field.item)]
        form = "=…,".join(parts) + "=…"
        sub.add_argument(*names, action="append", type=_parts_of(parts), metavar=form, **common)
    elif field.type == "struct" and field.item is not None:
        parts = [f.name for f in fields(field.item)]
        sub.add_argument(*names, type=_parts_of(parts), metavar="=…,".join(parts) + "=…", **common)
    elif field.type == "other":
        sub.add_argument(*names, type=_json_value, metavar="JSON", **common)
    else:
        sub.add_argument(*names, type={"int": _whole, "float": _number}.get(field.type, str), **common)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"“{text[:40]}” is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"“{text[:40]}” is not a number") from None


def _parts_of(parts: list[str]) -> Callable[[str], Any]:
    """Reads “model=soft,weight=0.7”, “soft,0.7” in the order of declaration, or JSON."""

    def read(text: str) -> Any:
        if text.lstrip().startswith(("{", "[")):
            return _json_value(text)
        found: dict[str, Any] = {}
        for at, piece in enumerate(text.split(",")):
            name, equals, value = piece.partition("=")
            if not equals and at >= len(parts):
                raise argparse.ArgumentTypeError(f"“{text[:60]}” has more parts than {', '.join(parts)}")
            name, value = (name.strip(), value) if equals else (parts[at], name)
            found[name] = _plain_value(value.strip())
        return found

    return read


def _plain_value(text: str) -> Any:
    """A number where it is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _json_value(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None


def _given(options: argparse.Namespace) -> dict[str, Any]:
    kind = options.kind
    words = WORDS.get(kind, "")
    given = {f.name: getattr(options, f.name, None) for f in fields(RECIPES[kind]) if f.name != words}
    if words:
        given[words] = _words(options)
    return {name: value for name, value in given.items() if value is not None}


def _words(options: argparse.Namespace) -> str:
    if options.words_file:
        try:
            return Path(options.words_file).read_bytes().decode("utf-8-sig", "surrogateescape")
        except OSError as error:
            raise BadRecipe(f"Could not read {options.words_file}: {error.strerror or error}.") from None
    if options.words == "-":
        return sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape")
    return options.words or ""


# -- what it does ------------------------------------------------------------------------------------------------------


def _session(**options: Any) -> Any:
    from studio.app.session import Session

    session = Session(Paths(default_home()), **options)
    for sentence in (session.read_only, session.note):
        if sentence:
            print(sentence, file=sys.stderr)
    return session


def _window(options: argparse.Namespace) -> int:
    raise _Usage("“window” takes nothing else with it.")  # alone it never comes here: the program opens the window


def _make(options: argparse.Namespace) -> int:
    with _session() as session:
        checked = session.recipe(options.kind, _given(options))
        job = session.submit(checked.recipe, notes=checked.notes)
        return _follow(session, job, options.json)


def _search(options: argparse.Namespace) -> int:
    given: dict[str, Any] = {"training": {"kind": options.kind, **_given(options)}, "over": options.over}
    given |= {name: value for name in ("trials", "prune", "seed") if (value := getattr(options, name)) is not None}
    with _session() as session:
        checked = session.recipe("search", given)
        return _follow(session, session.submit(checked.recipe, notes=checked.notes), options.json)


def _range(text: str) -> dict[str, Any]:
    """Reads “rate=1e-5..1e-3” or “rank=4, 8, 16” as a core.learning.Range."""
    field, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not field or not values:
        raise argparse.ArgumentTypeError(f"“{text[:60]}” names no values; write FIELD=VALUES, such as rate=1e-5..1e-3")
    field = field.lstrip("-").replace("-", "_")
    first, dots, last = values.partition("..")
    if not dots:
        return {"field": field, "choices": values}
    low, high = _number(first), _number(last)
    return {"field": field, "low": low, "high": high, "log": low > 0 and high / low >= FACTOR}


def _grid(options: argparse.Namespace) -> int:
    axes = [_axis(text) for text in (options.x, options.y, options.z)]
    with _session() as session:
        checked = session.recipe("image", _given(options))
        group = session.grid(checked.recipe, *axes, ground=options.ground)
        return _report_group(session, _follow_group(session, group, options.json), options.json)


def _axis(text: str | None) -> Axis | None:
    if text is None:
        return None
    field, equals, values = text.partition("=")
    if not equals:
        raise _Usage(f"“{text[:40]}” names no values.", "Write it as FIELD=VALUES, for example “steps=10, 20, 30”.")
    return Axis(chosen(field).name, parse_values(field, values))


def _follow_group(session: Any, group: Group, quiet: bool) -> Group:
    """Wait for a grid. Ctrl+C (or a polite kill) cancels it as a whole, and what was made by then gets its sheet."""
    asked, told = threading.Event(), False
    draw = not quiet and sys.stderr.isatty()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # whoever called this waits for an exit code, not for room on a disk: the next start goes on with it
        while group.state in ("making", "sheet") and session.problem is None:
            if asked.is_set() and not told:
                told = True
                session.cancel_group(group.id)
            if draw:
                now = "cancelling …" if told else f"picture {min(group.ended + 1, len(group.jobs))}/{len(group.jobs)}"
                print(f"\r\x1b[2K{'the sheet' if group.state == 'sheet' else now}", end="", file=sys.stderr, flush=True)
            group = session.wait_group(group.id, 0.2)
        return group
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if draw:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def _report_group(session: Any, group: Group, as_json: bool) -> int:
    jobs = session.jobs_of(group.jobs)
    failed = [job.problem for job in jobs if job.problem is not None]
    if group.state == "making" or group.state == "sheet":
        waits = Problem("not_saved", "Not all of it could be saved yet.", "Make room; “studio jobs --run” goes on.")
        return _complain(session.problem or waits, as_json, EXIT_PROBLEM)
    works = [work for job in jobs for work in session.works_of(job.id)]
    sheet = next(iter(session.works_of(group.sheet)), None) if group.sheet else None
    if sheet is None and group.state != "cancelled":
        problem = failed[0] if failed else Problem("failed", "No sheet could be made.")
        return _complain(problem, as_json, EXIT_PROBLEM)
    if as_json and sheet is not None:
        made = {
            "group": group.id, "state": group.state, "sheet": _describe(session, sheet),
            "works": [_describe(session, work) for work in works],
            "problems": [msgspec.to_builtins(problem) for problem in failed],
        }  # fmt: skip
        print(msgspec.json.encode(made).decode())
    elif sheet is not None:
        for work in works:
            print(f"{work.id}  {session.path(work)}")
        print(f"{sheet.id}  {session.path(sheet)}")
        for problem in failed:
            print(problem.sentence, file=sys.stderr)
    if any(job.state is JobState.CANCELLED for job in jobs) or group.state == "cancelled":
        kept = f" {len(works)} finished before that and are kept." if works else ""
        problem = Problem("cancelled", f"Cancelled.{kept}")
        return EXIT_CANCELLED if as_json and sheet is not None else _complain(problem, as_json, EXIT_CANCELLED)
    return 0


def _redo(options: argparse.Namespace) -> int:
    with _session() as session:
        return _follow(session, session.redo(options.id), options.json)


def _export(options: argparse.Namespace) -> int:
    with _session() as session:
        more = {} if options.quality is None else {"quality": options.quality}
        job = session.export(
            options.id,
            Path(options.to),
            overwrite=bool(options.overwrite),
            metadata=options.metadata is not False,
            **more,
        )
        return _follow(session, job, options.json)


def _follow(session: Any, job: Job, as_json: bool) -> int:
    from studio.show import follow

    end, streamed = follow(session, job, quiet=as_json)
    return _report(session, job, end, as_json, streamed=streamed)


def _report(session: Any, job: Job, end: EndEvent, as_json: bool, *, streamed: bool) -> int:
    if isinstance(end, Failed):
        return _complain(end.problem, as_json, EXIT_PROBLEM)
    if isinstance(end, Cancelled):
        kept = f" {len(end.works)} finished before that and are kept." if end.works else ""
        return _complain(Problem("cancelled", f"Cancelled.{kept}"), as_json, EXIT_CANCELLED)
    if as_json:
        works = [_describe(session, work) for work in end.works]
        made = {"job": job.id, "works": works, "notes": list(end.notes)}
        if end.files:
            made["files"] = list(end.files)
        print(msgspec.json.encode(made).decode())
        return 0
    for work in end.works:
        if work.kind == "text" and not streamed:
            text = session.path(work).read_text(encoding="utf-8")
            # a model must not drive the terminal; in a pipe every character counts
            print(clean(text)[0] if sys.stdout.isatty() else text)
        for line in figures.lines(work.kind, session.path(work)):
            print(line)
        print(f"{work.id}  {session.path(work)}", file=sys.stderr if work.kind == "text" else sys.stdout)
    for file in end.files:
        print(file)
    for note in end.notes:
        print(note, file=sys.stderr)
    return 0


def _describe(session: Any, work: Work) -> dict[str, Any]:
    """A work as scripts see it; keep it stable."""
    return {
        "id": work.id,
        "kind": work.kind,
        "title": work.title,
        "created": work.created,
        "files": [str(path) for path in session.files(work)],
        "recipe": msgspec.to_builtins(work.recipe),
        "meta": work.meta,
        "notes": list(work.notes),
        "seconds": work.seconds,
        "complete": work.complete,
        "job": work.job,
    }


def _jobs(options: argparse.Namespace) -> int:
    with _session(resume=options.run_waiting) as session:
        if options.retry:
            return _follow(session, session.retry(options.retry), options.json)
        if options.cancel:
            session.cancel(options.cancel)
        if options.run_waiting:
            for job_id in session.mine():
                session.wait(job_id)
            for group_id in session.my_groups():
                session.wait_group(group_id)
        jobs = session.jobs(limit=max(1, options.limit))
        if options.json:
            print(msgspec.json.encode({"jobs": [_describe_job(job) for job in jobs]}).decode())
            return 0
        for job in jobs:
            why = f"  {job.problem.sentence}" if job.problem else ""
            print(f"{job.id}  {job.created[:19].replace('T', ' ')}  {job.kind:7} {job.state:9}{why}")
        if not jobs:
            print('There are no jobs yet. “studio text "Once upon a time"” makes one.')
        return 0


def _describe_job(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(job)
    return {**found, "kind": job.kind}


def _works(options: argparse.Namespace) -> int:
    with _session() as session:
        if options.remove:
            session.remove(options.remove)
        if options.restore:
            session.restore(options.restore)
        if options.empty_bin:
            session.empty_bin()
        works = session.bin() if options.bin else session.works(limit=max(1, options.limit), kind=options.kind)
        if options.json:
            print(msgspec.json.encode({"works": [_describe(session, work) for work in works]}).decode())
            return 0
        from studio.core.text import shown

        for work in works:
            print(f"{work.id}  {work.created[:19].replace('T', ' ')}  {work.kind:7} {shown(work.title)}")
        if not works:
            print('There are no works yet. “studio text "Once upon a time"” makes one.')
        return 0


def _models(options: argparse.Namespace) -> int:
    with _session() as session:
        if options.add:
            session.add_model(Path(options.add))
        cards, broken = session.models(), session.broken_models()
        if options.json:
            listed = {
                "models": msgspec.to_builtins(cards),
                "broken": [{"path": str(path), **msgspec.to_builtins(problem)} for path, problem in broken],
            }
            print(msgspec.json.encode(listed).decode())
            return 0
        from studio.core.text import shown

        for card in cards:
            licence = f", {card.licence}" if card.licence else ""
            print(f"{card.id:28} {card.kind:7} {shown(card.name)} ({card.family or card.format}{licence})")
        for _, problem in broken:
            print(f"{problem.sentence} {problem.hint}", file=sys.stderr)
        return 0


def _datasets(options: argparse.Namespace) -> int:
    from studio.core.text import shown

    with _session() as session:
        if options.remove:
            session.remove_dataset(session.dataset(options.remove).id)
        found = session.datasets()
        if options.json:
            print(msgspec.json.encode({"datasets": found}).decode())
            return 0
        for each in found:
            rows = ", ".join(f"{split.rows:,} {name}" for name, split in each.splits.items() if split.rows)
            print(f"{each.id:32} {each.shape:8} {rows}  {shown(each.name)}")
        if not found:
            print("There are no data sets yet. “studio data FILE” makes one.")
        return 0


def _doctor(options: argparse.Namespace) -> int:
    from studio.app.doctor import examine
    from studio.app.session import restore_library

    restored = restore_library(Paths(default_home())) if options.restore else ""
    with _session() as session:
        rebuilt = session.rebuild().works if options.rebuild else ()
        findings = examine(session)
        if options.json:
            told = {"findings": findings, "rebuilt": rebuilt, "restored": restored}
            print(msgspec.json.encode(told).decode())
        else:
            for finding in findings:
                print(f"{'ok  ' if finding.good else 'look'}  {finding.about}: {finding.sentence}")
            if restored:
                print(restored)
            if options.rebuild:
                print(f"{len(rebuilt)} works were brought back from their sidecar files.")
        return 0 if all(f.good for f in findings) else EXIT_PROBLEM


def _demo(options: argparse.Namespace) -> int:
    from studio.demo import run_demo

    with _session() as session:
        return run_demo(session, Path(options.out), seed=options.seed, as_json=options.json)
