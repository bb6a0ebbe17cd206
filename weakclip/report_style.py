"""How the report page looks: its style sheet, for light and dark."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --text: #1d1f21; --faint: #5f666d; --line: #dfe2e5;
  --bar: #7fb0df; --good: #1a7f37; --bad: #b42318; --mark: #1d1f21; --shade: #6b7280; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --card: #1d2024; --text: #e6e8ea; --faint: #9aa2aa; --line: #33383e;
    --bar: #2f5f92; --good: #57ab5a; --bad: #f0776c; --mark: #f4f5f6; --shade: #aab1b8; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .3rem 0; max-width: 75ch; }
ul { list-style: none; padding: 0; margin: .25rem 0; }
li { padding: .1rem 0; font-variant-numeric: tabular-nums; }
figure { margin: 0; }
figcaption { font-size: .85rem; }
img { width: 100%; height: auto; display: block; border-radius: 4px; }
i { display: inline-block; width: .85em; height: .85em; margin-right: .3em; border-radius: 2px; vertical-align: -.08em;
  border: 1px solid var(--line); }
.faint, figcaption, .card small { color: var(--faint); }
.up { color: var(--good); }
.down { color: var(--bad); }

.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: .75rem; margin: 1rem 0; }
.card, .row { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.9rem; line-height: 1.25; font-variant-numeric: tabular-nums; font-weight: 600; }
.card b span { font-size: .95rem; font-weight: 500; margin-left: .4rem; }
.card small { display: block; }
.cards.small b { font-size: 1.3rem; }

svg { width: 100%; max-width: 860px; height: auto; display: block; font: 13px system-ui, sans-serif; }
svg text { fill: var(--text); }
svg .axis { fill: var(--faint); }
svg .grid { stroke: var(--line); }
svg .bar { fill: var(--bar); }
svg .seed { fill: var(--page); stroke: var(--mark); stroke-width: 1.5; }
svg .pseudo { fill: var(--shade); stroke: var(--page); }
svg .refined { fill: var(--mark); stroke: var(--page); }
.key svg { display: inline-block; width: 12px; vertical-align: -1px; margin-right: .3em; }
.key span, .legend span, .tags span { display: inline-block; white-space: nowrap; margin-right: .9rem; }

.lists { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 0 2rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: .75rem; }
.row { margin-bottom: .75rem; }
.pairs .row { margin: 0; }
.row header { display: flex; flex-wrap: wrap; gap: 0 .9rem; margin-bottom: .4rem; }
.row header b { overflow-wrap: anywhere; }
.panels { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(96px, 320px); gap: .5rem; overflow-x: auto; }
""".strip()
