// SPDX-License-Identifier: MIT
// How the report looks: light and dark, on a desk and on a telephone. Contrasts are at least those of WCAG AA; a test
// reckons them.

export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --line: #dfe3e8; --text: #1b2430; --soft: #566172;
  --good: #14743a; --good-back: #e3f4e8; --good-cell: #2c7f4a; --bad: #b3261e; --bad-back: #fdeceb; --bad-cell: #c9372c;
  --warn: #8a5300; --warn-back: #fdf1dd; --none-cell: #e6e9ee; --none-text: #5d6878; --on-cell: #ffffff;
  --ink: #1f6f9f; --ink-fill: #cfe3ef; --track: #edf0f3;
  --heat-1: #bcdcec; --heat-2: #7fb9d8; --heat-3: #3f8fbd; --heat-4: #1c6391; --heat-5: #0c3453;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11161c; --card: #19212a; --line: #2e3945; --text: #e8edf3; --soft: #a3b0bf;
    --good: #6fd394; --good-back: #14301f; --good-cell: #2e8049; --bad: #ff9a91; --bad-back: #3b1a19; --bad-cell: #c23c33;
    --warn: #f2bd6b; --warn-back: #35270f; --none-cell: #2a343f; --none-text: #a3b0bf; --on-cell: #ffffff;
    --ink: #6bb8e6; --ink-fill: #1d3b4f; --track: #222c36;
    --heat-1: #1f4258; --heat-2: #2b6788; --heat-3: #3f93bf; --heat-4: #79c2e8; --heat-5: #d3effd;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 22px; display: flex; flex-wrap: wrap; gap: 2px 16px; align-items: baseline; }
