"""How it looks: calm greys, colour only for what needs action, readable in the light and in the dark.

The style sheet is a constant: nothing of the data ever enters it. Tints are mixed from the text's own colour, so the
same rules serve both themes. The palette is set by flags (`FLAGS`), which Streamlit reads before the first page.
"""

from __future__ import annotations

from typing import Final

FLAGS: Final[dict[str, str]] = {
    "theme.light.primaryColor": "#2f6f9f",
    "theme.light.backgroundColor": "#f6f7f8",
    "theme.light.secondaryBackgroundColor": "#ffffff",
    "theme.light.textColor": "#1f2933",
    "theme.light.borderColor": "#d9dee3",
    "theme.dark.primaryColor": "#6aa5d0",
    "theme.dark.backgroundColor": "#13171b",
    "theme.dark.secondaryBackgroundColor": "#1b2126",
    "theme.dark.textColor": "#d5dbe1",
    "theme.dark.borderColor": "#303840",
    "theme.baseRadius": "8px",
    "theme.baseFontSize": "15",
}

STYLE: Final = """<style>
[data-testid="stMainBlockContainer"] { max-width: 1480px; position: relative; padding: 4.6rem max(1.1rem, 4vw) 3rem; }
[data-testid="stStatusWidget"], [data-testid="stDecoration"] { display: none; }
[data-stale="true"] { opacity: 1 !important; transition: none !important; }
h1 { font-size: 1.65rem !important; font-weight: 600 !important; letter-spacing: -0.01em;
  padding: 0 0 0.3rem !important; }
h3 { font-size: 1.02rem !important; font-weight: 600 !important; padding: 0.4rem 0 0 !important; }
[data-testid="stHeadingWithActionElements"] a { display: none; }
.st-key-answer p { font-size: 1.08rem; }
.st-key-clock { position: absolute; top: 4.95rem; right: max(1.1rem, 4vw); width: auto; z-index: 2; }
.st-key-clock p { text-align: right; font-variant-numeric: tabular-nums; opacity: 0.75; white-space: nowrap; }
[class*="st-key-stale"] { border-left: 4px solid #e08a2e; background: rgba(224,138,46,0.12); border-radius: 8px;
  padding: 0.6rem 0.9rem; gap: 0.2rem; }

[class*="st-key-tile_"], [class*="st-key-card_"] { position: relative; border-radius: 10px;
  padding: 0.7rem 0.9rem 0.6rem; gap: 0.25rem;
  border: 1px solid color-mix(in srgb, currentColor 13%, transparent);
  background: color-mix(in srgb, currentColor 2.5%, transparent); }
:is([class*="st-key-tile_"], [class*="st-key-card_"], [class*="st-key-figure_"], [class*="st-key-stale"], .st-key-clock)
  :is([data-testid="stMarkdownContainer"], [data-testid="stCaptionContainer"]) { margin-bottom: 0; }
:is([class*="st-key-tile_"], [class*="st-key-card_"]) p { line-height: 1.35; margin: 0; }
:is([class*="st-key-tile_"], [class*="st-key-card_"]) [data-testid="stCaptionContainer"] p { font-size: 0.82rem; }
[class*="st-key-tiles_of_"] { display: grid !important; gap: 0.75rem !important;
  grid-template-columns: repeat(auto-fill, minmax(248px, 1fr)); }
[class*="st-key-tiles_of_groups"] { grid-template-columns: repeat(auto-fill, minmax(min(460px, 100%), 1fr)); }
[class*="st-key-tiles_of_"] > * { width: 100% !important; height: 100%; }
[class*="st-key-tiles_of_"] > * > [class*="st-key-"] { height: 100%; }
[class*="st-key-tile_"]:hover { border-color: color-mix(in srgb, currentColor 32%, transparent); }
[class*="st-key-tile_"] [data-testid="stPageLink"] a { padding: 0; background: none; }
[class*="st-key-tile_"] [data-testid="stPageLink"] a > span:has([data-testid="stIconMaterial"]) { display: none; }
[class*="st-key-tile_"] [data-testid="stPageLink"] a p { font-weight: 600; font-size: 1.0rem; }
[class*="st-key-tile_"] [data-testid="stPageLink"] a::after { content: ""; position: absolute; inset: 0; }
[class*="st-key-tile_"] [data-testid="stPageLink"],
[class*="st-key-tile_"] [data-testid="stPageLink"] * { position: static; }
[class*="st-key-tile_"] [data-testid="stPageLink"] a:focus-visible::after { outline: 2px solid currentColor;
  border-radius: 10px; }
[class*="st-key-number_"] p { font-variant-numeric: tabular-nums; font-size: 1.0rem; text-align: right;
  white-space: nowrap; }
:is([class*="st-key-tile_high"], [class*="st-key-card_high"]) { border-left: 5px solid #d64545;
  background: rgba(214,69,69,0.09); }
:is([class*="st-key-tile_medium"], [class*="st-key-card_medium"]) { border-left: 5px solid #e08a2e;
  background: rgba(224,138,46,0.09); }
:is([class*="st-key-tile_low"], [class*="st-key-card_low"]) { border-left: 5px solid #cfa92b;
  background: rgba(207,169,43,0.09); }
[class*="st-key-tile_over_line"] { border-left: 5px dotted #e08a2e; }
[class*="st-key-tile_unknown"] { border-style: dashed; }
:is([class*="st-key-tile_normal"], [class*="st-key-tile_unknown"]) { opacity: 0.86; }

.pw-spark { position: relative; height: 26px; margin: 0.1rem 0; }
.pw-area { position: absolute; inset: 0; background: currentColor; opacity: 0.22; }
.pw-limit { position: absolute; left: 0; right: 0; top: 50%; border-top: 1px dashed currentColor; opacity: 0.22; }
[class*="st-key-tile_high"] .pw-area { background: #d64545; opacity: 0.75; }
:is([class*="st-key-tile_medium"], [class*="st-key-tile_over_line"]) .pw-area { background: #e08a2e; opacity: 0.75; }
[class*="st-key-tile_low"] .pw-area { background: #cfa92b; opacity: 0.75; }

:is(.st-key-heat_map, .st-key-contributions) [data-testid="stElementToolbar"] { display: none; }
[class*="st-key-figure_"] { gap: 0; }
[class*="st-key-figure_"] p { line-height: 1.25; margin: 0; }
[class*="st-key-figure_"] strong { font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; }
[data-testid="stTable"] td, [data-testid="stTable"] th { font-variant-numeric: tabular-nums; }
@media (max-width: 760px) { .st-key-clock { position: static; } .st-key-clock p { text-align: left; } }
</style>"""
