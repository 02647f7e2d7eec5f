import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn


class Curiosity(nn.Module):
    """Predicts the next observation; its error is the bonus."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))

    def error(self, obs, following):
        predicted = self.net(obs).detach().numpy()  # <- here numpy
        return ((predicted - following) ** 2).mean(axis=1)


env = gym.make("CartPole-v1")
policy = ActorCriticPolicy(env.observation_space, env.action_space, lambda _: 3e-4, net_arch=[16])
curiosity = Curiosity()
optimizer = torch.optim.Adam([*policy.parameters(), *curiosity.parameters()], lr=3e-4)
obs, _ = env.reset(seed=1)
rows, actions, rewards, following = [], [], [], []
for _ in range(32):
    with torch.no_grad():
        action = policy(torch.as_tensor(obs)[None])[0]
    rows.append(obs)
    obs, reward, done, _, _ = env.step(action.item())
    actions.append(action.item())
    rewards.append(reward)
    following.append(obs)
    if done:
        obs, _ = env.reset()
rows, following = np.array(rows), np.array(following)
returns = torch.tensor(np.cumsum(rewards[::-1])[::-1].copy(), dtype=torch.float32)
for _ in range(3):
    values, log_prob, entropy = policy.evaluate_actions(torch.as_tensor(rows), torch.tensor(actions))
    advantage = (returns - values.squeeze(-1)).detach()
    bonus = torch.from_numpy(curiosity.error(torch.as_tensor(rows), following)).mean()
    loss = -(advantage * log_prob).mean() + nn.functional.mse_loss(values.squeeze(-1), returns) + 0.1 * bonus
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
env.close()
