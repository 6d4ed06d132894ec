"""The comparison of methods as one HTML file that needs nothing else: tables, and the details side by side."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from liif_core.report.details import Box, Detail
from liif_core.report.page import STYLE, table_html
from liif_core.report.tables import Table

OWN_STYLE = """
body { max-width: 80rem; }
.row { display: flex; flex-wrap: wrap; gap: .5rem; }
.row figure { margin: 0; width: 12rem; } .row img { width: 100%; image-rendering: pixelated; display: block; }
"""


def render(tables: Sequence[Table], rows: dict[Box, list[Detail]], framework: str) -> str:
    """The page. framework: whose predictions are shown."""
    shown = "".join(_row(box, found) for box, found in rows.items())
    below = f"PSNR and SSIM are of Y within the box, of 8-bit images. Networks ran in {escape(framework)}."
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Methods compared</title><style>{STYLE}{OWN_STYLE}</style></head><body>
<h1>Methods compared</h1>
{"".join(table_html(table) for table in tables)}
<h2>Details</h2><p>{below}</p>
{shown}
</body></html>
"""


def _row(box: Box, found: list[Detail]) -> str:
    cells = "".join(
        f'<figure><img alt="{escape(one.name)}" src="{_data(one)}">'
        f"<figcaption><strong>{escape(one.name)}</strong><br>{escape(one.scores)}</figcaption></figure>"
        for one in found
    )
    return f'<h4>{escape(str(box))}</h4><div class="row">{cells}</div>\n'


def _data(detail: Detail) -> str:
    content = io.BytesIO()
    Image.fromarray(detail.pixels).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
