"""Text of strangers as one line that neither a terminal nor a reader can be fooled by. Knows no format."""

from __future__ import annotations

_UNREADABLE = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        # These turn the direction of the text around them, so that what is shown is not what is there.
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xD800, 0xE000),
        0xFFFE,
        0xFFFF,
    )
}


def printable(text: str, most: int = 200) -> str:
    r"""Return `text` in one line of at most `most` characters, without control characters or halves of characters.

    >>> printable("two\nlines \x1b[2J"), printable("long enough", 4)
    ('two lines �[2J', 'long…')
    """
    line = " ".join(text.split()).translate(_UNREADABLE)
    return line if len(line) <= most else f"{line[:most]}\N{HORIZONTAL ELLIPSIS}"
