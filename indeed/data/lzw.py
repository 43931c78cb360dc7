"""LZW as in TIFF files (TIFF 6.0, section 13): codes are checked before they are decoded.

A code stands for a string of the table, which grows by one string a code. The decoder of imagecodecs takes a code of a
string that is not there yet for one, and reads memory that is not its own; and where the code of the end is missing, it
may misread the last one.
"""

import numpy as np

from indeed.data.samples_of_files import UnsupportedError

_CLEAR, _END, _FIRST, _FULL = 256, 257, 258, 4096
_STRINGS = np.minimum(_FIRST + np.maximum(np.arange(_FULL) - 1, 0), _FULL)
"""Strings in the table when a code is read, by the number of codes since the table was cleared."""
_WIDTHS = 9 + sum((_STRINGS >= most).astype(np.int64) for most in (511, 1023, 2047))
_LARGEST = np.concatenate([[_CLEAR - 1], np.minimum(_STRINGS[1:], _FULL - 1)])
"""Largest code that there can be: the string that is just being made counts, but for the first code."""


def check_lzw(data: bytes) -> None:
    """Refuse codes of strings that are not in the table.

    Raises
    ------
    UnsupportedError
        If there is one before the end, or no end.
    """
    content, total, place = np.frombuffer(data + bytes(3), np.uint8), 8 * len(data), 0
    widths, largest = _WIDTHS, _LARGEST
    while True:
        begins = place + np.cumsum(widths) - widths
        begins = begins[begins + widths <= total]
        if not len(begins):
            raise UnsupportedError("is damaged (its LZW codes do not end)")
        at, used = begins >> 3, widths[: len(begins)]
        words = sum(content[at + byte].astype(np.int64) << (16 - 8 * byte) for byte in range(3))
        codes = words >> (24 - (begins & 7) - used) & ((1 << used) - 1)
        ends = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        count = int(ends[0]) if len(ends) else len(codes)
        if (codes[:count] > largest[:count]).any():
            raise UnsupportedError("is damaged (its LZW codes are of strings that there are not)")
        if len(ends) and codes[count] == _END:
            return
        last = min(count, len(codes) - 1)
        place = int(begins[last] + used[last])
        # A table that is full, and not cleared, stays as it is.
        widths, largest = (_WIDTHS, _LARGEST) if len(ends) else (np.full(_FULL, 12), np.full(_FULL, _FULL - 1))
