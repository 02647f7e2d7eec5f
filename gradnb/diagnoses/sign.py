"""A term enters the loss with the wrong sign: what should grow is minimised, or what should fall is maximised.

What happens
    An optimizer minimises. An entropy bonus, a log-likelihood, a policy's gain, a critic's value and a similarity must enter the
    loss with a minus; an error measure and a KL divergence must enter with a plus.

Why it matters
    Every gradient exists and has a healthy norm, and training goes the wrong way. The loss may even fall nicely.

Fix
    Turn the sign of that one term.

References
    https://docs.pytorch.org/docs/stable/distributions.html#score-function
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineSimilarity.html
    https://github.com/MrSyee/pg-is-all-you-need/issues/37
    https://github.com/DLR-RM/stable-baselines3/issues/127
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, place, quote, sentence, subject

# kind: what the line does, what follows from it, the repair. {term} is the user's text of the quantity, {what} that of the line.
KINDS = {
    "entropy": (
        "{what} adds the entropy to a loss that is minimised",
        "Each step lowers {term}: the policy becomes deterministic, while an entropy bonus is there to keep it exploring.",
        "Subtract it: `loss - weight * entropy`.",
    ),
    "log-prob": (
        "{what} lowers the entropy of the policy: minus the log-probability of its own samples is added",
        "The mean of `-log_prob` over samples of the policy estimates its entropy. Added to the loss, {term} with a minus is minimised, "
        "and the policy becomes deterministic.",
        "Subtract the entropy: `loss - weight * dist.entropy().mean()`, or `loss + weight * log_prob.mean()` with the estimate.",
    ),
    "likelihood": (
        "{what} minimises the log-likelihood of the data",
        "Each step makes the data less probable: {term} falls without bound, and the loss with it.",
        "Minimise the negative log-likelihood: put a minus in front, as in `-dist.log_prob(x).mean()`.",
    ),
    "policy": (
        "{what} is what the policy gains, and it is minimised",
        "Each step makes actions with a positive advantage less probable: {term} is an objective to be raised, and an optimizer lowers.",
        "Put a minus in front of it, as in `-(log_prob * advantage).mean()`; with `torch.min` in front of the minimum, not inside it.",
    ),
    "cosine": (
        "{what} minimises a similarity: the two views are pushed apart",
        "{term} is 1 where the two outputs of the same encoder agree. As a term of the loss it is driven towards -1.",
        "Use `1 - similarity`, or put a minus in front of it.",
    ),
    "error": (
        "{what} turns the sign of an error measure: the training makes it larger",
        "{term} is small where the prediction is good, and the minus lets every step raise it.",
        "Remove the minus.",
    ),
    "maximize": (
        "{what} maximises, and its loss is an error measure",
        "With `maximize=True` every step raises {term}, which is small where the prediction is good.",
        "Leave `maximize=True` out, or give this optimizer a loss that is to be raised.",
    ),
    "kl": (
        "{what} subtracts a KL divergence: it grows without bound",
        "{term} is 0 where the two distributions agree. With a minus each step drives them apart.",
        "Add it: `reconstruction + weight * kl`. In closed form it is `-0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()`.",
    ),
    "soft": (
        "{what} is a cross entropy without its minus, and it is minimised",
        "Each step lowers {term} where the target's probability is high: the prediction moves away from the target.",
        "Put a minus in front of it, as in `-(target * log_prob).sum(dim=-1).mean()`, or use `F.cross_entropy(logits, target)`.",
    ),
    "overlap": (
        "{what} measures an overlap, and it is minimised",
        "{term} is 1 where prediction and mask agree. Each step makes it smaller.",
        "Minimise what is missing from a full overlap: `1 - overlap`.",
    ),
    "adversarial": (
        "{what} lets the generator help its discriminator",
        "The discriminator's own loss pushes {term} the same way for generated samples, so the generator learns to be found out.",
        "Turn the sign of the generator's term, or give its samples the label of real ones there.",
    ),
    "value": (
        "{what} lets the actor minimise the value that its critic gives",
        "Each step makes {term} smaller: the actor learns the action that the critic finds worst.",
        "Put a minus in front of it, as in `-critic(state, actor(state)).mean()`.",
    ),
}
UNKNOWN = (
    "{what} enters the loss with the wrong sign",
    "The step moves {term} away from where it should go.",
    "Turn the sign of this term.",
)


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each term that backward pushes the wrong way."""
    for lead in leads(recording, "sign"):
        title, why, fix = KINDS.get(str(lead.details.get("kind")), UNKNOWN)
        term = str(lead.details.get("term") or "").strip()
        known = {"what": subject(lead, "this line"), "term": quote(term) if term else "this term"}
        where = f" It enters{place(lead)}." if place(lead) else ""
        yield build(lead, title=title.format(**known), explanation=sentence(why.format(**known)) + where, fix=fix)


def bad() -> None:
    """The entropy bonus is added to the loss, so it is minimised."""
    import torch
    from torch import nn
    from torch.distributions import Categorical

    torch.manual_seed(0)
    policy = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    states = torch.randn(32, 4)
    best = states[:, :3].argmax(dim=1)
    for _ in range(4):
        dist = Categorical(logits=policy(states))
        actions = dist.sample()
        rewards = (actions == best).float()
        policy_loss = -(dist.log_prob(actions) * (rewards - rewards.mean())).mean()
        loss = policy_loss + 0.01 * dist.entropy().mean()  # <- here
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """Subtracted, the bonus keeps the policy exploring."""
    import torch
    from torch import nn
    from torch.distributions import Categorical

    torch.manual_seed(0)
    policy = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    states = torch.randn(32, 4)
    best = states[:, :3].argmax(dim=1)
    for _ in range(4):
        dist = Categorical(logits=policy(states))
        actions = dist.sample()
        rewards = (actions == best).float()
        policy_loss = -(dist.log_prob(actions) * (rewards - rewards.mean())).mean()
        loss = policy_loss - 0.01 * dist.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
