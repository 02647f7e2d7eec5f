"""``%gradgraph``: reads its line, evaluates the expression in the user's namespace, and gives the picture."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.utils.process import arg_split

from ..errors import UsageError as Refused
from .show import tell_fault

if TYPE_CHECKING:
    from ..graph.picture import Picture

_HELP = "%gradgraph? lists the options."


def draw(shell: Any, parser: ArgumentParser, line: str) -> "Picture | None":
    """The Picture, for IPython to show; None for a line that ends in ";". Whatever is wrong with the line is one line of error."""
    args, quiet = _parsed(parser, line)
    what = _value(shell, " ".join(args.expr), "") if args.expr else None
    inputs = _value(shell, args.inputs, "--inputs ") if args.inputs else None
    try:
        picture = _picture(shell, args, what, inputs)
    except Refused as error:
        refused = str(error)
    except Exception as error:
        tell_fault(error)
        return None
    else:
        return None if quiet else picture
    raise UsageError(refused)


def unquoted(name: str | None) -> str | None:
    """IPython leaves the quotation marks around an argument that has spaces."""
    return name[1:-1] if name and len(name) > 1 and name[0] == name[-1] and name[0] in "'\"" else name


def _parsed(parser: ArgumentParser, line: str) -> tuple[Namespace, bool]:
    """The arguments, and whether the line ends in ";"."""
    try:
        words = _without_comment(arg_split(line))
        quiet = bool(words) and words[-1].endswith(";")
        if quiet:
            words[-1] = words[-1].rstrip(";")
        args = parser.parse_intermixed_args([word for word in words if word])
    except (UsageError, ValueError) as error:  # a ValueError is a quotation mark that is never closed
        refused = f"{error}. {_HELP}"
    else:
        for name in ("focus", "only", "inputs"):
            setattr(args, name, unquoted(getattr(args, name)))
        return args, quiet
    raise UsageError(refused)


def _without_comment(words: list[str]) -> list[str]:
    """IPython hands over the comment behind a magic, too. A # inside quotation marks is none."""
    for at, word in enumerate(words):
        before = "".join(words[:at])
        if word.startswith("#") and before.count("'") % 2 == 0 and before.count('"') % 2 == 0:
            return words[:at]
    return words


def _value(shell: Any, expression: str, option: str) -> Any:
    """What the expression stands for in the user's namespace; None says that it is None, which draws nothing."""
    try:
        value = eval(expression.strip(), shell.user_global_ns, shell.user_ns)
    except Exception as error:
        said = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())[:300]
        refused = f"{option}{expression}: {type(error).__name__}: {said}. {_HELP}"
    else:
        if value is not None:
            return value
        refused = f"{option}{expression} is None; a tensor, a list of tensors, a model or a report is expected."
    raise UsageError(refused)


def _picture(shell: Any, args: Namespace, what: Any, inputs: Any) -> "Picture":
    from ..graph import door

    options = {name: getattr(args, name) for name in ("depth", "focus", "only", "step", "saved", "double_backward")}
    return door.draw(what, inputs=inputs, names=shell.user_ns, **options)
