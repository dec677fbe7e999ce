"""What the literature found, each as a claim about one of our experiments.

In our own words; `source` says where. A finding that our runs cannot answer says why instead of an experiment.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.reproduction.claims import (
    Claim,
    all_of,
    moves,
    not_testable,
    ordered,
    seen_apart,
    selects_people,
    stays,
    within,
)

DOMAINS = ("maths", "learning", "software")
SHARES = {"25": "real-share-0-75", "50": "real-share-0-5", "75": "real-share-0-25"}
"""Synthetic share in percent, and how the runs of paper-v2 end that have it."""

V1, V2, V3 = (f"arXiv 2410.12341 v{n}" for n in (1, 2, 3))
SHUMAILOV = "Shumailov et al., Nature 631 (2024)"
GERSTGRASSER = "Gerstgrasser et al., arXiv 2404.01413"
KAZDAN = "Kazdan et al., arXiv 2410.16713"
MAD = "Alemohammad et al., ICLR 2024"
NO_TASKS = "HellaSwag is at chance for a model of three million weights"


@dataclass(frozen=True, slots=True)
class Finding:
    """One published finding."""

    told: str
    source: str
    experiment: str
    """Whose results answer; empty where none can."""
    claim: Claim


def _by_share(metric: str, domain: str) -> Claim:
    """Claim that more synthetic text ends worse: each share beside its own control."""
    return ordered(metric, *(f"{SHARES[share]}/replace-{domain}" for share in ("25", "50", "75")))


FINDINGS = (
    Finding(
        "Concepts and relations of the semantic network become fewer with the generations.",
        f"{V1}, {V2}",
        "paper-v2",
        all_of(
            *(
                moves(metric, f"{SHARES['75']}/replace-{domain}")
                for domain in DOMAINS
                for metric in ("cooccurrence_nodes", "cooccurrence_edges")
            )
        ),
    ),
    Finding(
        "Lexical diversity falls: fewer types, less entropy.",
        V1,
        "paper-v1",
        all_of(*(moves(metric, "replace") for metric in ("types", "token_entropy", "distinct_3"))),
    ),
    Finding(
        "Next-token probabilities concentrate: Gini of the first 100 and the first choice rise.",
        f"{V2}, {V3}",
        "paper-v2",
        all_of(
            *(
                moves(metric, f"{SHARES['75']}/replace-{domain}")
                for domain in DOMAINS
                for metric in ("gini_top100", "top1_probability")
            )
        ),
    ),
    Finding(
        "The larger the share of synthetic tokens, the faster: held-out perplexity (75 > 50 > 25 %).",
        f"{V2}, {V3}",
        "paper-v2",
        all_of(*(_by_share("heldout_perplexity", domain) for domain in DOMAINS)),
    ),
    Finding(
        "The larger the share of synthetic tokens, the more concentrated: Gini (75 > 50 > 25 %).",
        f"{V2}, {V3}",
        "paper-v2",
        all_of(*(_by_share("gini_top100", domain) for domain in DOMAINS)),
    ),
    Finding(
        "Training on fresh human documents alone does not collapse: types and entropy do not fall.",
        V3,
        "paper-v2",
        all_of(
            *(
                within(metric, f"{SHARES['75']}/human-{domain}", f"{SHARES['75']}/replace-{domain}", share=0.25)
                for domain in DOMAINS
                for metric in ("types", "token_entropy")
            )
        ),
    ),
    Finding(
        "Severity depends on the domain.",
        f"{V2}, {V3}",
        "paper-v2",
        seen_apart(("gini_top100", "heldout_perplexity"), *(f"{SHARES['75']}/replace-{domain}" for domain in DOMAINS)),
    ),
    Finding("Commonsense accuracy (HellaSwag) falls by 23 % in ten steps.", V3, "", not_testable(NO_TASKS)),
    Finding(
        "Trained on its own text, a model collapses; beside human documents it does not (AI against human arm).",
        V3,
        "paper-v3",
        all_of(ordered("gini_top100", "human", "ai"), ordered("token_entropy", "human", "ai")),
    ),
    Finding(
        "Selecting by surplexity ends less concentrated than selecting at random.",
        V3,
        "paper-v3",
        ordered("gini_top100", "surplexity", "random"),
    ),
    Finding(
        "Selecting by surplexity ends less concentrated than selecting by the entropy of the text.",
        V3,
        "paper-v3",
        ordered("gini_top100", "surplexity", "text-entropy"),
    ),
    Finding(
        "Turned round, the filter does harm: the least surprising documents end worse than random ones.",
        "arXiv 2410.12341 v4 (abstract)",
        "paper-v3",
        ordered("gini_top100", "random", "surplexity-reversed"),
    ),
    Finding(
        "What surplexity selects is almost only human text.",
        V3,
        "paper-v3",
        selects_people("surplexity", 0.9),
    ),
    Finding(
        "Without human documents in the pool surplexity is of doubtful use (no gain over replace).",
        "Mitchell, arXiv 2610.01493, for a filter by log-probability; untested in v3",
        "paper-v3",
        ordered("heldout_perplexity", "ai", "surplexity-human-free"),
    ),
    Finding(
        "Each model trained on the text of the one before: perplexity on real text rises.",
        SHUMAILOV,
        "accumulate-vs-replace",
        moves("heldout_perplexity", "replace"),
    ),
    Finding(
        "Accumulating real and synthetic text ends better than replacing.",
        GERSTGRASSER,
        "accumulate-vs-replace",
        ordered("heldout_perplexity", "accumulate", "replace"),
    ),
    Finding(
        "More text of the newest model does not repair replacing: it stays worse than accumulating.",
        GERSTGRASSER,
        "accumulate-vs-replace",
        ordered("heldout_perplexity", "accumulate", "replace-growing", "replace"),
    ),
    Finding(
        "On held-out loss accumulating is better than accumulating with a fixed size, which is better than replacing.",
        KAZDAN,
        "accumulate-vs-replace",
        ordered("heldout_perplexity", "accumulate", "accumulate-subsample", "replace"),
    ),
    Finding(
        "The human arm stays within its band.",
        V3,
        "quickstart",
        stays("human"),
    ),
    Finding(
        "Ten per cent of real text in every generation ends better than none.",
        SHUMAILOV,
        "real-share",
        ordered("heldout_perplexity", "replayed-10", "share-0"),
    ),
    Finding(
        "Ten per cent of real text in every generation makes the loss minor (here: under a quarter of that without).",
        SHUMAILOV,
        "real-share",
        within("heldout_perplexity", "replayed-10", "share-0", share=0.25),
    ),
    Finding(
        "The more real text in the mixture, the less it collapses (fresh text).",
        f"{MAD}; Briesch et al., arXiv 2311.16822",
        "real-share",
        ordered("heldout_perplexity", "fresh-50", "fresh-25", "fresh-10", "share-0"),
    ),
    Finding(
        "Fresh real text protects better than the same real text replayed.",
        MAD,
        "real-share",
        ordered("heldout_perplexity", "fresh-50", "replayed-50"),
    ),
    Finding(
        "A 1-D Gaussian and a discrete chain narrow to a point when they are refitted to their own samples.",
        SHUMAILOV,
        "",
        not_testable("theory: tests/unit/coordinator/test_toys.py holds the rates"),
    ),
    Finding(
        "Linear regression: the error of replacing grows with every round, that of accumulating stays under pi^2/6.",
        GERSTGRASSER,
        "",
        not_testable("theory: tests/unit/coordinator/test_toys.py holds the values 1, 1.464, 1.550, 1.596"),
    ),
)
