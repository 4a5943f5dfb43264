"""What a piece of work is made of, by content: the modules it imports, the templates they name, the files it reads."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, NamedTuple

from rps_utils.files import file_sha256, read_json, write_json

PACKAGE = Path(__file__).parent
PYTHON = "{}.{}".format(*sys.version_info)
WORD = re.compile(r"[\w./-]+")
TEMPLATES = {".html", ".css", ".js", ".yml"}
SETTLED_NS = 2_000_000_000  # a file younger than this may change again within the resolution of its times


# ---------------------------------------------------------------- contents


class Code(NamedTuple):
    """What Python makes of a text: neither comments nor layout count.

    Attributes
    ----------
    sha256 : str
        Hash of the syntax tree.
    imports : tuple of str
        Names it imports; a dot in front for each level of a relative import.
    words : tuple of str
        Its strings that may name a file or a module.
    """

    sha256: str
    imports: tuple[str, ...]
    words: tuple[str, ...]


class Contents:
    """SHA-256 of files and what is in Python code, remembered from call to call for what did not change.

    A file counts as unchanged while its size, its inode and both its times (of content and of inode, which nobody can
    set back) are the same, so that hundreds of scans need not be read to learn that there is nothing to do.

    Parameters
    ----------
    memory : Path
        JSON file that remembers. One that is missing or damaged costs time and nothing else.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._files, self._code = _remembered(memory)
        self._used_files: dict[str, Any] = {}
        self._used_code: dict[str, Any] = {}
        self._found: dict[Any, Any] = {}

    def sha256(self, path: Path) -> str | None:
        """Return the hash of a file as 64 hexadecimal digits; None where there is no such file."""
        if not path.is_file():
            return None
        name, state = str(path), path.stat()
        key = [state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]
        known = self._files.get(name)
        sha = known[1] if known and known[0] == key else file_sha256(path)
        self._files[name] = [key, sha]
        if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED_NS:
            self._used_files[name] = [key, sha]
        return sha

    def code(self, text: str) -> Code:
        """Return what is in some Python code."""
        key = f"{PYTHON} {hashlib.sha256(text.encode()).hexdigest()}"
        known = self._code.get(key) or _read_code(text)
        self._code[key] = self._used_code[key] = known
        return known

    def once(self, question: Any, ask: Callable[[], Any]) -> Any:
        """Return what was found when a question was asked first."""
        if question not in self._found:
            self._found[question] = ask()
        return self._found[question]

    def remember(self) -> None:
        """Write down what was asked for."""
        write_json({"files": self._used_files, "code": self._used_code}, self._memory)


def _remembered(memory: Path) -> tuple[dict[str, Any], dict[str, Code]]:
    try:
        known = read_json(memory)
        files = {name: [list(key), str(sha)] for name, (key, sha) in known["files"].items()}
        code = {
            key: Code(str(sha), tuple(imports), tuple(words)) for key, (sha, imports, words) in known["code"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}, {}
    return files, code


def _read_code(text: str) -> Code:
    """Read code. A cell that is no Python names nothing, and will say so when it is executed."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return Code(text_sha256(text), (), ())
    nodes = list(_living(tree))
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = sorted(word for word in words if WORD.fullmatch(word))
    return Code(text_sha256(ast.dump(tree)), tuple(sorted(set(_imported(nodes)))), tuple(named))


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield what a module imports; of ``from a import b`` both a and a.b, since b may be a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (part.name for part in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            yield home
            yield from (f"{home}{'.' * bool(node.module)}{part.name}" for part in node.names)


def _living(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a syntax tree, but for what only type checkers read."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _is_for_type_checkers(node):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _is_for_type_checkers(node: ast.If) -> bool:
    return "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", ""))


def text_sha256(content: Any) -> str:
    """Return the SHA-256 of anything that can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------- code


def import_closure(cells: Iterable[str], contents: Contents, package: Path = PACKAGE) -> dict[Path, str]:
    """Return the files of a package that some code needs, read from its text: nothing is imported.

    Parameters
    ----------
    cells : iterable of str
        Python sources, for example the code cells of a notebook.
    contents : Contents
        Hashes of files and code.
    package : Path
        Folder of the package, whose name its modules are imported by.

    Returns
    -------
    dict
        File to hash: modules that are imported at the top, within functions, or by a name in quotes, those that these
        import, and the templates (``.html``, ``.css`` ...) that any of them names. What only type checkers import does
        not count, nor do comments in modules.
    """
    named = contents.once(package, lambda: _templates(package))
    found: dict[Path, str] = {}

    def needed(code: Code, folder: Path) -> frozenset[Path]:
        return contents.once((code, folder, package), lambda: frozenset(_needed(code, folder, package, named)))

    waiting = {file for cell in cells for file in needed(contents.code(cell), package)}
    while waiting:
        file = waiting.pop()
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".py":
            code = contents.code(text)
            found[file] = code.sha256
            waiting |= needed(code, file.parent) - set(found)
        else:
            found[file] = text_sha256(text)
            waiting |= set(_named_by(text, named)) - set(found)
    return dict(sorted(found.items()))


def imported_packages(files: Iterable[Path], cells: Iterable[str], contents: Contents) -> dict[str, str]:
    """Return the version of Python and of each installed distribution that these modules and cells import by name."""
    texts = [*(file.read_text(encoding="utf-8") for file in files if file.suffix == ".py"), *cells]
    names = {name.split(".")[0] for text in texts for name in contents.code(text).imports} - {PACKAGE.name}
    known = _distributions()
    owners = [owner for name in sorted(names) for owner in known.get(name, ())]
    versions = {owner: contents.once(("version", owner), partial(version, owner)) for owner in owners}
    return {"python": PYTHON, **versions}


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: sorted(set(owners)) for name, owners in packages_distributions().items()}


