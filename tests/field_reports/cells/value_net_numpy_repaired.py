import torch
from torch import nn
from torch.distributions import Normal

torch.manual_seed(22)


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

    def get_value(self, ob):
        """The values for the advantages, as an array."""
        with torch.no_grad():
            return self.get_value_train(torch.as_tensor(ob, dtype=torch.float32)).cpu().numpy()

    def get_value_train(self, ob):
        """The values with their history, for the update."""
        return self.vf_final(self.vf_net(ob.clamp(-5.0, 5.0))).squeeze(-1)


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


class ActorCritic:
    def __init__(self, policy, vf_iters=2, device="cpu"):
        self.policy, self.vf_iters, self.device = policy, vf_iters, device
        self.pol_optimizer = torch.optim.Adam([*policy.pol_net.parameters(), policy.logstd], lr=1e-2)
        self.vf_optimizer = torch.optim.Adam([p for n, p in policy.named_parameters() if n.startswith("vf")], lr=1e-2)

    def advantages(self, obs, returns):
        adv = returns - torch.from_numpy(self.policy.get_value(obs.numpy()))
        return (adv - adv.mean()) / (adv.std() + 1e-8)

    def update_policy(self, obs, acs, adv):
        surrogate = -(self.policy.distribution(obs).log_prob(acs).sum(dim=-1) * adv).mean()
        self.pol_optimizer.zero_grad()
        surrogate.backward()
        self.pol_optimizer.step()

    def update_value_function(self, obs, returns):
        losses = []
        for _ in range(self.vf_iters):
            for batch_obs, batch_returns in zip(obs.split(12), returns.split(12)):
                values = self.policy.get_value_train(batch_obs)
                vf_loss = (values - batch_returns).pow(2).mean()
                self.vf_optimizer.zero_grad()
                vf_loss.backward()
                self.vf_optimizer.step()
                losses.append(vf_loss.item())
        return sum(losses) / len(losses)


policy = MlpPolicy()
learner = ActorCritic(policy)
for iteration in range(2):
    obs, acs, returns = collect(policy)
    learner.update_policy(obs, acs, learner.advantages(obs, returns))
    vf_loss = learner.update_value_function(obs, returns)
    print(f"Iteration {iteration}: Average Return = {returns.mean().item():.2f}, value loss = {vf_loss:.3f}")
