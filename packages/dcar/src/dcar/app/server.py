"""The page with its four tabs, and the server that answers on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
from html import escape

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported

import gradio as gr
from gradio.themes import Base

from dcar.app.components import FILES
from dcar.app.edit import edit_tab
from dcar.app.generate import generate_tab
from dcar.app.read_png import read_tab
from dcar.app.reconstruct import reconstruct_tab
from dcar.app.studio import MAX_UPLOAD, MAX_WAITING, Studio
from dcht.errors import UsageError

HOST = "127.0.0.1"
KEPT_SECONDS = 24 * 60 * 60
"""How long files that nobody shows any more are kept while the server runs."""
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]


def build(studio: Studio) -> gr.Blocks:
    """The page."""
    with gr.Blocks(
        title="DC-AR", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as page:
        gr.HTML(_header(studio), elem_id="header")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Generate"):
                generate_tab(studio)
            with gr.Tab("Reconstruct"):
                reconstruct_tab(studio)
            with gr.Tab("Edit"):
                edit_tab(studio)
            with gr.Tab("Read a PNG"):
                read_tab(studio)
    return page


def _header(studio: Studio) -> str:
    height, width = studio.pipe.size
    name = "the bundled checkpoint" if studio.ckpt is None else studio.ckpt
    parts = (
        name,
        f"{width} x {height} px",
        f"{width // studio.patch} x {height // studio.patch} tokens",
        studio.pipe.device.type,
    )
    facts = "".join(f"<span>{escape(part)}</span>" for part in parts)
    return (
        '<div class="header"><div class="mark"><i></i><i></i><i></i><i></i></div>'
        f"<div><h1>DC-AR</h1><p>{facts}</p></div></div>"
    )


def serve(studio: Studio, *, port: int, open_browser: bool = False, share: bool = False) -> None:
    """Answer on `http://127.0.0.1:PORT` until the process is interrupted, or told to end.

    Raises:
        UsageError: another process has the port.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise UsageError(f"port {port} is in use; --port {port + 1} takes another") from None
    # As a service is ended; without this nothing would be cleaned up.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    page = build(studio)
    page.queue(max_size=MAX_WAITING, api_open=False)
    try:
        page.launch(
            server_name=HOST, server_port=port, share=share, inbrowser=open_browser, quiet=True,
            prevent_thread_lock=True, max_file_size=MAX_UPLOAD, footer_links=[], theme=theme(),
            css=(FILES / "page.css").read_text(), ssr_mode=False, enable_monitoring=False,
            # Nor does it try itself first, for which Gradio gives a busy machine three seconds.
            _frontend=False,
        )  # fmt: skip
        print(f"http://{HOST}:{page.server_port}", flush=True)
        print("Ctrl-C ends it", file=sys.stderr)
        page.block_thread()
    finally:
        page.close(verbose=False)


def theme() -> Base:
    """Indigo on neutral, in the fonts of the machine: the page asks no other host for one."""
    return Base(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", font=FONTS,
        font_mono=MONO, radius_size="lg",
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_500",
        button_primary_text_color="white",
        block_border_width="1px",
        block_shadow="none",
    )  # fmt: skip
