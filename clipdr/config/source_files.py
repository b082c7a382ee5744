"""Source files behind a command: the code that a Snakemake rule names as an input.

Snakemake does not see an edit of an imported module, so a rule lists the files that its command
runs. `code` computes the list. It finds the command's function in `clipdr/cli/`, takes the imports
in its body, and follows the imports of every file found, also those inside functions. Imports
neither torch nor pandas.
"""

import ast
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from clipdr import DataError

PACKAGE = Path(__file__).parents[1]
# Modules of clipdr/cli/ whose commands form a group: `clipdr pretrain train`.
GROUPS = ("pretrain", "multimodal")
# Atomic writes, hashes and this module: no number depends on them, so an edit there reruns nothing.
UNCOUNTED = frozenset({"artifacts/files.py", "artifacts/receipts.py", "config/source_files.py"})


def code(command: str, *modules: str) -> list[str]:
    """List the source files that a command runs.

    Args:
        command: As on the command line, for example "train" or "pretrain train".
        *modules: Further modules below the package that the command imports by name at run time,
            for example "methods/clip_dr". Their imports count too.

    Returns:
        Paths of Python files, sorted: relative to the working directory where the package lies
        below it, else absolute.

    Raises:
        DataError: If there is no such command or module.
    """
    return list(_code(command, modules, _root(Path.cwd())))


@cache
def _code(command: str, modules: tuple[str, ...], root: Path) -> tuple[str, ...]:
    """`code` with the path of the repository; cached because the workflow asks once per run."""
    files = command_imports(PACKAGE, command) | {_existing(module) for module in modules}
    behind = sorted(closure(frozenset(files), PACKAGE))
    return tuple(str(root / PACKAGE.name / file) for file in behind)


def package_file(name: str) -> str:
    """Path of a file of the package, given below it; see `project_file`."""
    return project_file(f"{PACKAGE.name}/{name}")


def package_files(pattern: str) -> list[str]:
    """Paths of the files of the package that match a pattern, sorted; see `project_file`.

    Args:
        pattern: Glob pattern below the package, for example "report/templates/*".

    Raises:
        DataError: If no file matches.
    """
    names = sorted(
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob(pattern) if path.is_file()
    )
    if not names:
        raise DataError(f"source files: no file matches {pattern!r}. Name an existing file.")
    return [package_file(name) for name in names]


def project_file(name: str) -> str:
    """Path of a file of the repository, given below its root.

    Returns:
        The path relative to the working directory where the repository lies there or below, so
        that a clone may be moved with its results; else the absolute path.
    """
    return str(_root(Path.cwd()) / name)


@cache
def _root(folder: Path) -> Path:
    """Path of the repository: relative to a folder at or above it, else absolute."""
    root = PACKAGE.parent
    return Path(os.path.relpath(root, folder)) if folder in (root, *root.parents) else root


@cache
def closure(files: frozenset[str], package: Path = PACKAGE) -> frozenset[str]:
    """Close a set of files over the package's imports.

    Args:
        files: Paths below the package.
        package: Folder of the package.

    Returns:
        The files and all files of the package behind them, without `UNCOUNTED` and `__init__.py`.
        A package stands for the modules that are imported from it by name, not for all of its
        modules.
    """
    behind: set[str] = set()
    todo = sorted(files)
    while todo:
        file = todo.pop()
        if file not in behind and file not in UNCOUNTED:
            behind.add(file)
            todo += file_imports(package, file)
    return frozenset(behind)


@cache
def file_imports(package: Path, file: str) -> frozenset[str]:
    """Files of the package that a file imports anywhere, as paths below the package."""
    return _imported(package, ast.walk(_tree(package, file)))


@cache
def command_imports(package: Path, command: str) -> frozenset[str]:
    """Files that the function of a command imports, and its helpers in the same file.

    Args:
        package: Folder of the package.
        command: As on the command line.

    Returns:
        Paths below the package. Imports at the top of the file do not count, because every
        command of the file shares them.

    Raises:
        DataError: If no module of the package's cli/ has such a command.
    """
    file, name = _commands(package).get(command, ("", ""))
    if not file:
        raise DataError(
            f"source files: command {command!r} is unknown. "
            f"Known commands: {', '.join(_commands(package))}."
        )
    functions = {
        node.name: node for node in _tree(package, file).body if isinstance(node, ast.FunctionDef)
    }
    todo, visited, files = [name], set(), set()
    while todo:
        name = todo.pop()
        visited.add(name)
        nodes = [node for statement in functions[name].body for node in ast.walk(statement)]
        files |= _imported(package, nodes)
        called = {node.id for node in nodes if isinstance(node, ast.Name)}
        todo += sorted(called & set(functions) - visited - set(todo))
    return frozenset(files)


@cache
def _commands(package: Path) -> dict[str, tuple[str, str]]:
    """{command: (file below the package, name of its function)}, in the order of the files."""
    commands = {}
    for path in sorted((package / "cli").glob("*.py")):
        file = f"cli/{path.name}"
        group = f"{path.stem} " if path.stem in GROUPS else ""
        for node in _tree(package, file).body:
            if isinstance(node, ast.FunctionDef):
                for name in _command_names(node):
                    commands[group + name] = (file, node.name)
    return commands


def _command_names(function: ast.FunctionDef) -> list[str]:
    """Names under which a decorator, `@command()` or `@app.command("name")`, adds a function."""
    names = []
    for node in function.decorator_list:
        if not isinstance(node, ast.Call):
            continue
        if getattr(node.func, "attr", getattr(node.func, "id", "")) == "command":
            first = node.args[0] if node.args else None
            given = isinstance(first, ast.Constant) and first.value
            names.append(str(given or function.name.replace("_", "-")))
    return names


def _imported(package: Path, nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Existing files of the package among the imports of some syntax nodes."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    splits = [name.split(".") for name in names]
    files = {"/".join(rest) + ".py" for top, *rest in splits if top == package.name and rest}
    return frozenset(file for file in files if (package / file).is_file())


def _existing(module: str) -> str:
    """File of a module below the package; DataError if there is none."""
    if not (PACKAGE / f"{module}.py").is_file():
        raise DataError(
            f"source files: there is no {PACKAGE.name}/{module}.py. Name an existing module."
        )
    return f"{module}.py"


@cache
def _tree(package: Path, file: str) -> ast.Module:
    """Syntax tree of a file of the package."""
    return ast.parse((package / file).read_text(encoding="utf-8"))
