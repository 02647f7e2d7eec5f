"""Custom autograd Functions, each with the mistake that its name tells."""

from __future__ import annotations

import torch
from torch.autograd import Function


class HalfWeight(Function):
    """x * weight ** 2, whose gradient for weight lacks its factor 2."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight**2

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad * weight**2, (grad * x * weight).sum(0)


class Cube(Function):
    """Right."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2


class WrongSign(Cube):
    @staticmethod
    def backward(ctx, grad):
        return -3 * grad * ctx.saved_tensors[0] ** 2


class IgnoresGradOutput(Cube):
    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] ** 2


class Clips(Cube):
    @staticmethod
    def backward(ctx, grad):
        return (3 * grad * ctx.saved_tensors[0] ** 2).clamp(-0.1, 0.1)


class NotFinite(Cube):
    @staticmethod
    def backward(ctx, grad):
        return grad / (ctx.saved_tensors[0] * 0)


class LastColumn(Cube):
    @staticmethod
    def backward(ctx, grad):
        out = 3 * grad * ctx.saved_tensors[0] ** 2
        out[..., -1] *= 1.5
        return out


class WrongShape(Cube):
    @staticmethod
    def backward(ctx, grad):
        return (3 * grad * ctx.saved_tensors[0] ** 2).sum(0)[:1].expand(7, 7)


class Transposed(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight.T, grad.T @ x


class MeanAsSum(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return ((x - target) ** 2).mean()

    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.saved_tensors
        return grad * 2 * (x - target), None


class NoGradForWeight(HalfWeight):
    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[1] ** 2, None


class TwoOutputs(Function):
    """exp and sin, and the gradient of the second is not used."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp(), x.sin()

    @staticmethod
    def backward(ctx, grad_exp, grad_sin):
        return grad_exp * ctx.saved_tensors[0].exp()


class Round(Function):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad


class StepSize(Function):
    """A quantizer with a learned step: both of its gradients are made up."""

    @staticmethod
    def forward(ctx, x, step):
        ctx.save_for_backward(x, step)
        return (x / step).round() * step

    @staticmethod
    def backward(ctx, grad):
        x, step = ctx.saved_tensors
        ratio = x / step
        return grad, (grad * (ratio.round() - ratio)).sum()


class Clamp(Function):
    """Lets the gradient pass where the clamp stops it."""

    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Reversal(Function):
    """Gradient reversal."""

    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.strength * grad, None


class InPlace(Function):
    """Right, and it changes its argument."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(3)

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad


class OnlyOnce(Cube):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2


class ComplexSquare(Function):
    """The conjugate is missing."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * z

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


class WithSetup(Function):
    """The newer form, with forward and setup_context; the second gradient is 3 times too large."""

    @staticmethod
    def forward(x, gain):
        return x * gain

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, gain = ctx.saved_tensors
        return grad * gain, 3 * (grad * x).sum()
