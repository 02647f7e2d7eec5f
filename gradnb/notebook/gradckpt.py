"""``%gradckpt``: look at checkpoints, and go on from one, from a line."""

from __future__ import annotations

from typing import Any

from IPython.core import magic_arguments
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ..checkpoint.errors import CheckpointError
from ..errors import UsageError as Refused


@magics_class
class CheckpointMagics(Magics):
    """``%gradckpt``."""

    shell: Any

    @magic_arguments.magic_arguments()
    @magic_arguments.argument(
        "what", choices=("list", "verify", "resume"), help="List the checkpoints, read every file of them, or go on from one."
    )
    @magic_arguments.argument(
        "name",
        nargs="?",
        help='The Checkpointer\'s variable, or a place: runs/a, "drive:MyDrive/run1". The only Checkpointer there is by default.',
    )
    @magic_arguments.argument("--id", help="For resume: this checkpoint (000042) instead of the newest good one.")
    @no_var_expand
    @line_magic
    def gradckpt(self, line: str) -> Any:
        """Look at checkpoints, or go on from one.

        Examples
        --------
        ::

            %gradckpt list
            %gradckpt verify drive:MyDrive/run1
            %gradckpt resume ckpt --id 000042
        """
        try:
            args = self._parsed(line.partition("#")[0].strip().rstrip(";"))
            if args.what == "resume":
                if args.id is None:
                    self._named(args.name).resume()
                else:
                    self._named(args.name).resume(args.id)
                return None
            found = self._found(args.name)
            if args.what == "list":
                return found.list()
            found.verify()
            return None
        except (UsageError, Refused, CheckpointError) as error:
            refused = f"{error}"
        raise UsageError(refused)

    def _parsed(self, line: str) -> Any:
        try:
            return magic_arguments.parse_argstring(self.gradckpt, line)
        except UsageError as error:
            what = f"{error}" if line else "say what to do: %gradckpt list, %gradckpt verify or %gradckpt resume"
            raise UsageError(f"{what}. %gradckpt? lists the options.") from None

    def _named(self, name: str | None) -> Any:
        """The user's Checkpointer of this name; the only one there is without a name."""
        from ..checkpoint import Checkpointer

        known = {key: value for key, value in self.shell.user_ns.items() if isinstance(value, Checkpointer) and not key.startswith("_")}
        if name is None and len({id(one) for one in known.values()}) == 1:
            return next(iter(known.values()))
        if name in known:
            return known[name]
        there = ", ".join(known)
        if name is not None:
            what = f"{name!r} is no Checkpointer ({f'these are: {there}' if known else 'there is none'})"
        else:
            what = f"There are several Checkpointers ({there}): name one of them" if known else "There is no Checkpointer"
        raise Refused(what + ("." if known else ": ckpt = gradnb.Checkpointer(...) makes one."))

    def _found(self, name: str | None) -> Any:
        """A Checkpointer to look with; a place that no variable names is only looked at."""
        from ..checkpoint import Checkpointer

        if name is None or name in self.shell.user_ns:
            return self._named(name)
        return Checkpointer(name.strip("\"'"))
