import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

torch.manual_seed(21)


class MlpPolicy(nn.Module):
    """A Gaussian policy and a value function in one module."""

    def __init__(self, observations=5, actions=2, hidden=12):
        super().__init__()
        self.pol_net = nn.Sequential(nn.Linear(observations, hidden), nn.Tanh(), nn.Linear(hidden, actions))
        self.logstd = nn.Parameter(torch.full((actions,), -0.5))
        self.vf_net = nn.Sequential(nn.Linear(observations, hidden), nn.Tanh())
        self.vf_final = nn.Linear(hidden, 1)

    def distribution(self, obs):
        return Normal(self.pol_net(obs), self.logstd.exp())

    def get_value(self, obs):
        return self.vf_final(self.vf_net(obs)).squeeze(-1)


def collect(policy, steps=24):
    """One trajectory of a point that is to be kept near the origin."""
    obs, acs, rewards = [], [], []
    state = torch.randn(5)
    with torch.no_grad():
        for _ in range(steps):
            action = policy.distribution(state).sample()
            obs.append(state)
            acs.append(action)
            rewards.append(-state.pow(2).mean())
            state = 0.9 * state + 0.1 * torch.randn(5) + 0.1 * torch.cat([action, action.new_zeros(3)])
    returns, total = [], torch.zeros(())
    for reward in reversed(rewards):
        total = reward + 0.95 * total
        returns.append(total)
    return torch.stack(obs), torch.stack(acs), torch.stack(returns[::-1])


def flat_grad(output, parameters, create_graph=False):
    grads = torch.autograd.grad(output, parameters, create_graph=create_graph)
    return torch.cat([g.reshape(-1) for g in grads])


def conjugate_gradient(product, b, iterations=4):
    x, r, p = torch.zeros_like(b), b.clone(), b.clone()
    for _ in range(iterations):
        z = product(p)
        alpha = r.dot(r) / p.dot(z)
        x, previous = x + alpha * p, r.dot(r)
        r = r - alpha * z
        p = r + (r.dot(r) / previous) * p
    return x


class TRPO:
    def __init__(self, policy, max_kl=0.01, damping=0.1):
        self.policy, self.max_kl, self.damping = policy, max_kl, damping
        self.policy_params = [p for n, p in policy.named_parameters() if n.startswith(("pol", "logstd"))]
        self.vf_optimizer = torch.optim.Adam([p for n, p in policy.named_parameters() if n.startswith("vf")], lr=1e-2)

    def _compute_kl(self, obs, old):
        return kl_divergence(old, self.policy.distribution(obs)).sum(dim=-1)

    def update_value_function(self, obs, returns):
        vf_loss = (self.policy.get_value(obs) - returns).pow(2).mean()
        self.vf_optimizer.zero_grad()
        vf_loss.backward()
        self.vf_optimizer.step()
        return vf_loss.item()

    def update_policy(self, obs, acs, adv):
        with torch.no_grad():
            old = self.policy.distribution(obs)
            old_logp = old.log_prob(acs).sum(dim=-1)

        def surrogate():
            ratio = torch.exp(self.policy.distribution(obs).log_prob(acs).sum(dim=-1) - old_logp)
            return (ratio * adv).mean()

        def fisher_product(v):
            kl = self._compute_kl(obs, old)  # <- here: not-scalar
            slope = flat_grad(kl, self.policy_params, create_graph=True)
            return flat_grad(slope.dot(v), self.policy_params) + self.damping * v

        gradient = flat_grad(surrogate(), self.policy_params)
        direction = conjugate_gradient(fisher_product, gradient)
        scale = torch.sqrt(2 * self.max_kl / direction.dot(fisher_product(direction)))
        self._line_search(obs, old, surrogate, scale * direction)

    def _line_search(self, obs, old, surrogate, full_step):
        before = surrogate().item()
        start = [p.detach().clone() for p in self.policy_params]
        sizes = [p.numel() for p in self.policy_params]
        for fraction in (1.0, 0.5, 0.25):
            with torch.no_grad():
                for p, p0, part in zip(self.policy_params, start, full_step.split(sizes)):
                    p.copy_(p0 + fraction * part.view_as(p))
                if surrogate().item() > before and self._compute_kl(obs, old).mean().item() < 1.5 * self.max_kl:
                    return True
        with torch.no_grad():
            for p, p0 in zip(self.policy_params, start):
                p.copy_(p0)
        return False


policy = MlpPolicy()
trpo = TRPO(policy)
for iteration in range(2):
    obs, acs, returns = collect(policy)
    adv = returns - policy.get_value(obs).detach()
    vf_loss = trpo.update_value_function(obs, returns)
    trpo.update_policy(obs, acs, (adv - adv.mean()) / adv.std())
    print(f"Iteration {iteration}: Average Return = {returns.mean().item():.2f}, value loss = {vf_loss:.3f}")
