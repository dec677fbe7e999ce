"""What a model expects next, and how surprised it is. Takes sums over records; knows no model, tokenizer or text.

`Ratio` is a sum over records and what it is divided by. A probability is that of the model's next token after a real
prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ouroscope.errors import Undefined
from ouroscope.records.predictions import NextToken, ScoredText
from services.analyzer.metrics.sequences import Ratio

KEPT = 100
"""Most probable tokens that the Gini coefficient sees."""
FEWEST_COUNTED = 5
"""Prompts that must have collapsed, and that must not, before their share gets an interval."""


def prompt_row(record: NextToken) -> dict[str, float]:
    """Return the numbers of a next-token record that the metrics add up."""
    top = record.top_probabilities[0]
    row = {
        "top1": top,
        "collapsed_90": float(top > 0.9),
        "collapsed_99": float(top > 0.99),
        "collapsed_999": float(top > 0.999),
    }
    if record.entropy is not None:
        row["entropy"] = max(0.0, record.entropy)
    if len(record.top_probabilities) > 1 and top > 0:
        row["gini"] = gini(record.top_probabilities[:KEPT])
    if record.true_rank is not None:
        row["log_rank"] = math.log(record.true_rank)
    return row


def text_row(record: ScoredText) -> dict[str, float]:
    """Return the numbers of a scored text that the metrics add up."""
    row: dict[str, float] = {
        "nats": -record.log_probability,
        "tokens": record.tokens,
        "bytes": record.text_bytes,
        "nats_per_token": -record.log_probability / record.tokens,
    }
    # Some servers tell probabilities but not their order.
    if record.greedy_tokens is not None:
        row["greedy"] = record.greedy_tokens
    if record.last_greedy_tokens is not None:
        row |= {"last": record.last_tokens, "last_greedy": record.last_greedy_tokens}
    return row


def gini(probabilities: Sequence[float]) -> float:
    """Return the Gini coefficient of probabilities in falling order; scale-free, so a cut tail needs no renormalising.

    >>> round(gini([0.7, 0.2, 0.1]), 4)
    0.4
    >>> round(gini([1.0] + [0.0] * 99), 4)
    0.99
    """
    count = len(probabilities)
    ranked = math.fsum((count - place) * q for place, q in enumerate(probabilities))
    # Rounding may leave a hair below 0 when all are equal.
    return max(0.0, 2 * ranked / (count * math.fsum(probabilities)) - (count + 1) / count)


def top1_probability(prompts: Ratio) -> float:
    """Return the mean probability of the most probable next token.

        mean over prompts of max q

    Range (0, 1], no unit; rises under collapse. Undefined without prompts. Bias: none; depends on the prompts and the
    tokenizer. Source: arXiv 2410.12341, version 2.

    Nominal 95 % intervals held the truth in 96 % of 300 samples of 200 human prompts.

    >>> top1_probability(Ratio(over=1.5, under=2))
    0.75
    """
    return _mean(prompts, "prompts")


def gini_top100(prompts: Ratio) -> float:
    """Return how unevenly probability is spread over the 100 most probable next tokens, the mean over prompts.

        G = sum over i, j of |q_i - q_j| / (2 n sum of q)          n = 100 probabilities, or all that a record holds

    Range [0, 0.99], no unit; rises under collapse. Undefined where no record holds two probabilities. Bias: the upper
    end is (n - 1) / n, so records of different n do not compare. Source: arXiv 2410.12341, version 3.

    Nominal 95 % intervals held the truth in 96 % of 300 samples of 200 human prompts.

    >>> gini_top100(Ratio(over=1.2, under=2))  # [.7, .2, .1] has 0.4, see `gini`
    0.6
    """
    return _mean(prompts, "prompts with two probabilities")


def collapsed(prompts: Ratio) -> float:
    """Return the share of prompts after which one token has nearly all the probability.

        share of prompts with max q > tau          tau = 0.9, 0.99 or 0.999, after which the metric is named

    Range [0, 1], no unit; rises under collapse. Undefined without prompts; without an interval, and without a vote,
    where fewer than 5 prompts have collapsed or fewer than 5 have not (`counted`). Bias: none. Source: arXiv
    2410.12341, version 3 (tau = 0.99).

    Nominal 95 % intervals held the truth in 93 to 99 % of those of 1,000 samples of 200 made-up prompts that had one,
    at true shares of .01 to .2.

    >>> collapsed(Ratio(over=1, under=4))
    0.25
    """
    return _mean(prompts, "prompts")


def counted(replicates: Sequence[Ratio]) -> Sequence[Ratio]:
    """Return the replicates of a share of prompts; the whole alone, without an interval, where few count.

    The interval of a share of nothing is a point: of 200 prompts with a true share of .0008 it holds the truth in 11 %
    of samples. Where five and more count, it holds it in 93 % at least, whatever the true share (docs/log.md).

    >>> len(counted([Ratio(1, 190)] * 20)), len(counted([Ratio(19, 190)] * 20))
    (1, 20)
    """
    above = math.fsum(one.over for one in replicates) / max(1, len(replicates) - 1)
    below = math.fsum(one.under for one in replicates) / max(1, len(replicates) - 1)
    enough = FEWEST_COUNTED <= above <= below - FEWEST_COUNTED
    return replicates if enough or len(replicates) == 1 else [Ratio(above, below)]


def next_token_entropy(prompts: Ratio) -> float:
    """Return the mean entropy of the next-token distribution.

        mean over prompts of -sum of q ln q, over the whole vocabulary of the tokenizer

    Range [0, ln of the vocabulary], in nats; falls under collapse. Undefined without prompts whose entropy is known:
    some servers tell only the first choices. Bias: none; depends on the tokenizer. Source: Shannon (1948), A
    mathematical theory of communication.

    Nominal 95 % intervals held the truth in 96 % of 300 samples of 200 human prompts.

    >>> next_token_entropy(Ratio(over=6.0, under=2))
    3.0
    """
    return _mean(prompts, "prompts with a known entropy")


def effective_tokens(prompts: Ratio) -> float:
    """Return how many equally probable tokens would leave the same uncertainty.

        exp(mean over prompts of the next-token entropy)

    Range [1, vocabulary], in tokens; falls under collapse. Undefined without prompts whose entropy is known. Bias:
    none; the geometric mean over prompts. Source: Hill (1973), Ecology 54(2), number of order 1.

    >>> effective_tokens(Ratio(over=0.0, under=2))
    1.0
    """
    return _exp(_mean(prompts, "prompts with a known entropy"))


def true_token_rank(prompts: Ratio) -> float:
    """Return the geometric mean rank that the model gives to the token that really follows.

        exp(mean over prompts of ln rank)          1 = the model's first choice

    Range [1, vocabulary], in ranks; rises under collapse. Undefined where no record knows the true token. Bias: none.
    The arithmetic mean would rest on a few very rare tokens, and the median has no jackknife. Source: chosen by this
    project.

    >>> round(true_token_rank(Ratio(over=math.log(2) + math.log(8), under=2)), 6)
    4.0
    """
    return _exp(_mean(prompts, "prompts with a known true token"))


def heldout_perplexity(texts: Ratio) -> float:
    """Return how surprised the model is, per token, by human text that nobody trained on.

        exp(-sum of ln q(token) / tokens)

    Range [1, oo), in tokens; rises under collapse. Undefined without held-out texts. Bias: none; only models with the
    same tokenizer compare. Source: Jelinek et al. (1977); the measure of Shumailov et al. (2024).

    >>> round(heldout_perplexity(Ratio(over=-math.log(0.5 * 0.25 * 0.125), under=3)), 6)
    4.0
    """
    return _exp(_mean(texts, "held-out texts"))


def bits_per_byte(texts: Ratio) -> float:
    """Return how many bits the model needs for a byte of human text that nobody trained on.

        -sum of log2 q(token) / UTF-8 bytes of the scored parts

    Range [0, oo), bits per byte; rises under collapse. Undefined without held-out texts. Bias: none; compares models
    with different tokenizers. Source: Gao et al. (2020), The Pile.

    >>> bits_per_byte(Ratio(over=8 * math.log(2), under=4))
    2.0
    """
    return _mean(texts, "held-out texts") / math.log(2)


def last_n_accuracy(texts: Ratio) -> float:
    """Return how often the model's first choice is right in the last tokens of held-out texts.

        hits / last tokens

    Range [0, 1], no unit; falls under collapse. Undefined without held-out texts whose first choices are known.
    Bias: none. Source: Drayson et al. (2025), with the last 256 of 512 tokens.

    >>> last_n_accuracy(Ratio(over=8, under=32))
    0.25
    """
    return _mean(texts, "held-out texts with known first choices")


def surplexity(documents: Ratio) -> float:
    """Return how surprising documents of the corpus are for the current model, the geometric mean over documents.

        S(d) = exp(-sum of ln q(token) / tokens of d)          exp(mean over documents of ln S)

    Range [1, oo), in tokens; falls under collapse, as a model writes what no longer surprises it. Undefined without
    scored documents. Bias: the real prefix is not scored; a few documents of huge perplexity would rule an arithmetic
    mean. Source: arXiv 2410.12341, version 3.

    >>> round(surplexity(Ratio(over=-math.log(0.5 * 0.25 * 0.125) / 3, under=1)), 6)
    4.0
    """
    return _exp(_mean(documents, "scored documents"))


def base_perplexity_of_synthetic(documents: Ratio) -> float:
    """Return how surprised generation 0 is, per token, by the documents of the corpus.

        exp(-sum of ln q_0(token) / tokens)          q_0 = probability under the untouched model

    Range [1, oo), in tokens; falls under collapse, as text becomes more probable. Undefined without documents scored
    by generation 0. Bias: a few garbled documents may raise it all the same. Source: Shumailov et al. (2024), Nature
    631.

    >>> round(base_perplexity_of_synthetic(Ratio(over=3 * math.log(4), under=3)), 6)
    4.0
    """
    return _exp(_mean(documents, "documents scored by generation 0"))


def greedy_share(documents: Ratio) -> float:
    """Return the share of tokens of the corpus that are the current model's own first choice.

        greedy tokens / tokens

    Range [0, 1], no unit; rises under collapse. Undefined without scored documents whose first choices are known. Bias:
    depends on the temperature of sampling. Source: Figarri et al. (2025).

    >>> greedy_share(Ratio(over=30, under=40))
    0.75
    """
    return _mean(documents, "scored documents with known first choices")


def _mean(sums: Ratio, what: str) -> float:
    if not sums.under:
        raise Undefined(f"no {what}")
    return sums.over / sums.under


def _exp(exponent: float) -> float:
    if exponent > 700:
        raise Undefined("a token has probability 0")
    return math.exp(exponent)
