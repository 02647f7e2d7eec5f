"""A script or module made ready to run as ``__main__``, with everything set as Python itself sets it."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType

from ..errors import UsageError


def _execute(code: CodeType, namespace: dict) -> None:
    """The one frame between gradnb and the user's code."""
    exec(code, namespace)


# A walk up the stack that meets one of these has left the user's code.
RUNNERS: set[CodeType] = {_execute.__code__}


@dataclass(slots=True)
class Program:
    """What is to run: its code, and the module that it runs in."""

    code: CodeType
    module: ModuleType

    @property
    def namespace(self) -> dict:
        return self.module.__dict__

    def run(self) -> None:
        """Run it as the ``__main__`` of this process, which it stays: pickles and child processes look there."""
        sys.modules["__main__"] = self.module
        _execute(self.code, self.namespace)


def load(name: str, arguments: list[str], *, module: bool) -> Program:
    """Find and compile it, and set ``sys.argv`` and ``sys.path[0]``.

    Raises UsageError where there is nothing to run, SyntaxError as Python does, and whatever the packages around a
    module raise when they are imported.
    """
    return _module(name, arguments) if module else _script(name, arguments)


def _script(name: str, arguments: list[str]) -> Program:
    path = os.path.abspath(name)
    if os.path.isdir(path):
        inside = os.path.join(name, "__main__.py")
        hint = f"it has a __main__.py: give {inside}" if os.path.exists(inside) else "give the Python file in it, or -m package.module"
        raise UsageError(f"{name} is a folder; {hint}")
    try:
        with open(path, "rb") as file:
            source = file.read()
    except FileNotFoundError:
        hint = _meant(name)
        raise UsageError(f"{name} does not exist" + (f"; {hint}" if hint else f" (looked in {os.getcwd()})")) from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from None
    sys.argv[:] = [name, *arguments]
    _search_first(os.path.dirname(os.path.realpath(path)))
    main = _main(path, SourceFileLoader("__main__", path))
    return Program(_compile(source, path), main)


def _module(name: str, arguments: list[str]) -> Program:
    if name.endswith(".py") and os.path.exists(name):
        raise UsageError(f"-m {name} names a file: leave out -m, or name the module (-m {name[:-3].replace(os.sep, '.')})")
    sys.argv[:] = ["-m", *arguments]
    spec = _spec(name)
    loader = spec.loader
    code = loader.get_code(spec.name) if loader is not None and hasattr(loader, "get_code") else None
    if code is None:
        raise UsageError(f"-m {name}: there is no Python code to run ({spec.origin or 'a package without __main__'})")
    sys.argv[0] = spec.origin or name
    main = _main(spec.origin or name, loader)
    main.__package__, main.__spec__ = spec.parent, spec
    main.__dict__["__cached__"] = spec.cached
    return Program(code, main)


def _spec(name: str) -> ModuleSpec:
    try:
        spec = importlib.util.find_spec(name) if name and not name.startswith(".") else None
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise  # the package was found, and imports something that is not there
        spec = None
    except ValueError:  # a module that was loaded without a spec
        spec = None
    if spec is None:
        raise UsageError(f"-m {name}: there is no module of this name (looked in {sys.path[0] or os.getcwd()} and the installed packages)")
    if spec.submodule_search_locations is None:
        return spec
    if name.endswith(".__main__") or importlib.util.find_spec(f"{name}.__main__") is None:
        raise UsageError(f"-m {name} is a package without __main__; name a module in it, as in -m {name}.train")
    return _spec(f"{name}.__main__")


def _main(path: str, loader: object) -> ModuleType:
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __cached__=None, __loader__=loader, __builtins__=builtins, __annotations__={})
    return main


def _compile(source: bytes, path: str) -> CodeType:
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except ValueError as error:  # null bytes, in some versions of Python
        raise SyntaxError(str(error), (path, 1, 1, "")) from None
    except SyntaxError as error:  # null bytes in the others, which do not say where
        error.filename, error.lineno = error.filename or path, error.lineno or 1
        raise


def _search_first(folder: str) -> None:
    """Python puts the script's folder where ``-m`` has put the current one, unless it was told to trust neither."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _meant(name: str) -> str:
    """A word for those who gave a module's name, or forgot the ending."""
    if os.path.exists(name + ".py"):
        return f"{name}.py does"
    if not name.endswith(".py") and os.sep not in name:
        return f"is it a module? Then: -m {name}"
    return ""
