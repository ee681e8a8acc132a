"""Captions and other fields of images, from the files that name or accompany them.

Three conventions are read: `photo.txt` beside `photo.jpg` (a caption a line), `photo.json` (an
object with `caption`, `captions` or `text`, and whatever else it holds), and one table for many
images (`dcht.data.tables`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from dcht.errors import UsageError

TEXT_SUFFIXES = (
    ".txt", ".caption", ".cap", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".cls",
)  # fmt: skip
"""What captions and labels come in. A file of these that is not read is named to the user."""
CAPTION = "caption"


def merge_fields(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several rows say of one image: every caption, and of other fields the first value."""
    if len(rows) == 1:
        return rows[0]
    merged = {key: value for row in reversed(rows) for key, value in row.items()}
    captions = list(dict.fromkeys(text for row in rows for text in find_captions(row)))
    return merged | ({"captions": captions} if captions else {})


def decode_text(name: str, content: bytes) -> str:
    """Bytes as UTF-8 text, with or without a byte order mark.

    Raises:
        UsageError: they are not.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not a text in UTF-8 (byte {error.start})") from None


def split_lines(text: str) -> Iterator[str]:
    """The lines of a text as editors end them.

    `str.splitlines` also splits at what stands inside of lines: U+2028, U+0085, form feeds.
    """
    return (line.removesuffix("\n") for line in io.StringIO(text, newline=None))


def text_captions(text: str) -> list[str]:
    """The captions of a text: its lines, without the blank ones and the blanks around them."""
    return [line.strip() for line in split_lines(text) if line.strip()]


def encode_captions(captions: Sequence[str]) -> bytes | None:
    """The `.txt` that says captions; None where none would give them back as they are."""
    content = "".join(f"{text}\n" for text in captions).encode()
    return content if text_captions(decode_text("", content)) == list(captions) else None


def caption_row(
    name: str,
    text: str | None,
    fields: dict[str, Any] | None,
    metadata: dict[str, Any] | None,
) -> dict[str, Any]:
    """What a store keeps of an image: `file`, `caption` (or None), `captions` where several.

    Args:
        name: the image's name, whatever the fields say.
        text: the content of its `.txt` or `.caption`; its captions go before all others.
        fields: of its `.json`; kept, and its captions go before those of a table.
        metadata: what a table says of it; kept.

    Raises:
        UsageError: a caption is no text: it holds half of a surrogate pair.
    """
    captions = text_captions(text or "")
    captions = captions or find_captions(fields or {}) or find_captions(metadata or {})
    for caption in captions:
        try:
            caption.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"its caption is no text: {error.reason}") from None
    row = {**(metadata or {}), **(fields or {}), "file": name}
    row["caption"] = captions[0] if captions else None
    row.pop("captions", None)
    if len(captions) > 1:
        row["captions"] = captions
    return row


def find_captions(fields: dict[str, Any]) -> list[str]:
    """The captions that fields hold: `captions` and `caption`, or else `text`."""

    def texts(key: str) -> list[str]:
        value = fields.get(key)
        listed = value if isinstance(value, list) else [value]
        return [text for text in listed if isinstance(text, str) and text.strip()]

    found = texts("captions")
    found += [text for text in texts(CAPTION) if text not in found]
    return found or texts("text")
