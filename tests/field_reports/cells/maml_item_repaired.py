import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(3)

# Rotations of the Bloch sphere about x, y and z, and the loss of coherence.
LX = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
LY = torch.tensor([[0.0, 0, 1], [0, 0, 0], [-1, 0, 0]])
LZ = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]])
DECAY = torch.diag(torch.tensor([-1.0, -1, 0]))


class QuantumEnvironment:
    """A two-level system on the Bloch sphere: pulses turn it, dephasing shrinks it."""

    def __init__(self, detuning, dephasing, dt=0.4):
        self.detuning, self.dephasing, self.dt = detuning, dephasing, dt
        self.features = torch.tensor([detuning, dephasing])
        self.ground = torch.tensor([0.0, 0.0, 1.0])
        self.miscalibrations = (0.9, 1.0, 1.1)

    def generator(self, pulse):
        return pulse[0] * LX + pulse[1] * LY + self.detuning * LZ + self.dephasing * DECAY

    def evolve(self, controls, scale):
        state = self.ground
        for pulse in controls:
            state = torch.linalg.matrix_exp(self.dt * self.generator(scale * pulse)) @ state
        return state

    def fidelity(self, state):
        return 0.5 * (1 - state @ self.ground)

    def compute_loss_differentiable(self, controls):
        losses = []
        for scale in self.miscalibrations:
            losses.append(1 - self.fidelity(self.evolve(controls, scale)))
        return torch.stack(losses).mean()


class ControlPolicy(nn.Module):
    """Task features to piecewise-constant control amplitudes."""

    def __init__(self, segments=5, hidden=16):
        super().__init__()
        self.segments = segments
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2 * segments))

    def forward(self, features):
        return 1.2 * torch.tanh(self.net(features)).view(self.segments, 2)


class DiffOptimizer:
    """Gradient descent whose updates can be differentiated through."""

    def __init__(self, parameters, lr):
        self.parameters, self.lr = dict(parameters), lr

    def step(self, loss):
        gradients = torch.autograd.grad(loss, list(self.parameters.values()), create_graph=True)
        self.parameters = {n: p - self.lr * g for (n, p), g in zip(self.parameters.items(), gradients)}


class MAML:
    def __init__(self, policy, first_order, inner_steps=2, inner_lr=0.5, meta_lr=0.02):
        self.policy, self.first_order = policy, first_order
        self.inner_steps, self.inner_lr = inner_steps, inner_lr
        self.meta_optimizer = torch.optim.Adam(policy.parameters(), lr=meta_lr)

    def task_loss(self, parameters, environment):
        controls = functional_call(self.policy, parameters, (environment.features,))
        return environment.compute_loss_differentiable(controls)

    def inner_loop(self, environment):
        fast = {n: p.detach().clone().requires_grad_() for n, p in self.policy.named_parameters()}
        for _ in range(self.inner_steps):
            gradients = torch.autograd.grad(self.task_loss(fast, environment), list(fast.values()))
            fast = {n: (p - self.inner_lr * g).detach().requires_grad_() for (n, p), g in zip(fast.items(), gradients)}
        return fast

    def inner_loop_higher(self, environment):
        diffopt = DiffOptimizer(self.policy.named_parameters(), self.inner_lr)
        for _ in range(self.inner_steps):
            loss = self.task_loss(diffopt.parameters, environment)
            diffopt.step(loss)
        return diffopt.parameters

    def meta_step(self, tasks):
        self.meta_optimizer.zero_grad()
        total = 0.0
        for support, query in tasks:
            fast = self.inner_loop(support) if self.first_order else self.inner_loop_higher(support)
            loss = self.task_loss(fast, query) / len(tasks)
            if self.first_order:
                for p, g in zip(self.policy.parameters(), torch.autograd.grad(loss, list(fast.values()))):
                    p.grad = g if p.grad is None else p.grad + g
            else:
                loss.backward()
            total += loss.item()
        self.meta_optimizer.step()
        return total


def draw_tasks(count=2):
    noise = torch.rand(count, 2).tolist()
    return [(QuantumEnvironment(d, 0.1 * g), QuantumEnvironment(d + 0.05, 0.1 * g)) for d, g in noise]


policy = ControlPolicy()
trainer = MAML(policy, first_order=True)
for iteration in range(2):
    print(f"Iter {iteration} | first_order={trainer.first_order} | Meta Loss: {trainer.meta_step(draw_tasks()):.4f}")
