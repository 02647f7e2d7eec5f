"""``%gradwatch``: ``gradnb.watch`` from a line."""

from __future__ import annotations

from typing import Any

from IPython.core import magic_arguments
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ..errors import UsageError as Refused
from .show import tell


@magics_class
class WatchMagics(Magics):
    """``%gradwatch``."""

    shell: Any

    @magic_arguments.magic_arguments()
    @magic_arguments.argument("names", nargs="*", metavar="NAME", help="Models, optimizers and a GradScaler, in any order.")
    @magic_arguments.argument("--every", type=int, default=1, metavar="N", help="Record every N-th optimizer step (default 1).")
    @magic_arguments.argument("--depth", type=int, metavar="N", help="So many levels of modules form a layer.")
    @magic_arguments.argument("--activations", action="store_true", help="Look at ReLU, tanh and sigmoid modules, too.")
    @magic_arguments.argument("--stop", action="store_true", help="Stop the monitor that this magic started, or the named ones.")
    @no_var_expand
    @line_magic
    def gradwatch(self, line: str) -> Any:
        """Watch the gradients of models while they train; it gives the Monitor.

        Examples
        --------
        ::

            %gradwatch model
            %gradwatch agent qwen optimizer scaler --every 10
            monitor = %gradwatch model
            %gradwatch --stop

        Several models are labelled by their variables' names. The Monitor is the variable ``monitor`` too, unless that is yours.
        """
        from ..monitor import Monitor

        try:
            line = line.partition("#")[0].rstrip()
            args = magic_arguments.parse_argstring(self.gradwatch, line.rstrip("; "))
            values = {name: self._value(name) for name in args.names}
            if args.stop:
                return self._stop([value for value in values.values() if isinstance(value, Monitor)])
            monitor = _watch(values, args)
        except (UsageError, Refused, ValueError) as error:
            refused = f"{error} %gradwatch? lists the options."
        else:
            if isinstance(self.shell.user_ns.get("monitor", monitor), Monitor):  # nothing of the user's is overwritten
                self.shell.user_ns["monitor"] = monitor
            tell(f"watching {', '.join(name for name in values)}: monitor.log(loss=loss), monitor.flags, monitor.stop()")
            return None if line.endswith(";") else monitor
        raise UsageError(refused)

    def _value(self, name: str) -> Any:
        try:
            return eval(name, self.shell.user_global_ns, self.shell.user_ns)
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise Refused(f"{name}: {type(error).__name__}: {said}.") from None

    def _stop(self, named: list[Any]) -> None:
        from ..monitor import Monitor

        monitor = self.shell.user_ns.get("monitor")
        monitors = named or ([monitor] if isinstance(monitor, Monitor) else [])
        if not monitors:
            raise Refused("no monitor is named, and there is no variable monitor to stop.")
        for one in monitors:
            one.stop()


def _watch(values: dict[str, Any], args: Any) -> Any:
    from torch import nn
    from torch.amp.grad_scaler import GradScaler
    from torch.optim.optimizer import Optimizer

    from ..monitor import watch

    models = {name: value for name, value in values.items() if isinstance(value, nn.Module)}
    optimizers = [value for value in values.values() if isinstance(value, Optimizer)]
    scalers = [value for value in values.values() if isinstance(value, GradScaler)]
    for name, value in values.items():
        if not isinstance(value, (nn.Module, Optimizer, GradScaler)):
            raise Refused(f"{name} is of type {type(value).__name__}; a model, an optimizer or a GradScaler is expected.")
    if not models:
        raise Refused("no model is named: %gradwatch model, or %gradwatch agent critic optimizer.")
    if len(scalers) > 1:
        raise Refused("one GradScaler at most.")
    only = next(iter(models.values()))
    return watch(
        only if len(models) == 1 else models,
        optimizers or None,
        scalers[0] if scalers else None,
        every=args.every,
        depth=args.depth,
        activations=args.activations,
    )
