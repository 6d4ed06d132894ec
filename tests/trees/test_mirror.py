"""The two trees mirror each other: the same files, public names and signatures, read from the source.

`forward` in PyTorch is `execute` in Jittor. Annotations may differ, since each tree names its own framework's types;
so may CONSTANTS and what begins with an underscore.
"""

import ast

import pytest

from helpers import ROOT

TREES = ("liif_torch", "liif_jittor")
ALIASES = {"execute": "forward"}


def files(tree: str) -> list[str]:
    found = (path.relative_to(ROOT / tree) for path in (ROOT / tree).rglob("*.py"))
    return sorted(str(path) for path in found)


def signature(function: ast.FunctionDef) -> str:
    """Names, order, defaults and kinds of the arguments, without annotations."""
    arguments = ast.parse(ast.unparse(function.args).join(["def f(", "): pass"])).body[0].args
    for node in ast.walk(arguments):
        if isinstance(node, ast.arg):
            node.annotation = None
    decorators = sorted(ast.unparse(d) for d in function.decorator_list if is_shared(d))
    return f"{' '.join(decorators)} ({ast.unparse(arguments)})".strip()


def is_shared(decorator: ast.expr) -> bool:
    """Decorators that change what a caller sees or what a config names; torch.no_grad and its like do not."""
    text = ast.unparse(decorator)
    return ".register(" in text or text in ("property", "staticmethod", "classmethod")


def public(body: list[ast.stmt]) -> dict[str, object]:
    """Name -> signature of a function, the public names of a class, a mark for a variable such as a registry."""
    names: dict[str, object] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef) and is_public(node.name):
            names[ALIASES.get(node.name, node.name)] = signature(node)
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            registered = sorted(ast.unparse(d) for d in node.decorator_list if is_shared(d))
            names[node.name] = {"": registered, **public(node.body)}
        elif isinstance(node, ast.Assign):
            names |= {t.id: "variable" for t in node.targets if isinstance(t, ast.Name) and t.id.islower()}
    return names


def is_public(name: str) -> bool:
    return name == "__init__" or not name.startswith("_")


def interface(source: str) -> dict[str, object]:
    return public(ast.parse(source).body)


def test_both_trees_hold_the_same_files():
    assert files(TREES[0]) == files(TREES[1])
    assert {"engine.py", "models/decoders/liif.py", "datasets/__init__.py"} <= set(files(TREES[0]))


@pytest.mark.parametrize("file", files(TREES[0]))
def test_both_files_hold_the_same_names_and_signatures(file):
    torch_source, jittor_source = ((ROOT / tree / file).read_text() for tree in TREES)
    assert interface(jittor_source) == interface(torch_source)


@pytest.mark.parametrize("file", files(TREES[0]))
@pytest.mark.parametrize("tree", TREES)
def test_a_tree_does_not_import_the_other(tree, file):
    other = {"liif_torch": {"liif_jittor", "jittor"}, "liif_jittor": {"liif_torch", "torch"}}[tree]
    for node in ast.walk(ast.parse((ROOT / tree / file).read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not other & {name.split(".")[0] for name in names}


# The comparison itself: what it must notice and what it must let pass.

MODULE = """
@models.register("m")
class Model(Base):
    def __init__(self, width: int, depth=2): ...
    def forward(self, x: Tensor, *, y: int = 1) -> Tensor: ...
    def _own(self): ...

def make(a, b="x"): ...
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("depth=2", "depth=3"),
        ("width: int, depth", "breadth: int, depth"),
        ("width: int, depth=2", "depth, width=2"),
        ("*, y", "y"),
        ("def forward", "def call"),
        ("class Model", "class Net"),
        ('register("m")', 'register("n")'),
        ('def make(a, b="x")', "def make(a)"),
        ("def make", "registry = 3\ndef make"),
    ],
)
def test_a_difference_is_noticed(before, after):
    assert before in MODULE
    assert interface(MODULE.replace(before, after)) != interface(MODULE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def forward", "def execute"),
        ("x: Tensor", "x: jt.Var"),
        ("-> Tensor", "-> jt.Var"),
        ("(Base)", "(jt.nn.Module)"),
        ("_own", "_mine"),
        ("    def forward", "    @no_grad()\n    def forward"),
        ("def make", '"""Text."""\nLIMIT = 3\ndef make'),
    ],
)
def test_a_frameworks_own_way_is_let_pass(before, after):
    assert before in MODULE
    assert interface(MODULE.replace(before, after)) == interface(MODULE)
