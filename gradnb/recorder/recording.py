"""The data model of a recording: plain facts about one checked piece of code, no opinions.

Everything here is a dataclass of numbers and strings. Nothing holds a tensor, a module or a frame, so a recording can
be kept, pickled and read by a diagnosis long after the user's objects are gone.

Indices: a *value* is one version of one tensor (an in-place operation makes a new value), an *op* is one recorded call,
a *site* is a place in the user's source; each is the position in the list of that name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .numeric import NonFinite, Profile


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the user's code. ``cell`` is the number of an execution, ``file`` a path; one of them is None."""

    cell: int | None
    file: str | None
    line: int  #: the line, from 1
    function: str  #: the name of the function it stands in
    code: str  #: the line's source text, without its indentation
    end_line: int | None = None  #: the last line of the expression, from 1
    column: int | None = None  #: from 0, of the expression that ran; None where Python does not tell
    end_column: int | None = None  #: from 0, the first behind the expression
    filename: str = ""  #: the code object's own file name, by which the source is found again

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {"cell": self.cell, "file": self.file, "line": self.line, "function": self.function, "code": self.code}

    def __str__(self) -> str:
        where = f"cell [{self.cell}]" if self.cell is not None else (self.file or "?")
        return f"{where}, line {self.line}"


@dataclass(slots=True)
class Value:
    """One version of one tensor, or a Python value (``kind="python"``) that a tensor turned into."""

    op: int  # the op that made it, -1 where it stood before the recording
    requires_grad: bool
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    leaf: bool = False
    kind: str = "tensor"  # "tensor" | "python"
    group: int = -1  # values with the same group share memory
    parameter: int = -1  # index into Recording.parameters, where it is one (or a later version of one)
    inference: bool = False  # made under torch.inference_mode()


@dataclass(slots=True)
class Region:
    """A stretch of the run in which gradients were switched off."""

    site: int  # the `with` line or the decorator line
    kind: str  # "no_grad" | "inference_mode" | "set_grad_enabled" | "function" (inside a custom Function's forward)
    decorator: bool = False
    library: str | None = None  # "torch.distributions" … where a library switched it off, not the user


@dataclass(slots=True)
class Op:
    """One recorded call."""

    name: str  # "linear", "detach", "item", …
    kind: str  # see KINDS
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    grad_enabled: bool
    region: int  # index into Recording.regions, -1 where gradients were on
    stack: tuple[int, ...]  # sites, innermost first
    module: str | None = None  # path of the module whose forward was running
    first_node: int = -1  # sequence numbers of the autograd nodes made: first_node <= n < last_node
    last_node: int = -1
    numbers: bool = False  # a Python number stood among its arguments
    error: str | None = None
    function: str | None = None  # class name of a custom autograd Function
    parent: int = -1  # index of the custom-Function op inside whose forward this one ran
    via: str | None = None  # the library that made the call on the user's behalf, where that matters


KINDS = (
    "op",  # an ordinary operation
    "cut",  # detach, .data: history is dropped by design
    "factory",  # a tensor made from Python data: torch.tensor, as_tensor, …
    "fresh",  # a tensor met for the first time, made where the recorder cannot look
    "leaf",  # nn.Parameter(x), x.requires_grad_(), deepcopy: a new leaf
    "escape",  # item, tolist, numpy, …: a value left torch
    "inplace",  # changes its first input
    "function",  # a custom autograd Function
    "grad",  # torch.autograd.grad
    "python",  # a Python value built from escaped ones (found by provenance)
)


