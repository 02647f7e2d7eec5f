"""What the user calls things: the variable that a line gives a result to, the name of an argument, the text of a call."""

from __future__ import annotations

import ast

from ...flow.graph import Graph as Flow
from ...recorder.recording import Op, Recording

LONGEST = 28
AHEAD = 12  # operations that are looked through for the first that uses a result
_RETURNED = "return"  # the result goes to whoever called the function
_SPELLED = {  # an operator's method, as people write it
    "__getitem__": "index",
    "__setitem__": "index put",
    "__add__": "add",
    "__radd__": "add",
    "__iadd__": "add_",
    "__sub__": "sub",
    "__rsub__": "rsub",
    "__isub__": "sub_",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__imul__": "mul_",
    "__truediv__": "div",
    "__rtruediv__": "rdiv",
    "__itruediv__": "div_",
    "__matmul__": "matmul",
    "__rmatmul__": "matmul",
    "__pow__": "pow",
    "__rpow__": "pow",
    "__neg__": "neg",
    "__float__": "float()",
    "__int__": "int()",
    "__bool__": "bool()",
    "__index__": "index()",
    "__array__": "numpy",
    "__abs__": "abs",
    "__floordiv__": "floor_divide",
    "__mod__": "remainder",
    "__eq__": "eq",
    "__ne__": "ne",
    "__lt__": "lt",
    "__le__": "le",
    "__gt__": "gt",
    "__ge__": "ge",
    "__and__": "and",
    "__or__": "or",
    "__invert__": "not",
}


class Names:
    """Names read from the source, each place once."""

    def __init__(self, recording: Recording, flow: Flow):
        self.recording, self.flow = recording, flow
        self._targets: dict[int, str] = {}
        self._classes = dict(recording.paths.values())  # of modules by their paths

    def operation(self, op: Op) -> str:
        """The field's name of an operation."""
        if op.kind == "function":
            return (op.function or op.name).rpartition(".")[2]
        if op.kind == "leaf" and op.name == "Parameter":
            return "nn.Parameter"
        return _SPELLED.get(op.name, op.name.strip("_") if op.name.startswith("__") else op.name)

    def call(self, op: Op) -> str:
        """A call as it is written: ``.detach()``, ``torch.tensor(…)``, ``.data``."""
        name = self.operation(op)
        if op.name == "data":
            return ".data"
        if op.kind in ("cut", "escape") and op.name != "deepcopy":
            return f"{name}" if name.endswith("()") else f".{name}()"
        if op.kind == "factory":
            return f"torch.{name}(…)"
        if op.kind == "function":
            return f"{name}.apply(…)"
        return f"{name}(…)"

    def variable(self, index: int) -> str:
        """The variable that the result of an op is given to, "" where it is only a part of an expression."""
        op = self.recording.ops[index]
        if not op.stack or self._next_has(index, op):
            return ""
        for position, site in enumerate(op.stack):
            known = self._targets.get(site)
            if known is None:
                known = self._targets[site] = self._target(site)
            if known != _RETURNED:
                return known if known and self._is_result(index, op, position) else ""
        return ""

    def _is_result(self, index: int, op: Op, position: int) -> bool:
        """Is the op the last of the module that is called at its ``position``-th place: code of a library's modules leaves no place."""
        path = self._path(op)
        found = self.flow.slicer.at(self.recording.sites[op.stack[position]])
        call = found[2] if found is not None else None
        if not path or not isinstance(call, ast.Call) or not isinstance(call.func, (ast.Name, ast.Attribute)):
            return True
        name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
        parts = path.split(".")
        if name not in parts[:-1]:
            return True
        called = ".".join(parts[: parts.index(name) + 1])
        if position and self._class_around(op.stack[position - 1]) == self._classes.get(called):
            return True  # the user's own forward() returned it
        for after in self.recording.ops[index + 1 : index + 1 + AHEAD]:
            if set(op.outputs) & set(after.inputs) and after.name != op.name:
                return not f"{self._path(after)}.".startswith(f"{called}.")
        return True

    def _path(self, op: Op) -> str:
        """The path of the module that an op ran in."""
        return self.recording.paths[op.module][0] if op.module in self.recording.paths else ""

    def _class_around(self, site: int) -> str:
        """The class whose method a place is in."""
        found = self.flow.slicer.at(self.recording.sites[site])
        node: ast.AST | None = found[2] if found is not None else None
        while found is not None and node is not None and not isinstance(node, ast.ClassDef):
            node = found[0].parents.get(node)
        return node.name if isinstance(node, ast.ClassDef) else ""

    def _next_has(self, index: int, op: Op) -> bool:
        """Does the same call of the user's go on with another op (a module made of several)."""
        after = self.recording.ops[index + 1] if index + 1 < len(self.recording.ops) else None
        if after is None or after.stack != op.stack or after.name == op.name:  # the same call again is the next round of a loop
            return False
        return bool(set(op.outputs) & set(after.inputs))

    def _target(self, site: int) -> str:
        found = self.flow.slicer.at(self.recording.sites[site])
        if found is None:
            return ""
        source, _, expression = found
        parent = source.parents.get(expression)
        if isinstance(parent, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and parent.value is expression:
            target: ast.AST = parent.targets[0] if isinstance(parent, ast.Assign) else parent.target
        elif isinstance(parent, ast.AugAssign):
            target = parent.target
        else:
            return _RETURNED if isinstance(parent, ast.Return) else ""
        text = source.segment(target, 60)
        return text if len(text) <= LONGEST else ""

    def argument(self, value: int) -> str:
        """What the user's line calls a tensor that no recorded op made; "" where it has no short name there."""
        met = self.recording.met.get(value)
        if met is None or met[0] >= len(self.recording.ops):
            return ""
        op, position = self.recording.ops[met[0]], met[1]
        found = self.flow.slicer.at(self.recording.sites[op.stack[0]]) if op.stack else None
        if found is None:
            return ""
        source, _, node = found
        parts: list[ast.expr] = []
        if isinstance(node, ast.Call):
            own = isinstance(node.func, ast.Attribute) and node.func.attr == op.name and not _module_like(node.func)
            parts = ([node.func.value] if own else []) + list(node.args)  # type: ignore[attr-defined]
        elif isinstance(node, ast.BinOp):
            parts = [node.left, node.right]
        elif isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, (ast.Subscript, ast.Attribute)):
            parts = [node.value]
        elif isinstance(node, ast.Name):  # what a loop goes over
            parts = [node]
        if position >= len(parts) or not isinstance(parts[position], (ast.Name, ast.Attribute, ast.Subscript)):
            return ""
        text = source.segment(parts[position], 60)
        return text if len(text) <= LONGEST else ""


def _module_like(function: ast.Attribute) -> bool:
    """``F.relu(x)`` and ``torch.relu(x)`` take the tensor as their first argument, ``x.relu()`` stands on it."""
    root: ast.expr = function.value
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id in ("torch", "F", "nn", "functional")
