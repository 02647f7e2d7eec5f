"""A small causal transformer that stands in for a pretrained language model, and a made-up language for it to read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Causal self-attention and a feed-forward network, each behind a LayerNorm and with a residual path."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        split = self.attention(self.norm1(hidden)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return hidden + self.narrow(F.gelu(self.wide(self.norm2(hidden))))


class CausalTransformer(nn.Module):
    """Predicts each next word of a text; ``encode`` gives its reading of the whole text.

    Parameters
    ----------
    vocabulary : number of words.
    width, layers, heads : size of the hidden states, number of blocks, attention heads a block.
    context : the longest text, in words.
    """

    def __init__(self, vocabulary: int = 40, width: int = 32, layers: int = 2, heads: int = 4, context: int = 32):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(0.1 * torch.randn(context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)  # the head is tied to it: logits start near 1

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden states (batch, length, width) of a text (batch, length)."""
        hidden = self.embed(tokens) + self.place[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return self.norm(hidden)

    def encode(self, tokens: Tensor) -> Tensor:
        """One vector (batch, width) a text: the hidden state of its last word, the only one that has seen all of it."""
        return self.hidden(tokens)[:, -1]

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, length, vocabulary) of the word that follows each word."""
        return F.linear(self.hidden(tokens), self.embed.weight)


def texts(count: int, length: int = 17, vocabulary: int = 40, sure: float = 0.85, seed: int = 0) -> Tensor:
    """Texts (count, length) in a language with one rule: a word is followed by its own successor, with probability `sure`.

    No model can be right more often than `sure` + (1 - `sure`) / `vocabulary`. The rule is the same for each seed.
    """
    follows = torch.randperm(vocabulary, generator=torch.Generator().manual_seed(1))
    random = torch.Generator().manual_seed(seed)
    words = [torch.randint(vocabulary, (count,), generator=random)]
    for _ in range(length - 1):
        slip = torch.rand(count, generator=random) > sure
        words.append(torch.where(slip, torch.randint(vocabulary, (count,), generator=random), follows[words[-1]]))
    return torch.stack(words, dim=1)
