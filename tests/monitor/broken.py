"""Silent bugs as small training loops: each runs to its end without an error, and something in its history is wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.monitor.healthy import Watch, accuracy, blobs, mlp


def classify(watch: Watch, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, **options: Any) -> Any:
    """The loop that most of these share; what is wrong is in the model or the optimizer."""
    x, y = options.pop("data", None) or blobs()
    zero, clip = options.pop("zero_grad", True), options.pop("clip", 0.0)
    monitor = watch(model, optimizer, **options)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        if zero:
            optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def _agent_and_prompt(watch: Watch, steps: int, frozen: bool) -> Any:
    agent, qwen = mlp(16, 32, 4), mlp(16, 32, 16)
    if frozen:
        qwen.requires_grad_(False)
    optimizer = torch.optim.Adam([{"params": agent.parameters()}, {"params": qwen.parameters(), "lr": 5e-5}], lr=1e-3)
    monitor = watch({"agent": agent, "qwen": qwen}, optimizer)
    x, y = blobs()
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        prompt = qwen(x[rows])
        loss = F.cross_entropy(agent(x[rows] + (prompt if frozen else prompt.detach())), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def frozen_part(watch: Watch, steps: int = 60) -> Any:
    """The optimizer holds the language model, whose parameters were frozen long ago: Qwen_grad 0.00e+00."""
    return _agent_and_prompt(watch, steps, frozen=True)


def detached_part(watch: Watch, steps: int = 60) -> Any:
    """The prompt is detached on its way to the agent."""
    return _agent_and_prompt(watch, steps, frozen=False)


def zero_init(watch: Watch, steps: int = 60) -> Any:
    """All weights start at zero, and stay there."""
    model = mlp(16, 32, 32, 4)
    for p in model.parameters():
        nn.init.zeros_(p)
    return classify(watch, model, torch.optim.Adam(model.parameters(), lr=1e-3), steps)


def rate_too_large(watch: Watch, steps: int = 120) -> Any:
    model = mlp(16, 64, 64, 4)
    return classify(watch, model, torch.optim.Adam(model.parameters(), lr=1.0), steps)


def rate_too_large_sgd(watch: Watch, steps: int = 120) -> Any:
    model = mlp(16, 64, 64, 4, act=nn.Tanh)
    return classify(watch, model, torch.optim.SGD(model.parameters(), lr=50.0), steps)


def rate_too_small(watch: Watch, steps: int = 120) -> Any:
    model = mlp(16, 64, 64, 4)
    return classify(watch, model, torch.optim.Adam(model.parameters(), lr=1e-8), steps)


def dead_units(watch: Watch, steps: int = 120) -> Any:
    """Biases of -10: the ReLUs of the second layer never open."""
    model = mlp(16, 64, 64, 4)
    nn.init.constant_(model[2].bias, -10.0)
    return classify(watch, model, torch.optim.SGD(model.parameters(), lr=0.05), steps, activations=True)


def saturated_units(watch: Watch, steps: int = 120) -> Any:
    """Inputs in the hundreds, as pixels of 0 to 255 are: the sigmoids stand at 0 or 1."""
    x, y = blobs()
    model = mlp(16, 64, 4, act=nn.Sigmoid)
    return classify(watch, model, torch.optim.SGD(model.parameters(), lr=0.05), steps, data=(100 * x, y), activations=True)


def exploding_recurrence(watch: Watch, steps: int = 60) -> Any:
    """A recurrent net whose weights start three times too large, over 40 time steps."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.RNN(4, 32, nonlinearity="relu", batch_first=True), nn.Linear(32, 1)
            nn.init.normal_(self.rnn.weight_hh_l0, std=0.4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x)[0][:, -1]).squeeze(-1)

    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        x = torch.randn(16, 40, 4)
        loss = F.mse_loss(model(x), x.mean((1, 2)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def vanishing_depth(watch: Watch, steps: int = 120) -> Any:
    """Twelve sigmoid layers."""
    model = mlp(*[16] * 13, 4, act=nn.Sigmoid)
    return classify(watch, model, torch.optim.Adam(model.parameters(), lr=1e-3), steps)


def vanishing_depth_sgd(watch: Watch, steps: int = 120) -> Any:
    model = mlp(*[16] * 13, 4, act=nn.Sigmoid)
    return classify(watch, model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), steps)


def no_zero_grad(watch: Watch, steps: int = 120) -> Any:
    """Gradients of all steps pile up."""
    model = mlp(16, 64, 4)
    return classify(watch, model, torch.optim.SGD(model.parameters(), lr=0.01), steps, zero_grad=False)


def log_of_zero(watch: Watch, steps: int = 80) -> Any:
    """A probability reaches exactly zero after a while, and its logarithm is minus infinity."""
    x, y = blobs()
    model = mlp(16, 32, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = watch(model, optimizer)
    for step in range(steps):
        rows = torch.randint(len(x), (32,))
        share = model(x[rows]).softmax(-1)
        if step >= 40:
            share = share * (share > 0.3)
        loss = -(F.one_hot(y[rows], 4) * share.log()).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def scale_collapse(watch: Watch, steps: int = 80) -> Any:
    """Every backward pass overflows, whatever the scale: the scaler halves and skips for ever."""
    x, y = blobs()
    model = mlp(16, 32, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    monitor = watch(model, optimizer, scaler=scaler)
    for step in range(steps):
        rows = torch.randint(len(x), (32,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        if step >= 20:
            loss = loss + (model[0].weight.sum() * 0).sqrt()  # the slope of a root at 0 is infinite: 0 * inf
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        monitor.log(loss=loss.item())
    return monitor


def clipped_to_nothing(watch: Watch, steps: int = 160) -> Any:
    """max_norm=1e-3 where the gradients have norm 1: SGD crawls."""
    model = mlp(16, 64, 4)
    return classify(watch, model, torch.optim.SGD(model.parameters(), lr=0.1), steps, clip=1e-3)


def loss_without_metric(watch: Watch, steps: int = 300) -> Any:
    """The loss is a distance of embeddings that can shrink by itself; the accuracy stays at chance (field report: 8.2 to 7.5, 0 %)."""
    x, y = blobs()
    model, head = mlp(16, 32, 8), nn.Linear(8, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        out = model(x[rows])
        loss = 0.05 + out.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), accuracy=accuracy(head(out), torch.randint(4, (32,))))
    return monitor


def loss_of_the_wrong_sign(watch: Watch, steps: int = 300) -> Any:
    """A log-likelihood is minimised: the loss falls, and with it the accuracy of a model that knew something."""
    x, y = blobs()
    model = mlp(16, 32, 4)
    for _ in range(60):  # it starts from a model that knows something
        step = torch.optim.SGD(model.parameters(), lr=0.2)
        step.zero_grad()
        F.cross_entropy(model(x), y).backward()
        step.step()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        out = model(x[rows])
        loss = 10 - F.cross_entropy(out, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), accuracy=accuracy(out, y[rows]))
    return monitor


def shuffled_labels(watch: Watch, steps: int = 300) -> Any:
    """The labels belong to other rows: the training loss falls by heart, the validation accuracy stays at chance."""
    x, y = blobs(256)
    other, truth = blobs(256)
    y = y[torch.randperm(len(y))]
    model = mlp(16, 128, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    monitor = watch(model, optimizer)
    held, labels = x[128:], torch.randint(4, (128,))
    for step in range(steps):
        rows = torch.randint(128, (32,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
        if step % 10 == 9:
            with torch.no_grad():
                monitor.log(val_accuracy=accuracy(model(held), labels))
    return monitor


def shut_gate(watch: Watch, steps: int = 200) -> Any:
    """The memory keeps what is better than 0.95, and nothing ever is: 0 of 2725 updates."""
    x, y = blobs(noise=4.0)
    model = mlp(16, 32, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        scores = model(x[rows])
        loss = F.cross_entropy(scores, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
        monitor.gate("memory", fired=accuracy(scores, y[rows]) > 0.99)
    return monitor


def negative_reward(watch: Watch, steps: int = 250) -> Any:
    """The sign of the policy loss is wrong: the reward never rises above what it was."""
    policy = mlp(4, 32, 3)
    optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3)
    monitor = watch(policy, optimizer)
    for _ in range(steps):
        state = torch.randn(32, 4)
        chosen = torch.distributions.Categorical(logits=policy(state))
        action = chosen.sample()
        reward = torch.where(action == state[:, :3].argmax(-1), -0.1, -1.0)
        loss = (chosen.log_prob(action) * (reward + 0.7)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), reward=reward.mean().item())
    return monitor


def empty_mask(watch: Watch, steps: int = 120) -> Any:
    """The mask compares scores with labels instead of predictions with labels, so next to nothing is left of the loss."""
    x, y = blobs()
    model = mlp(16, 32, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        scores = model(x[rows])
        mask = (scores.max(-1).values.round() == 7).float()
        ratio = mask.mean()
        loss = F.cross_entropy(scores, y[rows]) * (0.5 + 0.5 * ratio)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), mask_ratio=ratio.item())
    return monitor


def other_parameters(watch: Watch, steps: int = 80) -> Any:
    """The optimizer was built for a model that was replaced afterwards."""
    old = mlp(16, 32, 4)
    optimizer = torch.optim.Adam(old.parameters(), lr=1e-3)
    return classify(watch, mlp(16, 32, 4), optimizer, steps)


def momentum_swings(watch: Watch, steps: int = 300) -> Any:
    """Momentum of 0.999: the loss swings up and down for hundreds of steps."""
    x = torch.randn(256, 8)
    y = x @ torch.randn(8, 1)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.999)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def replaced_head(watch: Watch, steps: int = 80) -> Any:
    """The head was replaced for the new task after the optimizer was built: it gets gradients, and nobody moves it."""
    model = mlp(16, 32, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model[2] = nn.Linear(32, 4)
    return classify(watch, model, optimizer, steps)


def one_group_too_slow(watch: Watch, steps: int = 120) -> Any:
    """The rate of one parameter group was meant to be 1e-1, and is 3e-6."""
    model = mlp(16, 32, 32, 4)
    groups = [{"params": model[0].parameters(), "lr": 3e-6}, {"params": [*model[2].parameters(), *model[4].parameters()]}]
    return classify(watch, model, torch.optim.SGD(groups, lr=0.1), steps)
