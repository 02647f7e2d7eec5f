from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(13)
COLOURS, PROMPT = 6, 16


@dataclass
class LanguageModelConfig:
    vocabulary: int = 40
    width: int = 20
    layers: int = 2


class LanguageModel(nn.Module):
    """A small stand-in for a pretrained decoder."""

    def __init__(self, config):
        super().__init__()
        self.embed = nn.Embedding(config.vocabulary, config.width)
        narrow, wide = config.width, 2 * config.width
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(narrow), nn.Linear(narrow, wide), nn.SiLU(), nn.Linear(wide, narrow)) for _ in range(config.layers)
        )

    def forward(self, tokens):
        hidden = self.embed(tokens)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return hidden.mean(dim=1)


class HybridPrompt(nn.Module):
    """Reads a task as text and as numbers, and fuses both into one prompt."""

    def __init__(self, config):
        super().__init__()
        self.lm = LanguageModel(config)
        self.text = nn.Linear(config.width, PROMPT)
        self.numbers = nn.Linear(3, PROMPT)

    def forward(self, tokens, numbers):
        return 0.5 * (self.text(self.lm(tokens)) + self.numbers(numbers))


class GridAgent(nn.Module):
    """Paints the output grid from the input grid, led by the prompt."""

    def __init__(self, width=12):
        super().__init__()
        self.look = nn.Conv2d(COLOURS, width, 3, padding=1)
        self.lead = nn.Linear(PROMPT, width)
        self.paint = nn.Conv2d(width, COLOURS, 3, padding=1)

    def forward(self, grid, prompt):
        pixels = F.one_hot(grid, COLOURS).permute(0, 3, 1, 2).float()
        return self.paint(F.gelu(self.look(pixels) * (1 + self.lead(prompt)[:, :, None, None])))


def efe_loss(logits, target, prompt):
    risk = F.cross_entropy(logits, target)
    ambiguity = -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()
    return risk + 0.05 * ambiguity + 1e-3 * prompt.pow(2).mean()


def draw_batch(size=6):
    grid = torch.randint(0, COLOURS, (size, 5, 5))
    return grid, (grid + 1) % COLOURS, torch.randint(0, 40, (size, 7)), torch.randn(size, 3)


def accuracy(logits, target):
    return (logits.argmax(dim=1) == target).float().mean()


def compute_reward(before, after, target):
    return 5.0 * (accuracy(after, target) - accuracy(before, target))


qwen, agent = HybridPrompt(LanguageModelConfig()), GridAgent()
optimizer = torch.optim.Adam([*agent.parameters(), *qwen.parameters()], lr=1e-3)

for batch in range(3):
    grid, target, tokens, numbers = draw_batch()
    prompt = qwen(tokens, numbers)
    with torch.no_grad():
        before = agent(grid, torch.zeros_like(prompt))
    after = agent(grid, prompt)
    reward = compute_reward(before, after, target)
    combined_loss = efe_loss(after, target, prompt)
    optimizer.zero_grad()
    combined_loss.backward()
    optimizer.step()
    print(f"Batch {batch}: loss {combined_loss.item():.4f} Reward: {reward.item():+.4f}")
