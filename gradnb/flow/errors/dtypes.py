"""An operation refuses the dtype of an operand: where did that operand get it."""

from __future__ import annotations

import ast
import re

from ...recorder.recording import Event, Location, Op, Recording
from ..cuts import graph_of
from ..lead import Lead
from ..places import locate
from .history import RANK, relate
from .sources import behind

_SAID = re.compile(
    r"same dtype|scalar type|[Ee]xpected dtype|[Ff]ound dtype|dtype to be|can't be cast to the desired|mixed dtype|dtypes match|"
    r"RNN input dtype|Input type \(|not implemented for '|could not infer output dtype|Integral inputs|only supports boolean masks|"
    r"index tensor of type LongTensor|must be long, int, byte or bool|can require gradients|must be floating point|"
    r"to be a boolean tensor|floating point type for target|with dtype|dtype to be equal|same datatype|real scalar outputs"
)
_NAMES = {
    "Float": "float32", "float": "float32", "Double": "float64", "double": "float64", "Half": "float16", "c10::Half": "float16",
    "BFloat16": "bfloat16", "c10::BFloat16": "bfloat16", "Long": "int64", "long": "int64", "long long": "int64", "Int": "int32",
    "int": "int32", "Short": "int16", "Byte": "uint8", "Char": "int8", "Bool": "bool", "bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip
# what can only come from torch, also where no recorded call raised it
_UNSEEN = ("can require gradients", "must be floating point", "real scalar outputs", "must be long, int, byte or bool")
_INDICES = re.compile(r"Long|int64|LongTensor|must be long")
_LOW = ("float16", "bfloat16")
_CASTS = set("float double half bfloat16 long int short byte char bool to type type_as".split())
_MIXERS = ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "column_stack")
_MAKERS = set(
    "array asarray zeros ones randn rand normal linspace arange float64 load read_csv full random uniform standard_normal randint eye "
    "concatenate stack TensorDataset from_dlpack".split()
)


def dtypes(recording: Recording) -> list[Lead]:
    """The lead for an error about dtypes: the line where the odd operand got its dtype."""
    error = recording.raised
    if error is None or not _SAID.search(error.message):
        return []
    if error.autocast:
        return []  # an autocast region changed the dtype: that is the subject of autocast.py
    op, event = (recording.ops[error.op], None) if error.op >= 0 else _in_backward(recording)
    if op is None:
        return _alone(recording)
    value = odd(recording, op, error.message)
    if value < 0:
        return _alone(recording)
    if _born_in_autocast(recording, value):
        return []
    return [_lead(recording, op, value, event)]


def _in_backward(recording: Recording) -> tuple[Op | None, Event | None]:
    """The call nearest to the loss whose operands have different dtypes, for an error that the backward pass raised."""
    event = next((e for e in reversed(recording.events) if e.kind in ("backward", "grad")), None)
    if event is None or event.ok or not event.losses:
        return None, None
    graph = graph_of(recording)
    if "real scalar" in (event.error or ""):
        made = recording.values[event.losses[0]].op
        return (recording.ops[made], event) if made >= 0 and recording.ops[made].inputs else (None, None)
    order = [v for v in reversed(graph.cone(event.losses).order) if recording.values[v].op >= 0]
    for value in order:
        op = recording.ops[recording.values[value].op]
        kinds = {recording.values[v].dtype for v in op.inputs if recording.values[v].shape}
        if len(kinds) > 1 and op.kind == "op":
            return op, event
    return None, None


# -- which operand -------------------------------------------------------------------------------------------------------------


def odd(recording: Recording, op: Op, message: str) -> int:
    """The operand whose dtype does not fit: the one that no parameter and no computation with parameters has."""
    inputs = [v for v in dict.fromkeys(op.inputs) if recording.values[v].dtype]
    if not inputs:
        return -1
    if op.kind == "inplace" and "cast to the desired" in message:
        return inputs[0]  # the target of the write cannot hold the result
    kinds = {v: kind(recording, v) for v in inputs}
    learned = [v for v in inputs if _learned(recording, v)]
    plain = [v for v in inputs if v not in learned]
    if len(set(kinds.values())) == 1:
        return (plain or inputs)[-1]
    low = [v for v in learned if kinds[v] in _LOW]
    if low and all(kinds[v] == "float32" for v in inputs if v not in low):
        return low[0]  # the weights are in half precision, the data is ordinary
    wanted = re.search(r"but (?:got|found)[^\w]*(?:a tensor with dtype |torch\.)?([\w:]+)", message)
    named = _NAMES.get(wanted[1].removesuffix("Tensor"), "") if wanted else ""
    other = [v for v in plain if kinds[v] not in {kinds[u] for u in learned}]
    exact = [v for v in other if kinds[v] == named]
    if exact or other:
        return (exact or other)[-1]
    unusual = [v for v in inputs if kinds[v] != "float32"]
    return (unusual or inputs)[-1]


def kind(recording: Recording, value: int) -> str:
    """The dtype of a value; ``model.half()`` changes that of a parameter which is recorded already."""
    number = recording.values[value].parameter
    cast = recording.parameters[number].cast if number >= 0 else None
    return cast[0] if cast is not None else recording.values[value].dtype