h1 { font-size: 17px; margin: 0; font-weight: 650; }
header p, footer p { margin: 0; color: var(--soft); font-size: 13px; }
footer { padding-top: 4px; padding-bottom: 32px; }
h2 { font-size: 17px; margin: 0 0 2px; font-weight: 650; }
h3 { font-size: 15px; margin: 0; font-weight: 600; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 14px 0; }
h1, li, p, caption, figcaption, summary, .sub, th[scope="row"] { overflow-wrap: anywhere; }
.hint { margin: 0 0 14px; color: var(--soft); font-size: 13px; }
.number, td.number, th.number { font-variant-numeric: tabular-nums; text-align: right; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

.verdict { display: grid; grid-template-columns: auto 1fr; gap: 4px 16px; align-items: center; border-left-width: 6px; }
.verdict.good { border-left-color: var(--good-cell); background: var(--good-back); }
.verdict.bad { border-left-color: var(--bad-cell); background: var(--bad-back); }
.verdict svg { width: 46px; height: 46px; grid-row: 1 / span 2; align-self: start; }
.verdict h2 { font-size: 25px; line-height: 1.2; }
.verdict.good h2 { color: var(--good); }
.verdict.bad h2 { color: var(--bad); }
.verdict p { margin: 0; }
.verdict ul { margin: 6px 0 0; padding-left: 18px; }
.verdict li { margin: 2px 0; }
.verdict a { color: inherit; font-weight: 600; }

.figures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 14px; margin: 14px 0; padding: 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.figures dt { color: var(--soft); font-size: 13px; }
.figures dd { margin: 0; }
.figures dd.value { font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums; line-height: 1.25; }
.figures dd.more { color: var(--soft); font-size: 13px; }

table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: var(--soft); font-size: 13px; padding-bottom: 8px; }
th { text-align: left; font-weight: 600; font-size: 13px; color: var(--soft); vertical-align: bottom; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
th[scope="row"] { color: var(--text); font-size: 15px; min-width: 140px; }
td { white-space: nowrap; }
td.wide { white-space: normal; width: 34%; }
td.name { white-space: normal; overflow-wrap: anywhere; min-width: 84px; }
th:last-child, td:last-child { padding-right: 0; }
.sub { display: block; color: var(--soft); font-size: 13px; font-weight: 400; }
.state { display: inline-flex; gap: 6px; align-items: baseline; font-weight: 600; white-space: nowrap; }
.state::before { content: ""; flex: none; width: 9px; height: 9px; border-radius: 50%; }
.state.good { color: var(--good); } .state.good::before { background: var(--good-cell); }
.state.bad { color: var(--bad); } .state.bad::before { background: var(--bad-cell); border-radius: 1px; transform: rotate(45deg); }
.state.warn { color: var(--warn); } .state.warn::before { background: var(--warn); border-radius: 1px; }
.state.none { color: var(--none-text); } .state.none::before { background: var(--none-cell); border: 1px solid var(--none-text); }
.trouble { color: var(--bad); }

.calendar, .calendar tbody, .calendar thead { display: block; }
.calendar caption { display: block; }
.calendar tr { display: grid; grid-template-columns: minmax(90px, 170px) repeat(var(--days), minmax(0, 1fr)); gap: 2px; align-items: center; }
.calendar th, .calendar td { border: 0; padding: 0; }
.calendar th[scope="row"] { padding-right: 8px; font-size: 14px; line-height: 1.2; }
.calendar td { height: 24px; border-radius: 3px; text-align: center; font-size: 12px; line-height: 24px; font-weight: 700;
  background: var(--none-cell); color: var(--none-text); overflow: hidden; }
.calendar td.ok { background: var(--good-cell); color: var(--on-cell); }
.calendar td.failed, .calendar td.damaged, .calendar td.missed { background: var(--bad-cell); color: var(--on-cell); }
.calendar thead th { text-align: center; font-weight: 400; font-size: 11px; height: 18px; overflow: visible; white-space: nowrap; }
.calendar tbody tr { margin-top: 3px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 12px 0 0; padding: 0; list-style: none; font-size: 13px; color: var(--soft); }
.key li { display: flex; gap: 6px; align-items: center; }
.key b { display: inline-block; width: 20px; height: 20px; border-radius: 3px; text-align: center; font-size: 12px; line-height: 20px;
  background: var(--none-cell); color: var(--none-text); }
.key b.ok { background: var(--good-cell); color: var(--on-cell); }
.key b.bad { background: var(--bad-cell); color: var(--on-cell); }
.key b.heat { width: 26px; height: 14px; }

figure { margin: 0; min-width: 0; }
figcaption { font-size: 13px; color: var(--soft); margin-bottom: 8px; }
figcaption strong { color: var(--text); font-size: 15px; font-weight: 600; display: block; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 28px; }
.plot { display: grid; grid-template-columns: auto 1fr; gap: 4px 8px; font-size: 12px; color: var(--soft); font-variant-numeric: tabular-nums; }
.plot .ticks { display: flex; flex-direction: column; justify-content: space-between; text-align: right; height: 172px; margin: -8px 0; line-height: 16px; }
.plot svg { width: 100%; height: 156px; display: block; overflow: visible; }
.plot .dates { grid-column: 2; display: flex; justify-content: space-between; }
.grid { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.curve { fill: none; stroke: var(--ink); stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.area { fill: var(--ink-fill); }

.shares td, .shares th[scope="row"] { vertical-align: middle; }
.alone-key { background: var(--ink) !important; } .shared-key { background: var(--heat-2) !important; }
.took { display: block; width: 96px; height: 4px; margin-top: 3px; } .took rect { fill: var(--ink); }
.bar { display: block; height: 12px; border-radius: 3px; background: var(--track); overflow: hidden; }
.bar svg { display: block; width: 100%; height: 12px; }
.bar .alone { fill: var(--ink); } .bar .shared { fill: var(--heat-2); }

details { margin-top: 10px; }
summary { cursor: pointer; color: var(--soft); font-size: 13px; }
.guest { border-top: 1px solid var(--line); padding-top: 14px; margin-top: 16px; }
.guest > summary { color: var(--text); font-size: 15px; font-weight: 600; }
.disk { margin: 12px 0 4px; }
.picture { display: grid; grid-template-columns: 44px 1fr; gap: 3px 8px; font-size: 11px; color: var(--soft); font-variant-numeric: tabular-nums; }
.picture .nights { position: relative; }
.picture .nights span { position: absolute; right: 0; line-height: 12px; transform: translateY(-1px); white-space: nowrap; }
.picture svg { width: 100%; display: block; background: var(--card); border-radius: 3px; }
.picture .places { grid-column: 2; display: flex; justify-content: space-between; }
.unchanged { fill: var(--track); }
.first { fill: none; stroke: var(--soft); stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }
.unknown { fill: var(--bad-cell); }
.h1 { fill: var(--heat-1); } .h2 { fill: var(--heat-2); } .h3 { fill: var(--heat-3); } .h4 { fill: var(--heat-4); } .h5 { fill: var(--heat-5); }
b.h1 { background: var(--heat-1) !important; } b.h2 { background: var(--heat-2) !important; } b.h3 { background: var(--heat-3) !important; }
b.h4 { background: var(--heat-4) !important; } b.h5 { background: var(--heat-5) !important; } b.h0 { background: var(--track) !important; }

@media (max-width: 760px) {
  body { font-size: 14px; }
  main, header, footer { padding-left: 10px; padding-right: 10px; }
  section { padding: 14px 12px; margin: 10px 0; }
  .figures { grid-template-columns: 1fr 1fr; gap: 10px; margin: 10px 0; }
  .figures div { padding: 10px 12px; }
  .figures dd.value { font-size: 20px; }
  .verdict { gap: 4px 12px; }
  .verdict svg { width: 34px; height: 34px; }
  .verdict h2 { font-size: 20px; }
  .pair { grid-template-columns: 1fr; gap: 22px; }
  .calendar tr { grid-template-columns: repeat(var(--days), minmax(0, 1fr)); gap: 1px; }
  .calendar th[scope="row"] { grid-column: 1 / -1; padding-top: 6px; }
  .calendar thead th:first-child { display: none; }
  .calendar thead th:not(.monday) span { visibility: hidden; }
  .calendar td { font-size: 9px; border-radius: 2px; }
  table.stack, table.stack tbody { display: block; }
  table.stack caption { display: block; }
  table.stack thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table.stack tr { display: grid; grid-template-columns: 1fr 1fr; gap: 6px 12px; padding: 10px 0; border-bottom: 1px solid var(--line); }
  table.stack tbody tr:last-child { border-bottom: 0; }
  table.stack th, table.stack td { display: block; border: 0; padding: 0; text-align: left; width: auto; min-width: 0; }
  table.stack th[scope="row"], table.stack td.wide { grid-column: 1 / -1; }
  table.stack td { white-space: normal; overflow-wrap: anywhere; }
  table.stack td[data-label]::before { content: attr(data-label); display: block; font-size: 12px; color: var(--soft); }
}
@media print { section { break-inside: avoid; } }
`;
