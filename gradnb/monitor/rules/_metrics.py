"""Which series are metrics, rewards or mask ratios: by the words in their names."""

from __future__ import annotations

from ..view import View
from ._numbers import words

UP = frozenset(
    "acc accuracy accuracies f1 fscore auc auroc map ap precision recall iou miou dice bleu rouge meteor ndcg mrr hits r2 "
    "psnr ssim winrate score metric top1 top5".split()
)
"""What a higher value is better of. Not "exact match" or "solved": all or nothing, they stay at 0 long after the loss has begun to fall."""
DOWN = frozenset("error errors wer cer mae rmse fid perplexity ppl".split())
"""What a lower value is better of."""
REWARD = frozenset("reward rewards return returns".split())
_RISES = UP - {"precision", "recall", "metric", "map", "hits"} | REWARD | {"fidelity"}
_FALLS = DOWN | frozenset("brier ece eer lpips mape smape nrmse regret".split())
_ELSEWHERE = frozenset("val valid validation test eval evaluation dev held heldout holdout ood".split())
_OPPONENT = frozenset("d disc discriminator critic domain adv adversary adversarial fake real".split())


def metrics(view: View) -> list[str]:
    """Series that say how good the model is."""
    return [name for name in view.logged if (UP | DOWN).intersection(words(name)) and "loss" not in words(name)]


def rewards(view: View) -> list[str]:
    return [name for name in view.logged if REWARD.intersection(words(name)) and "loss" not in words(name)]


def masks(view: View) -> list[str]:
    """Series like "mask_ratio": the share of elements that the loss looks at."""
    return [
        name
        for name in view.logged
        if {"mask", "masked"}.intersection(words(name)) and {"ratio", "share", "fraction", "rate", "mean"}.intersection(words(name))
    ]


def directions(view: View) -> dict[str, int]:
    """The series that the training itself should make better: +1 where a higher value is better, -1 where a lower one is.

    Without precision and recall, one of which falls while the other rises; without measures on other data, where overfitting is its
    own story; without those of an opponent, which are to get worse.
    """
    found = {}
    for name in view.logged:
        said = set(words(name))
        falls = bool(_FALLS & said)  # before the other: an "fid_score" falls
        if (falls or _RISES & said) and not said & (_ELSEWHERE | _OPPONENT | {"loss"}):
            found[name] = -1 if falls else 1
    return found


def better_up(name: str) -> bool:
    return bool(UP.intersection(words(name)))