def module_files(name: str, package: Path = PACKAGE) -> list[Path]:
    """Return the files that importing a module runs: its own and those of the packages around it; none if not ours."""
    parts = name.split(".")
    if parts[0] != package.name:
        return []
    around = [package.joinpath(*parts[1:end], "__init__.py") for end in range(1, len(parts) + 1)]
    own = [package.joinpath(*parts[1:-1], f"{parts[-1]}.py")] if len(parts) > 1 else []
    return [file for file in (*around, *own) if file.is_file()]


def _needed(code: Code, folder: Path, package: Path, named: Mapping[str, Sequence[Path]]) -> Iterator[Path]:
    around = ".".join((package.name, *folder.relative_to(package).parts))
    for name in (*code.imports, *(word for word in code.words if word.startswith(f"{package.name}."))):
        yield from module_files(_full_name(name, around), package)
    for word in code.words:
        yield from named.get(word.rpartition("/")[2], ())


def _full_name(name: str, around: str) -> str:
    bare = name.lstrip(".")
    level = len(name) - len(bare)
    return ".".join(filter(None, (around.rsplit(".", level - 1)[0], bare))) if level else name


def _named_by(template: str, named: Mapping[str, Sequence[Path]]) -> Iterator[Path]:
    for name, paths in named.items():
        if re.search(rf"[\"'/]{re.escape(name)}[\"']", template):
            yield from paths


def _templates(package: Path) -> dict[str, tuple[Path, ...]]:
    """Return the templates of a package by file name."""
    files = sorted(p for p in package.rglob("*") if p.suffix in TEMPLATES and p.is_file())
    return {name: tuple(p for p in files if p.name == name) for name in {p.name for p in files}}


# ---------------------------------------------------------------- notebooks


def cell_sources(notebook: Path) -> list[tuple[str, str, list[str]]]:
    """Return ``(kind, source, tags)`` of each cell: what a notebook says and does, without outputs and settings."""
    cells = read_json(notebook)["cells"]
    return [(c["cell_type"], "".join(c["source"]), c.get("metadata", {}).get("tags", [])) for c in cells]


def notebook_sha256(notebook: Path) -> str:
    """Return the SHA-256 over the cells of a notebook; outputs, counters and kernel names do not count."""
    return text_sha256(cell_sources(notebook))


def notebook_code(notebook: Path) -> list[str]:
    """Return the code cells of a notebook; lines that only Jupyter understands (``%``, ``!``) are left out."""
    code = [source for kind, source, _ in cell_sources(notebook) if kind == "code"]
    return ["\n".join(line for line in source.splitlines() if line.lstrip()[:1] not in set("%!")) for source in code]


def relative_name(path: Path, root: Path) -> str:
    """Return a path as seen from a folder, with ``/`` on every system."""
    return Path(os.path.relpath(path, root)).as_posix()
