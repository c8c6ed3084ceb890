"""The model card of a bundle with precisions that were made anew."""

from pathlib import Path

import msgspec

from emotion_export.derive import _update_card
from emotion_runtime.bundle import load_bundle

CARD = """\
# nano

It runs in int8, too.

| set | accuracy |
|---|---|
| scenes | 86 % |
| scenes, int8 | 11 % |

| graph | bits | min cos |
|---|---|---|
| frame_encoder | fp32 | 1.000 |
| frame_encoder | fp16 | 0.999 |
| frame_encoder | int8 | 0.111 |

## Parity of the other precisions with fp32

Old rows: 0.222
"""


def test_no_row_of_a_replaced_precision_stays(tmp_path: Path):
    """Neither rows of the parity with torch nor measured ones hold for graphs that were made again."""
    manifest, card = load_bundle("nano").manifest, tmp_path / "MODEL_CARD.md"
    rows = [
        msgspec.structs.replace(row, reference="fp32 graph")
        for row in manifest.parity
        if row.precision == "int8"
    ]
    card.write_text(CARD)
    for _ in range(2):  # the second time, the section is replaced
        _update_card(card, msgspec.structs.replace(manifest, parity=rows), {"int8"})
        lines = card.read_text().splitlines()
        assert not [line for line in lines if "0.111" in line or "0.222" in line or "11 %" in line]
        for kept in ("It runs in int8, too.", "| scenes | 86 % |", "| frame_encoder | fp16 | 0.999 |"):
            assert kept in lines
        assert lines.count("## Parity of the other precisions with fp32") == 1
        assert len([line for line in lines if "| int8 |" in line]) == len(rows) == 18


def test_the_shipped_card_has_the_parity_of_the_shipped_graphs():
    bundle = load_bundle("nano")
    lines = (bundle.folder / "MODEL_CARD.md").read_text().splitlines()
    stated = [line for line in lines if line.startswith(("| frame_encoder ", "| temporal_encoder "))]
    assert len(stated) == len(bundle.manifest.parity)
    for row in bundle.manifest.parity:
        assert any(f" {row.precision} " in line and f"{row.cosine_min:.9f}" in line for line in stated)
    assert all(f"{row.mean_abs:.1e}" in " ".join(stated) for row in bundle.manifest.parity)
