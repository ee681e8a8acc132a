"""The paper's rows that ours stand beside: Tables 1, 2 and 3, as printed. Nothing here was run.

Their protocols are not stated (no FID library, crop, SSIM convention or LPIPS network), so no
number of ours shares a column with them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A table of the paper, or a part of one."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    """Cells by method, in the order of `columns`; "-" where the paper has none."""
    note: str = ""


_RECONSTRUCTION = ("tokens", "rFID", "PSNR", "SSIM", "LPIPS")
_TEXTOK = "* of 50,000 images of the training set instead of the validation set"

TABLE1 = {
    256: PublishedTable(
        title="Table 1: reconstruction, ImageNet 256 x 256",
        columns=_RECONSTRUCTION,
        rows={
            "TiTok": ("64", "1.70", "17.06", "0.4021", "0.3840"),
            "TA-TiTok (VQ)": ("64", "2.68", "-", "-", "-"),
            "TA-TiTok (KL)": ("64", "1.47", "-", "-", "-"),
            "TexTok*": ("64", "1.53", "20.10", "0.5618", "0.2126"),
            "DC-HT": ("64", "1.60", "21.50", "0.5676", "0.2221"),
        },
        note=_TEXTOK,
    ),
    512: PublishedTable(
        title="Table 1: reconstruction, ImageNet 512 x 512",
        columns=_RECONSTRUCTION,
        rows={
            "TiTok": ("128", "1.37", "-", "-", "-"),
            "TexTok* (128)": ("128", "0.97", "22.27", "0.6230", "0.2365"),
            "TexTok* (256)": ("256", "0.73", "24.45", "0.6682", "0.1875"),
            "DC-HT": ("256", "0.83", "23.53", "0.6315", "0.2236"),
        },
        note=_TEXTOK,
    ),
}
"""By the side of the image."""

TABLE2 = PublishedTable(
    title="Table 2: MJHQ-30K and efficiency",
    columns=("parameters", "size", "steps", "gFID", "latency (s)", "images/s"),
    rows={
        "SDXL": ("2.6B", "1024", "20", "6.63", "1.4*", "2.1*"),
        "PixArt-α": ("630M", "512", "20", "6.14", "1.2", "1.7"),
        "PixArt-Σ": ("630M", "512", "20", "6.34", "1.2", "1.7"),
        "SD3-medium": ("2B", "1024", "28", "11.92", "-", "-"),
        "Playground v2.5": ("2B", "1024", "20", "6.09", "-", "-"),
        "Sana-0.6B": ("590M", "512", "20", "5.67", "0.8", "6.7"),
        "Show-o": ("1.3B", "512", "12", "14.59", "1.1", "1.3"),
        "TA-TiTok (VQ)": ("568M", "256", "16", "7.74", "-", "-"),
        "TA-TiTok (KL)": ("602M", "256", "32", "7.24", "-", "-"),
        "DC-AR": ("671M", "512", "12", "5.49", "0.4", "10.3"),
    },
    note="latency at batch 1, images/s at batch 16, float16, NVIDIA A100; * for 512 x 512 images",
)

TABLE3 = PublishedTable(
    title="Table 3: GenEval",
    columns=(
        "single_object", "two_object", "counting", "colors", "position", "color_attr", "overall",
    ),
    rows={
        "SDXL": ("0.98", "0.74", "0.39", "0.85", "0.15", "0.23", "0.55"),
        "PixArt-α": ("0.96", "0.49", "0.47", "0.79", "0.06", "0.11", "0.48"),
        "PixArt-Σ": ("0.98", "0.59", "0.50", "0.80", "0.10", "0.15", "0.52"),
        "SD3-medium": ("0.98", "0.74", "0.63", "0.67", "0.34", "0.36", "0.62"),
        "Playground v2.5": ("0.98", "0.77", "0.52", "0.84", "0.11", "0.17", "0.56"),
        "Sana-0.6B": ("0.99", "0.76", "0.64", "0.88", "0.18", "0.39", "0.64"),
        "Show-o": ("0.98", "0.80", "0.66", "0.84", "0.31", "0.50", "0.68"),
        "TA-TiTok (VQ)": ("0.98", "0.57", "0.46", "0.80", "0.11", "0.25", "0.53"),
        "TA-TiTok (KL)": ("0.99", "0.57", "0.36", "0.80", "0.11", "0.29", "0.52"),
        "Fluid": ("0.96", "0.73", "0.51", "0.77", "0.42", "0.51", "0.65"),
        "Meissonic": ("0.99", "0.66", "0.42", "0.86", "0.10", "0.22", "0.54"),
        "DC-AR": ("1.00", "0.75", "0.52", "0.90", "0.45", "0.51", "0.69"),
    },
)  # fmt: skip