@dataclass(slots=True)
class Parameter:
    """A parameter that took part or stands in the namespace (or another leaf that requires grad: see ``listed``)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    trainable: bool
    value: int = -1  # its Value, -1 where no recorded operation used it
    gradient: str = "none"  # "ok" | "none" | "zero" | "nan" | "inf": the best seen at any recorded step
    grad_norm: float | None = None
    optimizer: int | None = None
    moved: bool | None = None
    reached: bool = False  # some loss depends on it through data
    root: str = ""  # the top-level module it belongs to
    owner: str = ""  # class of the module that holds it, with "torch." in front where torch ships it
    registered: bool = True
    leaf: bool = True
    group: int | None = None  # the optimizer's param group
    attributes: tuple[str, ...] = ()  # names that the user's code set on the parameter object
    steps: dict[int, str] = field(default_factory=dict)  # event index of a step -> gradient state at that step
    training: bool = True  # was its module in train() mode when it ran
    called: bool = False  # was a module that holds it called
    ever_trainable: bool = True
    listed: bool = True  # False for a leaf that is no parameter of any module, optimizer or variable
    is_parameter: bool = True
    library: bool = False  # its module's class comes with torch
    hand_set: bool = False  # its .grad was assigned by hand
    cast: tuple[str, tuple[int, ...]] | None = None  # dtype that Module.to or half() gave it, and where
    fed_late: bool = False  # got its gradient after the fully recorded steps
    alive: bool = True
    current: bool = True  # False where the variable of its model holds another model by now
    anonymous: bool = False  # an nn.Parameter that no module and no variable holds (any more)


@dataclass(slots=True)
class Optimizer:
    name: str  # the class
    label: str  # the user's variable, where one is known
    site: int  # where it was built, -1 before the recording
    stack: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...] = ()  # parameter indices
    steps: int = 0
    time: int = -1  # op clock at construction
    alive: bool = True
    empty_groups: tuple[int, ...] = ()
    failed: bool = False  # its construction raised
    maximize: bool = False


@dataclass(slots=True)
class Event:
    """Something that happened in the training loop."""

    # "backward" | "grad" | "step" | "zero_grad" | "clip" | "mode", of a GradScaler "scale" | "unscale" | "scaler.step" | "update" |
    # "get_scale", and from the part that is only counted "gap" (it lies here) | "late_step"
    kind: str
    stack: tuple[int, ...]
    time: int  # number of ops recorded before it
    ok: bool = True
    error: str | None = None
    losses: tuple[int, ...] = ()  # values that backward()/grad() was called on
    inputs: tuple[int, ...] = ()  # values that autograd.grad(), or backward(inputs=…), was asked for
    optimizer: int | None = None
    full: bool = True  # False once the recorder only counts
    shape: tuple[int, ...] | None = None
    uncleared: tuple[int, ...] = ()  # a step's parameters whose gradient tensor is still the previous step's
    states: dict[int, tuple[str, float | None]] = field(default_factory=dict)  # parameter -> (gradient state, L2 norm)
    frozen: tuple[int, ...] = ()  # a step's parameters that did not require grad
    has_grad_fn: bool = True
    retain: bool = False  # a backward that kept its graph
    scaler: int = -1  # number of the GradScaler concerned
    enabled: bool = True  # is that GradScaler switched on
    inner: bool = False  # GradScaler.step made this call itself
    skipped: bool = False  # GradScaler.step left the optimizer's step out: the gradients were not finite
    numbers: tuple[int, ...] = ()  # the parameters that a clip or a zero_grad is about
    factors: tuple[tuple[int, str, float], ...] = ()  # constants next to the loss: op, "mul" or "div", number
    autocast: str = ""  # dtype of the autocast region that a backward ran in
    modes: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # root -> modules with a mode, in eval, of these dropouts
    root: str = ""  # the module whose mode was set, where it is a root
    training: bool = True  # the mode it was set to
    signs: dict[int, str] = field(default_factory=dict)  # op -> direction of the gradient that reached its output: "+", "-", "±", "0"
    shares: list["Share"] = field(default_factory=list)


@dataclass(slots=True)
class Share:
    """A mean negative log-likelihood under a loss, split into elements that are right and wrong. Losses are in nats."""

    op: int
    elements: int
    right: int
    loss_right: float
    loss_wrong: float
    never: int  # elements of classes none of whose members is right
    common: int = -1  # the most frequent class among the targets
    common_count: int = 0
    classes: int = 0


@dataclass(slots=True)
class ZeroBirth:
    """Where backward turned a non-zero gradient into an exact zero, or dropped it."""

    kind: str  # "zero" | "none" | "left-out" | "factor" | "cancelled" | "custom-zero" | "custom-none"
    node: str  # the autograd node's name
    op: int
    stack: tuple[int, ...]
    parameters: tuple[int, ...]
    event: int = -1  # the backward
    function: str | None = None  # the custom Function's class
    site: int = -1  # where its backward is written
    outputs: tuple[int, ...] = ()  # which of the Function's inputs got nothing
    detail: str = ""


@dataclass(slots=True)
class Loss:
    name: str
    value: float | None
    stack: tuple[int, ...]
    has_grad_fn: bool
    index: int = -1


@dataclass(slots=True)
class Raised:
    type: str
    message: str
    stack: tuple[int, ...]
    interrupted: bool = False
    op: int = -1  # the recorded call that raised it
    values: tuple[int, ...] = ()  # tensors that the message is about
    autocast: str = ""  # dtype of the autocast region that the recorded call ran in


@dataclass(slots=True)
class Spoiled:
    """A tensor that autograd saved for a failed backward pass and that was changed after that."""

    op: int  # the recorded call that saved it, -1 where none was recorded
    node: str  # the autograd node's name
    saved: str  # what the node calls it: "self", "result", "weight", …
    shape: tuple[int, ...]
    writer: str  # name of the operation whose output it is now; empty where autograd does not know
    writes: int  # how often it was changed
    values: tuple[int, ...] = ()  # recorded values in the same memory
    message: str = ""


@dataclass(slots=True)
class Absent:
    """A tensor whose ``.grad`` the failing statement read and that had none."""

    text: str  # as the statement calls it
    value: int
    parameter: int
    leaf: bool
    trainable: bool


@dataclass(slots=True)
class Holder:
    """A parameter or module kept where ``.parameters()`` does not look, or a computed tensor kept as if it were one."""

    owner: str  # class of the object that holds it
    attribute: str
    kind: str  # "parameters" | "non-leaf"
    names: tuple[str, ...]  # of the parameters it hides
    numbers: tuple[int, ...] = ()  # their indices, -1 where no operation used them
    root: str = ""
    value: int = -1
    site: int = -1  # where the attribute is assigned, found in the source


@dataclass(slots=True)
class Recording:
    sites: list[Location] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    optimizers: list[Optimizer] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    met: dict[int, tuple[int, int]] = field(default_factory=dict)  # value that no recorded op made -> (op that met it, argument)
    births: list[ZeroBirth] = field(default_factory=list)
    nonfinite: list[NonFinite] = field(default_factory=list)  # births of the first NaN or infinity
    escaped: list[NonFinite] = field(default_factory=list)  # … of such values that the user's code read itself
    profiles: list[Profile] = field(default_factory=list)
    options: dict[int, dict[str, float]] = field(default_factory=dict)  # optimizer -> lr, eps, … of its first group, at the end
    weights: dict[int, float] = field(default_factory=dict)  # parameter -> its L2 norm when it was first seen
    inits: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)  # parameter, where torch.nn.init filled it
    holders: list[Holder] = field(default_factory=list)
    raised: Raised | None = None
    spoiled: list[Spoiled] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    writes: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)  # parameter, time, place: load_state_dict wrote it
    sources: dict[str, str] = field(default_factory=dict)  # file name of a code object -> its source text
    cells: dict[str, int] = field(default_factory=dict)  # file name of a code object -> execution count
    modules: dict[str, str] = field(default_factory=dict)  # name of a root module -> its class
    paths: dict[str, tuple[str, str]] = field(default_factory=dict)  # Op.module -> the same with its root in front, class name
    shared: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # full path of a module -> its other ones, where it stands in several places
    buffers: dict[int, str] = field(default_factory=dict)  # Value.group -> path of the module's buffer that it is, root in front
    paddings: set[tuple[int, int]] = field(default_factory=set)  # padding_idx and rows of the embeddings of the recorded modules
    flags: list[tuple[str, str, bool]] = field(default_factory=list)  # modules with a stray requires_grad attribute: class, name, value
    switches: list[tuple[int, bool, tuple[int, ...]]] = field(default_factory=list)  # requires_grad set: parameter, to what, where
    environment: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what could not be recorded
    counted_steps: int = 0  # optimizer steps after the fully recorded ones
    memo: dict = field(default_factory=dict, repr=False, compare=False)  # for analyses that several diagnoses share

    def location(self, stack: tuple[int, ...]) -> Location | None:
        """The innermost place of a stack."""
        return self.sites[stack[0]] if stack else None
