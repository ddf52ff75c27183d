"""The style sheet of a report, light and dark."""

CSS = """\
:root {
  color-scheme: light dark;
  --ink: #1d1f23; --soft: #5d636d; --line: #dfe2e7; --paper: #ffffff; --card: #f5f6f8;
  --link: #0061a8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e8eb; --soft: #9aa1ac; --line: #363b44; --paper: #16181c; --card: #1f2329;
    --link: #7fbef0;
  }
}
body {
  margin: 0 auto; max-width: 62rem; padding: 0 1.2rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
}
h1 {
  margin: 1.6rem 0 0.3rem; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere;
}
h2 {
  margin: 2.4rem 0 0.7rem; padding-top: 0.5rem; font-size: 1.2rem;
  border-top: 1px solid var(--line);
}
h3 { margin: 0; font-size: 0.85rem; font-weight: 600; color: var(--soft); }
nav { font-size: 0.9rem; }
nav a {
  margin-right: 0.9rem; white-space: nowrap; color: var(--link); text-decoration: none;
}
nav a:hover { text-decoration: underline; }
table {
  border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums;
}
th, td {
  padding: 0.35rem 1.1rem 0.35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line);
}
th { font-weight: 600; color: var(--soft); }
.facts { width: 100%; }
.facts th { width: 8rem; white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
pre {
  margin: 0; padding: 0.5rem 0.7rem; overflow-x: auto; white-space: pre-wrap;
  background: var(--card); border-radius: 6px; font-size: 0.88rem;
}
.scroll { overflow-x: auto; }
.scroll td:first-child { min-width: 10rem; }
.scroll td + td { white-space: nowrap; }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr));
  gap: 0.8rem; margin-bottom: 1.2rem;
}
.card { padding: 0.8rem 1rem; background: var(--card); border-radius: 8px; }
.card strong { font-size: 1.7rem; line-height: 1.3; }
.card span {
  color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums;
}
.card small { display: block; color: var(--soft); }
.card p { margin: 0.3rem 0 0; font-size: 0.82rem; color: var(--soft); }
img { max-width: 100%; height: auto; }
img.wide, img.medium, .pair img {
  display: block; box-sizing: border-box; padding: 0.5rem; background: #ffffff;
  border-radius: 8px;
}
img.medium { width: 36rem; }
.pair {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr));
  gap: 0.8rem; align-items: start;
}
.gallery {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr));
  gap: 1.1rem 0.9rem;
}
.gallery figure { margin: 0; }
.gallery img { display: block; width: 100%; border-radius: 4px; }
.gallery figcaption {
  padding-top: 0.3rem; font-size: 0.82rem; line-height: 1.4; overflow-wrap: anywhere;
}
.gallery figcaption span, .gallery figcaption small { color: var(--soft); }
.gallery figcaption span { display: inline-block; width: 3.4rem; }
i {
  display: inline-block; width: 0.7em; height: 0.7em; margin-right: 0.35em;
  border-radius: 2px;
}
details { margin-top: 0.6rem; }
summary { cursor: pointer; color: var(--link); }
footer { margin-top: 3rem; font-size: 0.8rem; color: var(--soft); }
@media print { nav, footer { display: none; } section { break-inside: avoid-page; } }
"""
