"""An image over a table of what is to be said of it, as HTML that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

from PIL import Image


def png(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def embedded(content: bytes, kind: str) -> str:
    """An image file (`kind` is png or gif) as an element that holds all of it."""
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/{kind};base64,{data}" style="max-width:100%" alt="">'


def figure(image: Image.Image | None, rows: Mapping[str, object]) -> str:
    """An image (None: there is none) and rows of a name and a value, which are escaped."""
    shown = "" if image is None else embedded(png(image), "png")
    table = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<div>{shown}<table>{table}</table></div>"
