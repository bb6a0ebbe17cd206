"""How the report page looks: its style sheet, for light and dark, for a desk and a phone."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --text: #1d1f21; --faint: #5f666d; --line: #dfe2e5;
  --bar: #7fb0df; --good: #1a7f37; --bad: #b42318; --mark: #1d1f21; --shade: #6b7280; --link: #0b57a4; --opacity: .6; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --card: #1d2024; --text: #e6e8ea; --faint: #9aa2aa; --line: #33383e;
    --bar: #2f5f92; --good: #57ab5a; --bad: #f0776c; --mark: #f4f5f6; --shade: #aab1b8; --link: #8cbcf0; }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0 auto; max-width: 1240px; padding: 1.5rem 1.25rem 4rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .3rem 0; max-width: 75ch; }
a { color: var(--link); }
a:focus-visible, select:focus-visible, input:focus-visible, button:focus-visible, summary:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
ul { list-style: none; padding: 0; margin: .25rem 0; }
li { padding: .1rem 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
nav a { margin-right: 1rem; }
summary { cursor: pointer; color: var(--link); }
details p { margin: .5rem 0; }
.faint, figcaption, .card small, .axis { color: var(--faint); }
.up { color: var(--good); }
.down { color: var(--bad); }
i { display: inline-block; width: .85em; height: .85em; margin-right: .3em; border-radius: 2px; vertical-align: -.08em;
  border: 1px solid var(--line); }
.key span, .legend span, .tags span { display: inline-block; max-width: 100%; margin-right: .9rem; overflow-wrap: anywhere; }
.legend { max-width: none; }

.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 200px), 1fr)); gap: .75rem; margin: 1rem 0; }
.card, .row { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.9rem; line-height: 1.25; font-variant-numeric: tabular-nums; font-weight: 600; }
.card b span { font-size: .95rem; font-weight: 500; margin-left: .4rem; }
.card small { display: block; }
.cards.small b { font-size: 1.3rem; }

.classes { border-collapse: collapse; width: 100%; max-width: 900px; font-variant-numeric: tabular-nums; }
.classes th, .classes td { padding: .15rem .3rem; text-align: right; font-weight: 400; }
.classes thead th { color: var(--faint); font-size: .85rem; }
.classes th:first-child { text-align: left; min-width: 5.5em; max-width: 30vw; overflow-wrap: break-word; }
.classes td:nth-child(2) { width: 60%; padding: .15rem .75rem; }
.classes td:last-child { font-weight: 600; }
.thresholds { border-spacing: 0; font-variant-numeric: tabular-nums; }
.thresholds th, .thresholds td { padding: .1rem 1.2rem .1rem 0; text-align: left; font-weight: 400; overflow-wrap: anywhere; }
.thresholds thead th { color: var(--faint); }
.axis { display: flex; justify-content: space-between; font-size: .85rem; }
.axis span { width: 0; display: flex; justify-content: center; }
.track { position: relative; height: 16px; background: linear-gradient(90deg, var(--line) 1px, transparent 1px) 0 0 / 20% 100%;
  border-right: 1px solid var(--line); }
.track .bar { position: absolute; inset: 1px auto 1px 0; border-radius: 0 2px 2px 0; background: var(--bar); }
.track .mark { position: absolute; top: 4px; width: 9px; height: 9px; margin-left: -4px; }
.mark { border-radius: 50%; border: 1px solid var(--page); }
.mark.seed { background: var(--page); border: 2px solid var(--mark); }
.mark.pseudo { background: var(--shade); }
.mark.refined { background: var(--mark); }
.key .bar { background: var(--bar); }
.lists { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); gap: 0 2rem; }

#controls { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; align-items: center; gap: .4rem 1rem;
  margin: .75rem 0; padding: .6rem 0; background: var(--page); border-bottom: 1px solid var(--line); }
#controls label { display: flex; align-items: center; gap: .4rem; max-width: 100%; }
#controls select { min-width: 0; max-width: 14rem; }
#controls select, #controls button { font: inherit; padding: .2rem .4rem; border-radius: 6px; border: 1px solid var(--line);
  background: var(--card); color: var(--text); }
#controls input { width: 110px; accent-color: var(--link); }
.row, .group { scroll-margin-top: 4rem; }
.rows { display: grid; gap: .75rem; }
.val .rows { grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr));
  align-items: start; }
.row header { display: flex; flex-wrap: wrap; gap: 0 .9rem; margin-bottom: .4rem; }
.row header b { overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 320px)); gap: .5rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .85rem; font-variant-numeric: tabular-nums; }
figcaption b { font-weight: 600; color: var(--text); white-space: nowrap; }
.stack { position: relative; }
.stack img { width: 100%; height: auto; display: block; border-radius: 4px; }
.stack .layer { position: absolute; inset: 0; height: 100%; opacity: var(--opacity); image-rendering: pixelated; }

@media (max-width: 640px) {
  body { padding: 1rem .75rem 3rem; }
  .cards { grid-template-columns: 1fr 1fr; }
  .card, .row { padding: .6rem .7rem; }
  .panels { grid-template-columns: repeat(3, 1fr); }
  .classes { font-size: .8rem; }
  .classes td:nth-child(2) { width: 34%; padding: .15rem .8rem .15rem .4rem; }
  .classes thead th { font-size: .7rem; }
  .classes th, .classes td { padding: .15rem; }
  #controls { position: static; gap: .4rem .75rem; font-size: .9rem; }
}
""".strip()
