"""What each torch function means to the recorder, by its name."""

from __future__ import annotations

from typing import Any, NamedTuple

SKIP = "skip"

# Property reads and questions that make no tensor worth following.
_SKIPPED_GETS = set(
    "shape dtype device is_leaf grad_fn requires_grad ndim is_cuda is_sparse is_meta is_quantized layout itemsize nbytes names _version "
    "output_nr _base is_nested is_mkldnn is_xpu is_mps is_cpu is_vulkan name retains_grad _backward_hooks _post_accumulate_grad_hooks "
    "is_inference _grad _grad_fn volatile is_ipu is_xla is_hpu is_maia is_mtia is_sparse_csr is_sparse_csc grad_dtype".split()
)
_SKIPPED = set(
    "size dim numel stride is_floating_point is_complex is_contiguous storage_offset element_size __len__ __repr__ __format__ __hash__ "
    "is_same_size get_device data_ptr untyped_storage storage storage_type type_as_number ndimension nelement is_pinned is_shared "
    "register_hook register_post_accumulate_grad_hook retain_grad is_inference is_signed is_conj is_neg has_names __contains__ "
    "_parse_to _has_compatible_shallow_copy_type _is_all_true __dir__ __reduce_ex__ __setstate__ _is_view _is_zerotensor is_nonzero "
    "_record_function_enter_new _record_function_exit _record_function_exit._RecordFunction get_default_dtype set_default_dtype "
    "manual_seed get_rng_state set_rng_state share_memory_ pin_memory_ is_grad_enabled can_cast result_type promote_types finfo iinfo "
    "__torch_dispatch__ _use_cudnn_ctc_loss is_storage is_tensor has_torch_function allclose equal broadcast_shapes "
    "is_distributed is_set_to sym_size sym_numel _debug_has_internal_overlap tensor_split_sizes".split()
)
_ESCAPES = set("item __float__ __int__ __index__ __complex__ tolist numpy __array__ __bool__".split())
_FACTORIES = set(
    "tensor as_tensor asarray from_numpy full full_like new_tensor scalar_tensor new_full from_dlpack frombuffer linspace logspace".split()
)
_EMPTY = set(
    "zeros ones empty zeros_like ones_like empty_like rand randn randint rand_like randn_like randint_like arange eye "
    "randperm new_zeros new_ones new_empty empty_strided new_empty_strided tril_indices triu_indices hann_window hamming_window "
    "__lazy".split()
)
_VIEWS = set(
    "view reshape __getitem__ transpose t permute squeeze unsqueeze expand expand_as flatten unflatten narrow select unbind chunk split "
    "split_with_sizes diagonal as_strided view_as view_as_real view_as_complex real imag movedim swapaxes detach data T mT H mH adjoint "
    "contiguous unfold ravel tensor_split hsplit vsplit dsplit alias slice numpy __array__ to type requires_grad_ float double cpu "
    "half bfloat16 type_as cuda positive conj resolve_conj resolve_neg atleast_1d atleast_2d atleast_3d".split()
)
_INPLACE_DUNDERS = set(
    "__setitem__ __iadd__ __isub__ __imul__ __idiv__ __itruediv__ __ifloordiv__ __imod__ __ipow__ __iand__ __ior__ __ixor__".split()
)
_NOT_INPLACE = set("requires_grad_ retain_grad_".split())


class Operation(NamedTuple):
    name: str
    kind: str  # SKIP, or one of the kinds the mode dispatches on
    view: bool
    inplace: bool


def describe(func: Any) -> Operation:
    """The Operation for a function that ``__torch_function__`` was given."""
    name = getattr(func, "__name__", "") or ""
    owner = getattr(func, "__self__", None)
    if name in ("__get__", "__set__", "__delete__"):
        field = getattr(owner, "__name__", "")
        if name == "__get__":
            return _getter(field)
        return _setter(field)
    if name == "_set_grad_enabled":
        return Operation(name, "grad_mode", False, False)
    module = getattr(func, "__module__", "") or ""
    if name == "backward":
        return Operation(name, "backward", False, False)
    if name == "grad" and module.startswith("torch.autograd"):
        return Operation(name, "autograd.grad", False, False)
    if name in _SKIPPED or name.startswith("_record_function"):
        return Operation(name, SKIP, False, False)
    if name in _ESCAPES:
        return Operation(name, "escape", False, False)
    if name in _FACTORIES:
        return Operation(name, "factory", False, False)
    if name in _EMPTY:
        return Operation(name, "empty", False, False)
    if name == "requires_grad_":
        return Operation(name, "requires_grad", True, False)
    if name == "__deepcopy__":
        return Operation("deepcopy", "leaf", False, False)
    if name == "detach":
        return Operation(name, "cut", True, False)
    if name == "detach_":
        return Operation(name, "cut", True, True)
    inplace = name in _INPLACE_DUNDERS or (name.endswith("_") and not name.endswith("__") and name not in _NOT_INPLACE)
    if inplace:
        return Operation(name, "inplace", False, True)
    return Operation(name, "op", name in _VIEWS, False)


def _getter(field: str) -> Operation:
    if field == "data":
        return Operation("data", "cut", True, False)
    if field == "grad":
        return Operation("grad", "gradient", False, False)
    if field in _SKIPPED_GETS:
        return Operation(field, SKIP, False, False)
    if field in ("T", "mT", "H", "mH", "real", "imag"):
        return Operation(field, "op", True, False)
    return Operation(field, SKIP, False, False)


def _setter(field: str) -> Operation:
    if field == "data":
        return Operation("data", "set_data", False, True)
    if field == "grad":
        return Operation("grad", "set_grad", False, False)
    if field == "requires_grad":
        return Operation("requires_grad", "requires_grad", True, False)
    return Operation(field, SKIP, False, False)
