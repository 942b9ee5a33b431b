"""Import the notebook's own definitions, without running its experiments."""

import ast
import sys
import types

import nbformat
from build import NOTEBOOK, code_cells


def is_definition(node):
    """True for imports, functions, classes, and constants: assignments to UPPER_CASE names."""
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return bool(names) and all(name.isupper() and len(name) > 1 for name in names)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def load():
    """Return a module that holds the notebook's definitions."""
    module = types.ModuleType("lesson_under_test")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    for code in code_cells(nbformat.read(NOTEBOOK, as_version=4)):
        tree = ast.parse(code.source)
        tree.body = [node for node in tree.body if is_definition(node)]
        exec(compile(tree, f"<cell {code.id}>", "exec"), vars(module))
    return module
