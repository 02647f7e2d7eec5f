import gymnasium as gym
from stable_baselines3 import SAC

env = gym.make("Pendulum-v1")
agent = SAC("MlpPolicy", env, learning_starts=30, batch_size=16, seed=1, device="cpu", policy_kwargs={"net_arch": [16, 16]})
agent.learn(total_timesteps=60)
policy = agent.policy
env.close()
del agent
