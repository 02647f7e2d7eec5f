import gymnasium as gym
from stable_baselines3 import DQN

env = gym.make("CartPole-v1")
agent = DQN(
    "MlpPolicy",
    env,
    learning_starts=50,
    batch_size=16,
    train_freq=4,
    target_update_interval=40,
    seed=1,
    device="cpu",
    policy_kwargs={"net_arch": [16]},
)
agent.learn(total_timesteps=150)
policy = agent.policy
env.close()
del agent
