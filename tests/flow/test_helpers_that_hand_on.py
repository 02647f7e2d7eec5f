"""A helper that only hands something on is not to blame: the line that called it chose."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

import gradnb


def flat_grad(output, params, create_graph=False):
    grads = torch.autograd.grad(output, params, create_graph=create_graph)
    return torch.cat([grad.reshape(-1) for grad in grads])


class Agent:
    """The policy update of TRPO, with a value function in the same module."""

    def __init__(self):
        torch.manual_seed(0)
        self.policy = nn.ModuleDict({"pol": nn.Linear(3, 2), "vf": nn.Linear(3, 1)})
        self.params = list(self.policy["pol"].parameters())
        self.obs, self.acs = torch.randn(8, 3), torch.randn(8, 2)

    def dist(self):
        return Normal(self.policy["pol"](self.obs), 1.0)

    def gradient(self, acs):
        return flat_grad(self.dist().log_prob(acs).mean(), self.params)

    def product(self, v):
        with torch.no_grad():
            old = self.dist()
        slope = flat_grad(kl_divergence(old, self.dist()).sum(-1).mean(), self.params)  # create_graph is forgotten
        return flat_grad(slope.dot(v), self.params)

    def move(self, acs):
        step = self.gradient(acs)
        everything = torch.cat([p.data.reshape(-1) for p in self.policy.parameters()])
        return everything + step


def finding(run):
    with pytest.raises(RuntimeError), gradnb.check() as report:
        run()
    (only,) = [f for f in report.findings if f.severity == "error"]
    return only


def test_a_second_derivative_that_fails_is_blamed_on_the_call_that_forgot_create_graph():
    agent = Agent()
    found = finding(lambda: agent.product(agent.gradient(agent.acs)))
    assert found.cause == "not-twice-differentiable"
    assert "create_graph is forgotten" in found.location.code, "neither the helper nor the vector, which is a constant on purpose"
    assert not any("__eq__" in r.note for r in found.related), "a check inside torch.distributions is no path to the loss"


def test_the_other_of_two_flat_vectors_is_named_where_its_list_was_handed_over():
    agent = Agent()
    found = finding(lambda: agent.move(agent.acs))
    assert found.cause == "shape-mismatch" and "self.policy.parameters()" in found.location.code
    (other,) = [r.location for r in found.related if "other vector" in r.note]
    assert other.code == "return flat_grad(self.dist().log_prob(acs).mean(), self.params)"
