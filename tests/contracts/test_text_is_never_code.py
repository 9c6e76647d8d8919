"""Text from people, models and files is data: nothing in the source reads it as a format, a program or markup.

A rule looks at the syntax tree, so words in comments and sentences are not taken for calls. Each rule is shown to find
what it forbids.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "studio").rglob("*.py"))

# Loading any of these can run what is in a file.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "imp", "code"}
UNSAFE_CALLS = {"eval", "exec", "compile", "execfile"}
UNSAFE_METHODS = {
    ("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput"),
    ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("string", "Formatter"), ("string", "Template"),
    ("builtins", "eval"), ("builtins", "exec"),
}  # fmt: skip
# json.format and the like lay out data; they are functions of modules, not formats of texts
LAYOUTS = {"msgspec.json"}

# Widgets that take text for HTML when it looks like that, and the calls that do.
RICH_WIDGETS = {
    "QLabel", "QMessageBox", "QErrorMessage", "QInputDialog", "QProgressDialog", "QTextEdit", "QTextBrowser",
    "QTextDocument", "QStaticText", "QGraphicsTextItem", "QSplashScreen", "QWhatsThis", "QWizard", "QWizardPage",
}  # fmt: skip
RICH_CALLS = {"setHtml", "appendHtml", "insertHtml", "setMarkdown", "setWhatsThis", "setInformativeText"}
PLAIN_WIDGETS = ROOT / "studio" / "ui" / "widgets.py"  # the one place where a QLabel is told to be plain


def name_of(node: ast.AST) -> str:
    """`a.b.c` as it is written; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = name_of(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def is_text(node: ast.AST) -> bool:
    """A text that stands in the source, also one put together of several such."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return is_text(node.left) and is_text(node.right)
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == name), None)


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def sins(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and reason for everything that could read text as a format or a program."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                if module.partition(".")[0] in UNSAFE_MODULES:
                    yield node.lineno, f"import of {module}"
            if isinstance(node, ast.ImportFrom):
                for imported in node.names:
                    if (node.module, imported.name) in UNSAFE_METHODS:
                        yield node.lineno, f"import of {node.module}.{imported.name}"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            # a number may be divided by a number; a text on the right, or several values, is a format
            several = isinstance(node.right, ast.Tuple | ast.Dict | ast.JoinedStr) or is_text(node.right)
            if isinstance(node.left, ast.JoinedStr) or (several and not is_text(node.left)):
                yield node.lineno, "% on a text that does not stand here"
        elif isinstance(node, ast.Call):
            yield from sins_of_a_call(node)


def sins_of_a_call(call: ast.Call) -> Iterator[tuple[int, str]]:
    name = name_of(call.func)
    module, _, last = name.rpartition(".")
    if isinstance(call.func, ast.Name) and name in UNSAFE_CALLS:
        yield call.lineno, name
    if (module, last) in UNSAFE_METHODS:
        yield call.lineno, name
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    given = bool(call.args or call.keywords)  # a picture's format() takes nothing, and a text's does nothing without
    laid_out = method in ("format", "format_map", "vformat") and module not in LAYOUTS
    if given and laid_out and not is_text(call.func.value):  # type: ignore[attr-defined]
        yield call.lineno, f".{method} of a text that does not stand here"
    if is_true(keyword(call, "shell")):
        yield call.lineno, "shell=True"
    if is_true(keyword(call, "allow_pickle")):
        yield call.lineno, "allow_pickle=True"
    if is_true(keyword(call, "trust_remote_code")):
        yield call.lineno, "trust_remote_code=True"
    if name == "torch.load" and not is_true(keyword(call, "weights_only")):
        yield call.lineno, "torch.load without weights_only=True"


def markups(tree: ast.AST, plain: bool = False) -> Iterator[tuple[int, str]]:
    """Line and reason for everything in the window that could take text for markup.

    Args:
        plain: this is the module that makes labels plain.
    """
    tips = {"as_tip", *(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and gives_tips(node))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = name_of(node.func)
            last = name.rpartition(".")[2] or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
            if last in RICH_WIDGETS:
                yield node.lineno, f"{last} made here"
            if last in RICH_CALLS:
                yield node.lineno, last
            if last == "setTextFormat" and [name_of(a) for a in node.args] != ["Qt.TextFormat.PlainText"]:
                yield node.lineno, "a text format other than plain"
            if name == "QToolTip.showText" and not any(is_tip(a, tips) for a in node.args[1:2]):
                yield node.lineno, "a tooltip that did not go through as_tip"
        elif isinstance(node, ast.ClassDef) and not (plain and node.name == "Label"):
            for base in node.bases:
                if name_of(base).rpartition(".")[2] in RICH_WIDGETS:
                    yield node.lineno, f"{node.name} is a {name_of(base)}"
        elif isinstance(node, ast.Attribute) and node.attr in ("RichText", "MarkdownText", "AutoText"):
            yield node.lineno, node.attr


def is_tip(node: ast.AST, tips: set[str]) -> bool:
    """What went through as_tip, or is a text of our own."""
    return is_text(node) or (isinstance(node, ast.Call) and name_of(node.func).rpartition(".")[2] in tips)


def gives_tips(function: ast.FunctionDef) -> bool:
    """A function all of whose results went through as_tip."""
    results = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None]
    return bool(results) and all(is_tip(result, {"as_tip"}) for result in results)


def test_no_text_is_read_as_a_format_or_a_program() -> None:
    assert len(SOURCES) > 100
    found = [
        f"{p.relative_to(ROOT)}:{line}: {why}" for p in SOURCES for line, why in sins(ast.parse(p.read_text("utf-8")))
    ]
    assert not found, found


def test_no_text_of_the_window_is_taken_for_markup() -> None:
    window = [path for path in SOURCES if "ui" in path.parts]
    assert PLAIN_WIDGETS in window
    found = [
        f"{path.relative_to(ROOT)}:{line}: {why}"
        for path in window
        for line, why in markups(ast.parse(path.read_text("utf-8")), path == PLAIN_WIDGETS)
    ]
    assert not found, found


def test_the_one_label_of_the_window_is_told_to_be_plain() -> None:
    label = next(
        node for node in ast.parse(PLAIN_WIDGETS.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == "Label"
    )  # fmt: skip
    said = [name_of(c.args[0]) for c in ast.walk(label)
            if isinstance(c, ast.Call) and name_of(c.func) == "self.setTextFormat"]  # fmt: skip
    assert said == ["Qt.TextFormat.PlainText"]


def test_templates_are_read_in_one_file_only_which_runs_in_a_process_of_its_own_with_limits() -> None:
    readers = [
        path.relative_to(ROOT).as_posix() for path in SOURCES
        if any(
            (isinstance(n, ast.Import) and any(a.name.partition(".")[0] == "jinja2" for a in n.names))
            or (isinstance(n, ast.ImportFrom) and (n.module or "").partition(".")[0] == "jinja2")
            for n in ast.walk(ast.parse(path.read_text("utf-8")))
        )
    ]  # fmt: skip
    assert readers == ["studio/engines/text/render_template.py"]
    source = (ROOT / readers[0]).read_text("utf-8")
    assert "ImmutableSandboxedEnvironment(" in source and "jinja2.Environment(" not in source


@pytest.mark.parametrize(
    "line",
    [
        "said.format(name)", "tr('x').format(name)", "f'{x}'.format(y)", "texts['a'].format_map(values)",
        "said % (a, b)", "said % {'a': 1}", "f'{x}' % y", "said % 'a'", "eval(text)", "exec(text)",
        "compile(text, '', 'exec')", "import pickle", "from pickle import loads", "import marshal", "import shelve",
        "yaml.load(stream)", "torch.load(path)", "torch.load(path, weights_only=False)", "os.system(text)",
        "from os import system", "subprocess.run(text, shell=True)", "numpy.load(path, allow_pickle=True)",
        "Model.from_pretrained(path, trust_remote_code=True)", "string.Formatter().vformat(text, a, b)",
        "def late():\n    import dill",
    ],
)  # fmt: skip
def test_each_forbidden_way_is_found(line: str) -> None:
    assert list(sins(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "'{} of {}'.format(a, b)", "'%s' % (a,)", "'%d ' 'of %d' % (a, b)", "('a %s ' + 'b') % (x,)", "size % 2",
        "number % len(texts)", "f'{x:>{width}}'", "msgspec.json.format(data, indent=1)", "re.compile(text)",
        "torch.load(path, weights_only=True)", "picture.format == 'PNG'", "image.format()", "format(number, ',')",
        "subprocess.run([program, text])",
    ],
)  # fmt: skip
def test_what_is_harmless_is_left_alone(line: str) -> None:
    assert not list(sins(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "def tip(x):\n    return x\nQToolTip.showText(at, self.tip(x))", "QLabel(text)",
        "QtWidgets.QLabel()", "QMessageBox.critical(a, b, c); QMessageBox(a)", "label.setHtml(text)",
        "label.setTextFormat(Qt.TextFormat.RichText)", "label.setTextFormat(kind)", "class Mine(QLabel): pass",
        "QStaticText(text)", "QToolTip.showText(at, text)", "Qt.TextFormat.AutoText", "QTextEdit(text)",
    ],
)  # fmt: skip
def test_each_way_to_markup_is_found(line: str) -> None:
    assert list(markups(ast.parse(line)))
