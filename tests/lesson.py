"""Import the notebook's own definitions, without running its experiments."""

import ast
import linecache
import sys
import types

import nbformat
from build import NOTEBOOK, code_cells


def is_definition(node):
    """True for imports, functions, classes, and constants: assignments to UPPER_CASE names."""
    if isinstance(node, ast.Assign):
        targets = [part for target in node.targets for part in ast.walk(target)]
        names = [part.id for part in targets if isinstance(part, ast.Name)]
        return bool(names) and all(name.isupper() and len(name) > 1 for name in names)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def load():
    """Return a module that holds the notebook's definitions."""
    module = types.ModuleType("lesson_under_test")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    for code in code_cells(nbformat.read(NOTEBOOK, as_version=4)):
        tree = ast.parse(code.source)
        tree.body = [node for node in tree.body if is_definition(node)]
        name, lines = f"<cell {code.id}>", code.source.splitlines(keepends=True)
        linecache.cache[name] = (len(code.source), None, lines, name)  # for inspect.getsource
        exec(compile(tree, name, "exec"), vars(module))
    return module
