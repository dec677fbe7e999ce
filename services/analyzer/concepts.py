"""Which words are concepts, the nodes of a semantic network: all but numbers, single letters, English stop words.

What is no concept keeps its place when distances in a text are counted.
"""

from __future__ import annotations

STOP_WORDS = frozenset(
    """
    a an the this that these those some any each every either neither no none both all few many much more most
    less least several such own other another same

    i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
    we us our ours ourselves they them their theirs themselves one ones oneself who whom whose which what
    whoever whatever whichever someone somebody something anyone anybody anything everyone everybody everything
    nobody nothing

    am is are was were be been being do does did done doing have has had having can could may might must shall
    should will would ought need dare get gets got let lets

    and or but nor so yet if unless because since although though while whereas whether until till than as

    of in on at by for with without within about against between among amongst into onto through throughout
    during before after above below over under to from up down out off upon toward towards across along around
    behind beside besides beyond despite except inside outside near per via

    not never also too very just only even still already again ever rather quite almost here there where when
    why how then thus hence therefore however moreover furthermore meanwhile otherwise else indeed now once
    perhaps maybe often always sometimes usually

    i'm i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd it'll we're we've
    we'd we'll they're they've they'd they'll that's that'll there's here's what's who's where's when's why's
    how's let's isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't can't cannot couldn't
    mayn't mightn't mustn't shan't shouldn't won't wouldn't ain't
    """.split()  # noqa: SIM905 - a list of 300 literals would be one word a line
)
"""English words that carry grammar rather than a concept; the list was written for this project."""


def is_concept(word: str) -> bool:
    """Return whether a lower-case word can be a node.

    >>> [is_concept(word) for word in ("the", "cat", "x", "2004", "b52")]
    [False, True, False, False, True]
    """
    return len(word) > 1 and word not in STOP_WORDS and not word.isnumeric()
