"""Renders chat templates that came with a model, in a process of its own. Knows Jinja; imports nothing of the studio.

A template is a program by a stranger: nested loops and huge strings are easy to write, and the sandbox does not bound
them. So this process has little memory and little processor time, and whoever started it may kill it at any moment.

It says "ready", then answers one line of JSON with one line of JSON, until its input ends:
{"template": …, "variables": {…}} -> {"text": …} or {"error": …}.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_LIMIT = 1 << 30  # bytes of address space; Python and Jinja need about 60 MB of it
CPU_SECONDS = 3  # per template; the parent's clock usually strikes first
TEXT_LIMIT = 4 * 1024 * 1024  # characters; no context window takes more

# What a template can raise by itself. Anything else ends the process, which the parent understands too.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError,
    ValueError,
)  # fmt: skip


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what a trainer should learn; for reading it is just its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **rest: Any) -> str:
    # Jinja's own escapes < > & for HTML, which models have never seen
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **rest)


def render(template: str, variables: dict[str, Any]) -> str:
    """Render as the model's trainers did: the settings are those of transformers' `apply_chat_template`.

    Raises:
        one of _TEMPLATE_ERRORS.
    """
    world = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    world.filters["tojson"] = _tojson
    world.globals["raise_exception"] = _raise
    world.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    text = []
    length = 0
    for piece in world.from_string(template).generate(**variables):
        length += len(piece)
        if length > TEXT_LIMIT:
            _raise(f"the text grows beyond {TEXT_LIMIT:,} characters")
        text.append(piece)
    return "".join(text)


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows: only the parent's clock bounds us
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # whatever gets out of the sandbox can write no file


def _bound_time() -> None:
    """Allow CPU_SECONDS from now: if the parent is gone, nobody else stops an endless template."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_SECONDS, hard))


def main() -> int:
    _bound_memory()
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        _bound_time()
        try:
            asked = json.loads(line)
            answer = {"text": render(asked["template"], asked["variables"])}
        except _TEMPLATE_ERRORS as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        out.write(json.dumps(answer).encode("ascii") + b"\n")
        out.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
