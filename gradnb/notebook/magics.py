"""The magics: ``%%gradcheck`` runs a cell and says which parameters get no gradient, ``%gradgraph`` draws the graph, ``%gradexplain``
explains a cause, ``%gradenv`` shows what the kernel runs on."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from IPython.core import magic, magic_arguments
from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from ..errors import GradientError
from ..errors import UsageError as Refused
from .cell import RUNNER_CODE, Outcome, Program, prepare
from .cells import cell_numbers
from .errors import pass_on, raise_plain
from .gradgraph import draw, unquoted
from .modules import known_modules, refuse_unknown
from .place import locate
from .show import deliver, guarded, publish, tell, tell_fault, tell_problem

if TYPE_CHECKING:
    from ..check import Check
    from ..report.report import Report

# IPython 7 has no such decorator, and needs none.
output_can_be_silenced = getattr(magic, "output_can_be_silenced", lambda magic_func: magic_func)


@magics_class
class GradnbMagics(Magics):
    """``%%gradcheck``, ``%gradgraph``, ``%gradexplain`` and ``%gradenv``."""

    shell: Any

    @magic_arguments.magic_arguments()
    @magic_arguments.argument("--steps", type=int, default=5, metavar="N", help="Record the first N optimizer steps whole (default 5).")
    @magic_arguments.argument("--model", nargs="+", metavar="NAME", help="Look at these modules only (default: all that take part).")
    @magic_arguments.argument("--loss", metavar="NAME", help="The variable that holds the loss, where there are several.")
    @magic_arguments.argument("--no-graph", action="store_true", help="Leave the picture of the graph out.")
    @magic_arguments.argument("--quiet", action="store_true", help="Show the report only when something is wrong.")
    @magic_arguments.argument("--html", metavar="FILE", help="Write the report to FILE as one HTML page too.")
    @magic_arguments.argument("--json", metavar="FILE", help="Write the report to FILE as JSON too.")
    @magic_arguments.argument("--fail", action="store_true", help="Stop Run All with a GradientError when a finding is an error.")
    @magic_arguments.argument("--numeric", action="store_true", help="Compare each custom Function's backward with finite differences.")
    @magic_arguments.argument("--prove", action="store_true", help="Prove each cause: run the cell again in a child with it mended.")
    @no_var_expand
    @cell_magic
    @output_can_be_silenced
    def gradcheck(self, line: str, cell: str) -> None:
        """Run the cell as it is, and say which parameters got no gradient, at which line, why, and what repairs it.

        Put it on the first line of the cell that trains. Results, errors and line numbers are those of the cell without it.

        Examples
        --------
        ::

            %%gradcheck
            loss = loss_fn(model(x).detach(), y)
            loss.backward()
            optimizer.step()

            %%gradcheck --model generator --steps 2
            train_one_epoch()

            %%gradcheck --quiet --fail --html report.html
            trainer.fit()

            %%gradcheck --numeric
            loss = MyFunction.apply(x).mean()
            loss.backward()

        The report stays at hand as ``gradnb.last_report()``; ``%gradexplain detach`` says more about a cause. A cell with
        ``await`` at its top level goes under ``with gradnb.check():`` instead.
        """
        __tracebackhide__ = True  # for %debug
        try:
            args = magic_arguments.parse_argstring(self.gradcheck, line)
        except (UsageError, ValueError) as error:  # a ValueError is a quotation mark that is never closed
            raise UsageError(f"{error}; nothing was run. %%gradcheck? lists the options.") from None
        args.html, args.json = unquoted(args.html), unquoted(args.json)
        if not cell.strip():
            raise UsageError("the cell is empty: put the code that trains below %%gradcheck.")
        if cell.lstrip().startswith("%%"):
            other = cell.split()[0]
            raise UsageError(f"{other} below %%gradcheck hides the line numbers: put {other} on the first line, %%gradcheck below it.")
        if args.steps < 1:
            raise UsageError(f"--steps {args.steps} records nothing: give a whole number of 1 or more.")
        refuse_unknown(args.model, self.shell.user_ns, cell)
        place = locate(self.shell, line, cell)
        try:
            program = prepare(self.shell, place, cell)
        except Exception as error:
            failed = error
        else:
            return self._checked(program, args)
        pass_on(self.shell, failed)

    # IPython writes the usage of every magic with one percent sign.
    gradcheck.__doc__ = (gradcheck.__doc__ or "").replace("  %gradcheck", "  %%gradcheck", 1)

    @magic_arguments.magic_arguments()
    @magic_arguments.argument("--timeout", type=float, default=30.0, metavar="S", help="Give the driver S seconds to answer (default 30).")
    @line_magic
    def gradenv(self, line: str) -> None:
        """Show what this kernel runs on, Python, torch, driver, devices and packages, and what of it does not fit together."""
        from ..machine import environment

        try:
            args = magic_arguments.parse_argstring(self.gradenv, line.partition("#")[0])  # IPython hands over a comment, too
            found = environment(timeout=args.timeout)
        except (UsageError, ValueError) as error:
            refused = str(error)
        else:
            return publish(self.shell, found)
        raise UsageError(f"{refused}. %gradenv? lists the options.")

    @magic_arguments.magic_arguments()
    @magic_arguments.argument("expr", nargs="*", help="A tensor, a list of tensors, a model or a report (default: the last report).")
    @magic_arguments.argument("--depth", type=int, metavar="N", help="Open N levels of modules and functions, 0 for none.")
    @magic_arguments.argument("--focus", metavar="NAME", help="Show one module, parameter or variable from near, as in encoder.3.")
    @magic_arguments.argument("--only", metavar="lost", help="Leave only the ways on which a gradient is lost.")
    @magic_arguments.argument(
        "--step", type=int, metavar="N", help="Draw the N-th recorded step (by default the first in which the worst finding has a place)."
    )
    @magic_arguments.argument("--inputs", metavar="EXPR", help="For a model: record one forward pass of it on these.")
    @magic_arguments.argument("--saved", action="store_true", help="For a tensor: add what was saved for the backward pass.")
    @magic_arguments.argument(
        "--double-backward", action="store_true", help="For a tensor: add the graph of gradients (create_graph=True)."
    )
    @no_var_expand
    @line_magic
    @output_can_be_silenced
    def gradgraph(self, line: str) -> Any:
        """Draw the autograd graph of the last report, a tensor or a model, with the place where a gradient was lost.

        Examples
        --------
        ::

            %gradgraph
            %gradgraph loss
            %gradgraph model --focus encoder.3
            %gradgraph --only lost --step 2
            picture = %gradgraph loss --saved

        It gives a Picture: ``picture.explore()`` opens boxes by a click, ``picture.to_svg("graph.svg")`` writes a file. A name with
        spaces goes into quotation marks, an expression that begins with - into brackets. ``;`` at the end shows nothing.
        """
        return draw(self.shell, self.gradgraph.parser, line)

    @line_magic
    def gradexplain(self, line: str) -> None:
        """Explain a cause, or a rule of the monitor, by its name: ``%gradexplain detach``; without a name, list the causes."""
        from ..diagnoses import explain, slugs
        from ..monitor import rules

        name = line.partition("#")[0].strip() or None
        try:
            print(rules.explain(name) if name in rules.slugs() and name not in slugs() else explain(name))
        except Refused as error:
            refused = str(error)
        else:
            return
        raise UsageError(refused)

    def _checked(self, program: Program, args: Namespace) -> None:
        """Run under the check; show the value, then the report; then let an error go on."""
        __tracebackhide__ = True
        prover = self._prover(program, args)
        check, report = self._open(program, args)
        outcome = Outcome(error=KeyboardInterrupt())  # what is true when an interrupt falls between two lines of this function
        try:
            outcome = program.run()
        finally:
            if check is not None:
                guarded(self._close, check, args.model, outcome.error)
        if outcome.shows:
            try:
                sys.displayhook(outcome.value)
            except BaseException as error:  # an interrupt, most likely: the report comes first
                outcome = Outcome(error=error)
        if report is not None:
            tell_problem(check)
            if prover is not None:
                guarded(prover, report)
            guarded(deliver, self.shell, report, args)
        if outcome.error is not None:
            pass_on(self.shell, outcome.error)
        if args.fail and report is not None and report.verdict == "error":
            raise_plain(self.shell, GradientError(_summary(report), report))

    def _prover(self, program: Program, args: Namespace) -> Callable[[Report], None] | None:
        """``--prove``: asked before the cell runs, because the proof runs it again from here; called with the filled report."""
        if not args.prove:
            return None
        try:
            from ..prove import prove

            return prove(self.shell, program, steps=args.steps)
        except Exception as error:
            tell_fault(error)
            return None

    def _open(self, program: Program, args: Namespace) -> tuple[Check | None, Report | None]:
        """A check that is recording; or nothing, and the reason is told, where gradnb itself is broken."""
        place = program.place
        check = None
        try:
            from ..check import Check

            check = Check(
                steps=args.steps,
                models=args.model,
                loss=args.loss,
                graph=not args.no_graph,
                namespace=self.shell.user_ns,
                cells=cell_numbers(self.shell, running=(place.filename, place.number)),
                runners=RUNNER_CODE,
                numeric=args.numeric,
            )
            return check, check.__enter__()
        except Refused as error:
            refused = str(error)
        except Exception as error:
            tell_fault(error)
            if check is not None:
                with suppress(Exception):  # half entered: whatever it switched on goes off again
                    check.__exit__(None, None, None)
            return None, None
        raise UsageError(refused)

    def _close(self, check: Check, names: list[str] | None, error: BaseException | None) -> None:
        """End the check, which fills the report; modules that the cell itself made have their names by now."""
        try:
            if names:
                kept, complaint = known_modules(names, self.shell.user_ns)
                check.models = kept or None
                if complaint and error is None:
                    tell(complaint)
        finally:
            check.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _summary(report: Report) -> str:
    """What ``--fail`` says: the first error, and how many more there are."""
    errors = [finding for finding in report.findings if finding.severity == "error"]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{errors[0].title}{more}: see the report above."
