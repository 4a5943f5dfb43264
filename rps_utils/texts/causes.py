"""The causes of errors in words of our own: libraries quote what they read."""

from __future__ import annotations

import re

CAUSES = (
    (r"No such file|does not exist", "there is no such file"),
    (r"ermission denied", "it may not be read"),
    (r"truncat|end.of.(the.)?(file|stream)|EOF|too short|not enough|ended before|smaller than|bytes? .*expected"
     r"|expected .*bytes", "it is cut short"),
    (r"decod|decompress|plugin|handler|pylibjpeg|gdcm|transfer syntax", "no decoder for its compression, or damaged"),
    (r"spacing|regular|geometry|volume|orientation|position|slices|frames", "its slices form no regular volume"),
    (r"file type|gzip|magic|zip file|invalid|Error -\d|CRC|header", "it is damaged or of another kind"),
)  # fmt: skip


def cause_of(error: BaseException) -> str:
    """Put an error of a library into words of our own: what it quotes from a file stays out of the message."""
    said = str(error)
    known = (cause for pattern, cause in CAUSES if re.search(pattern, said, re.IGNORECASE))
    return f"{next(known, 'it is damaged or of another kind')} ({type(error).__name__})"
