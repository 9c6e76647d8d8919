"""A small picture of a text: a page on which every word is a bar. Readable in no script, and so right for all."""

from __future__ import annotations

import io

PAPER, EDGE, INK = (250, 250, 248), (214, 216, 220), (120, 126, 136)
MARGIN, LINE, BAR, LETTER, SPACE = 22, 13, 5, 5, 5  # px; LETTER is the width of one character


def picture(text: str, width: int = 192, height: int = 256) -> bytes:
    """Draw the beginning of a text as bars.

    Returns:
        A WebP picture, `width` × `height` px.
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width - 1, height - 1), outline=EDGE)
    x, y, right, bottom = MARGIN, MARGIN, width - MARGIN, height - MARGIN
    for paragraph in text[:4000].splitlines():
        for word in paragraph.split():
            long = min(len(word) * LETTER, right - MARGIN)
            if x + long > right:
                x, y = MARGIN, y + LINE
            if y + BAR > bottom:
                break
            draw.rounded_rectangle((x, y, x + long, y + BAR), radius=2, fill=INK)
            x += long + SPACE
        x, y = MARGIN, y + LINE
        if y + BAR > bottom:
            break
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=80)
    return stream.getvalue()
