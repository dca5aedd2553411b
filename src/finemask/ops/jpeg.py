"""Which JPEG files need no more than their decoder.

Pillow knows every variant of JPEG and refuses what is damaged, but its own decoder is slower than OpenCV's, and only to
open a photograph takes it a tenth of the time of decoding it. A file that says in its header that it is an ordinary
photograph, and whose pixels nothing interrupts, can go to the decoder at once.
"""

import numpy as np

_START, _END = b"\xff\xd8", b"\xff\xd9"
_RESTART = 0xD0  # .. 0xD7
_FRAME, _SCAN, _JFIF, _PROFILE = 0xC0, 0xDA, 0xE0, 0xE2
_HARMLESS = {0xC4, 0xDB, 0xDD, 0xFE, _JFIF}  # Huffman and quantisation tables, restart interval, comment
_THREE_COLOURS = b"\1\2\3"  # ids of components that are luminance and two of chrominance, unless Adobe says otherwise


def size_of_plain_jpeg(encoded: bytes) -> tuple[int, int] | None:
    """Height and width, if these bytes are a whole baseline JPEG in plain colours that shows as it is stored.

    That is: 8 bits, YCbCr, one scan that nothing but restarts interrupts and that ends with the file; no EXIF, no
    Adobe segment, no second picture. Anything else, for example what is cut off, is left to a careful reader.
    """
    if not (encoded.startswith(_START) and encoded.endswith(_END)):
        return None
    size, at, end = None, 2, len(encoded)
    while at + 4 <= end and encoded[at] == 0xFF:
        marker, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4], "big")
        body = encoded[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == _SCAN:
            # the scan must be of all components at once; a second one would show as a marker in the first
            return size if body[:1] == b"\3" and _is_uninterrupted(encoded, at) else None
        if marker == _FRAME and size is None and body[:1] == b"\x08" and body[6::3] == _THREE_COLOURS:
            size = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        elif marker not in _HARMLESS and not (marker == _PROFILE and body.startswith(b"ICC_PROFILE")):
            return None
    return None


def _is_uninterrupted(encoded: bytes, start: int) -> bool:
    """Whether only stuffing and restarts follow 0xFF from here to the mark at the file's end."""
    scan = np.frombuffer(encoded, dtype=np.uint8)[start:]
    if len(scan) <= len(_END):
        return False
    marked = scan[:-2] == 0xFF
    marked &= scan[1:-1] != 0
    markers = scan[1:-1][marked] if marked.any() else scan[:0]
    return bool((markers & 0xF8 == _RESTART).all())
