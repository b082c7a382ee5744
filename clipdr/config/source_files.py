"""Source files behind a command of the command line: the code that a Snakemake rule names as an input.

Snakemake does not see an edit of an imported module, so a rule lists the files that its command runs. `code` computes
the list: it finds the command's function in `clipdr/cli/`, takes the imports in its body, and follows the imports of
every file found, also those inside functions. Imports neither torch nor pandas.
"""

import ast
import os
from functools import cache
from pathlib import Path

from clipdr import DataError

PACKAGE = Path(__file__).parents[1]
GROUPS = (
    "pretrain",
    "multimodal",
)  # modules of clipdr/cli/ whose commands form a group: `clipdr pretrain train`
# Atomic writes and hashes: no number depends on them, so an edit there reruns nothing.
UNCOUNTED = frozenset({"artifacts/files.py", "artifacts/receipts.py"})


def code(command: str, *modules: str) -> list[str]:
    """List the source files that a command runs.

    Args:
        command: As on the command line, for example "train" or "pretrain train".
        *modules: Further modules below the package that the command imports by name at run time, for example
            "methods/clip_dr". Their imports count too.

    Returns:
        Paths of Python files, sorted: relative to the working directory where the package lies below it, else absolute.

    Raises:
        DataError: If there is no such command or module.
    """
    found = closure(
        frozenset(command_imports(PACKAGE, command) | {_existing(module) for module in modules}),
        PACKAGE,
    )
    return [package_file(file) for file in sorted(found)]


def package_file(name: str) -> str:
    """Path of a file of the package, given below it; see `project_file`."""
    return project_file(f"{PACKAGE.name}/{name}")


def project_file(name: str) -> str:
    """Path of a file of the repository, given below its root.

    Returns:
        The path relative to the working directory where the repository lies there or below, so that a clone may be
        moved with its results; else the absolute path.
    """
    root = PACKAGE.parent
    return str(
        (Path(os.path.relpath(root)) if Path.cwd() in (root, *root.parents) else root) / name
    )


@cache
def closure(files: frozenset[str], package: Path = PACKAGE) -> frozenset[str]:
    """Close a set of files over the package's imports.

    Args:
        files: Paths below the package.
        package: Folder of the package.

    Returns:
        The files and all files of the package behind them, without `UNCOUNTED` and `__init__.py`. A package stands for
        the modules that are imported from it by name, not for all of its modules.
    """
    found: set[str] = set()
    todo = sorted(files)
    while todo:
        file = todo.pop()
        if file not in found and file not in UNCOUNTED:
            found.add(file)
            todo += file_imports(package, file)
    return frozenset(found)


@cache
def file_imports(package: Path, file: str) -> frozenset[str]:
    """Files of the package that a file imports anywhere, as paths below the package."""
    return _imported(package, ast.walk(_tree(package, file)))


@cache
def command_imports(package: Path, command: str) -> frozenset[str]:
    """Files of the package that the function of a command imports, and the functions of the same file that it calls.

    Raises:
        DataError: If no module of the package's cli/ has such a command.
    """
    file, name = _commands(package).get(command, ("", ""))
    if not file:
        raise DataError(
            f"source files: command {command!r} is unknown. Known commands: {', '.join(_commands(package))}."
        )
    functions = {
        node.name: node for node in _tree(package, file).body if isinstance(node, ast.FunctionDef)
    }
    todo, seen, found = [name], set(), set()
    while todo:
        name = todo.pop()
        seen.add(name)
        nodes = [node for statement in functions[name].body for node in ast.walk(statement)]
        found |= _imported(package, nodes)
        called = {node.id for node in nodes if isinstance(node, ast.Name)}
        todo += sorted(called & set(functions) - seen - set(todo))
    return frozenset(found)


@cache
def _commands(package: Path) -> dict[str, tuple[str, str]]:
    """{command: (file below the package, name of its function)} of all commands, in the order of the files."""
    found = {}
    for path in sorted((package / "cli").glob("*.py")):
        file = f"cli/{path.name}"
        group = f"{path.stem} " if path.stem in GROUPS else ""
        for node in _tree(package, file).body:
            if isinstance(node, ast.FunctionDef):
                for name in _names(node):
                    found[group + name] = (file, node.name)
    return found


def _names(function: ast.FunctionDef) -> list[str]:
    """Names under which a function is a command: `@command()`, `@command("name")` or `@app.command("name")`."""
    calls = [node for node in function.decorator_list if isinstance(node, ast.Call)]
    calls = [
        node
        for node in calls
        if getattr(node.func, "attr", getattr(node.func, "id", "")) == "command"
    ]
    return [
        node.args[0].value
        if node.args and isinstance(node.args[0], ast.Constant)
        else function.name.replace("_", "-")
        for node in calls
    ]


def _imported(package: Path, nodes) -> frozenset[str]:
    """Existing files of the package among the imports of some syntax nodes."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names]
    files = {
        "/".join(part[1:]) + ".py" for part in parts if part[0] == package.name and len(part) > 1
    }
    return frozenset(file for file in files if (package / file).is_file())


def _existing(module: str) -> str:
    if not (PACKAGE / f"{module}.py").is_file():
        raise DataError(f"source files: there is no {PACKAGE.name}/{module}.py.")
    return f"{module}.py"


@cache
def _tree(package: Path, file: str) -> ast.Module:
    return ast.parse((package / file).read_text(encoding="utf-8"))