def _learned(recording: Recording, value: int) -> bool:
    return recording.values[value].requires_grad or recording.values[value].parameter >= 0


def _born_in_autocast(recording: Recording, value: int) -> bool:
    """A product in half precision of operands that are not: autocast made it."""
    made = origin(recording, value)
    if made < 0:
        return False
    op = recording.ops[made]
    kinds = {recording.values[v].dtype for v in op.inputs}
    return op.name not in _CASTS and recording.values[value].dtype in _LOW and "float32" in kinds


# -- where it got it -----------------------------------------------------------------------------------------------------------


def origin(recording: Recording, value: int) -> int:
    """The call that gave a value its dtype, -1 where it came into the recording with it."""
    return recording.values[_source(recording, value)].op


def _source(recording: Recording, value: int, indices: bool = False) -> int:
    """The oldest value with the same dtype in the history of a value; ``indices``: integers were expected."""
    values, last = recording.values, value
    for _ in range(500):
        made = values[value].op
        if made < 0:
            return value
        op = recording.ops[made]
        same = [v for v in op.inputs if values[v].dtype == values[value].dtype]
        if op.kind == "factory" or op.name == "one_hot" or not same:
            return value
        if op.name in _MIXERS and len({values[v].op for v in same}) > 1 and not _by_a_library(recording, op):
            return last if values[last].op >= 0 else value  # it had to be one dtype there: what takes a part out again is to blame
        if op.name == "__getitem__" and indices and _a_column(recording, op, made):
            return value
        last, value = value, same[0]
    return value


def _a_column(recording: Recording, op: Op, made: int) -> bool:
    """A part of a table of floats that other lines take other parts of: only this part should have been integers."""
    others = [o for i, o in enumerate(recording.ops) if i != made and o.name == "__getitem__" and o.inputs[:1] == op.inputs[:1]]
    return any(o.stack and op.stack and o.stack[0] != op.stack[0] for o in others)


def _by_a_library(recording: Recording, op: Op) -> bool:
    """``torch.stack`` on behalf of a data loader: all of its items come about in the same way."""
    return not op.stack or op.name not in graph_of(recording).slicer.text(recording.sites[op.stack[0]], 200)


def _lead(recording: Recording, op: Op, value: int, event: Event | None) -> Lead:
    graph = graph_of(recording)
    values = recording.values
    source = _source(recording, value, bool(_INDICES.search(recording.raised.message if recording.raised else "")))
    made = values[source].op
    symptom = recording.location(recording.raised.stack) if recording.raised is not None else None
    lead = Lead("dtype", None, rank=RANK, operation=recording.ops[made].name if made >= 0 else "")
    number = values[value].parameter if values[value].parameter >= 0 else values[source].parameter
    cast = recording.parameters[number].cast if number >= 0 else None
    if cast is not None and cast[1]:
        lead.location = recording.location(cast[1])
        lead.expression = graph.slicer.text(lead.location) if lead.location else ""
    elif made >= 0 and recording.ops[made].stack:
        lead.location = recording.location(recording.ops[made].stack)
        lead.expression = graph.text(made)
    else:
        lead.location = _born_in_python(recording, source) or recording.location(op.stack) or symptom
        lead.expression = lead.location.code if lead.location else ""
    dtype = kind(recording, value)
    needs = sorted({kind(recording, v) for v in op.inputs if values[v].shape} - {dtype})
    lead.details = {"dtype": dtype, "other": needs[0] if needs else "", "operation": op.name, "raised": True}
    if number >= 0:
        lead.affected = [recording.parameters[number].name]
    relate(lead, recording.location(op.stack), f"`{op.name}` cannot take it here")
    relate(lead, recording.location(event.stack) if event is not None else symptom, "the error is raised here")
    return lead


def _born_in_python(recording: Recording, value: int) -> Location | None:
    """The source of a tensor that no recorded call made: ``torch.from_numpy(…)``, an array, a data set."""
    met = recording.met.get(value)
    if met is None or met[0] >= len(recording.ops):
        return None
    slicer = graph_of(recording).slicer
    read = behind(recording, recording.ops[met[0]].stack)
    best: tuple[int, Location] | None = None
    for filename, expression in read.expressions:
        source = slicer.source(filename)
        for node in ast.walk(expression) if source is not None else ():
            rank = _maker(node)
            if rank and source is not None and (best is None or rank > best[0]):
                best = rank, locate(recording, source, node)
    return best[1] if best is not None else None


def _maker(node: ast.AST) -> int:
    """How likely a call gave a tensor its dtype: 0 for not at all."""
    if not isinstance(node, ast.Call):
        return 0
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "from_numpy" or name.endswith("Tensor"):
        return 3
    return 2 if name in ("tensor", "as_tensor", "astype") else 1 if name in _MAKERS else 0


def _alone(recording: Recording) -> list[Lead]:
    """A dtype error of a call that the recorder did not see: ``torch.tensor([1, 2], requires_grad=True)``."""
    error = recording.raised
    if error is None or not error.stack or not any(text in error.message for text in _UNSEEN):
        return []
    place = recording.location(error.stack)
    lead = Lead("dtype", place, rank=RANK, expression=place.code if place else "")
    lead.details = {"dtype": "", "other": "", "operation": "", "raised": True}
    return [lead]
