import gymnasium as gym
from stable_baselines3 import PPO

env = gym.make("CartPole-v1")
agent = PPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=2, seed=1, device="cpu", policy_kwargs={"net_arch": [16]})
agent.learn(total_timesteps=128)
policy = agent.policy
env.close()
del agent
