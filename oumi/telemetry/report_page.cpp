#include "oumi/telemetry/report_page.h"

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/html.h"

namespace oumi {

namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1c2330; --soft: #667085; --line: #e3e7ee; --accent: #2f6fed;
  --good: #16875a; --bad: #d03a3a; --c0: #2f6fed; --c1: #e07b1a; --c2: #1a9a6c; --c3: #b34ad1; --c4: #c7952a; --c5: #d6456b; --heat: 47, 111, 237; }
@media (prefers-color-scheme: dark) { :root { --paper: #12151b; --card: #1a1f28; --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3440; --accent: #7aa5ff;
  --good: #45c08c; --bad: #ff7a7a; --c0: #7aa5ff; --c1: #ffb067; --c2: #5fd3a5; --c3: #d798f0; --c4: #e8c468; --c5: #ff8fab; --heat: 96, 150, 255; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 28px 24px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 12px; }
.sub { color: var(--soft); margin: 2px 0 20px; overflow-wrap: anywhere; }
.card, .chart, details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 12px; }
.tile b { display: block; font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.problems { border-left: 4px solid var(--c1); margin: 18px 0; }
.problems ul { margin: 4px 0 0; padding-left: 20px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 14px; }
.chart { position: relative; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: baseline; margin-bottom: 6px; }
.key { font-size: 13px; color: var(--soft); }
.key::before { content: ""; display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin: 0 6px 3px 0; background: currentColor; }
.key.c0::before { background: var(--c0); } .key.c1::before { background: var(--c1); } .key.c2::before { background: var(--c2); }
.key.c3::before { background: var(--c3); } .key.c4::before { background: var(--c4); } .key.c5::before { background: var(--c5); }
svg { display: block; width: 100%; height: auto; }
.chart > svg { touch-action: pan-y; }
svg svg { overflow: hidden; }
.grid path { stroke: var(--line); } .ticks path { stroke: var(--soft); } .ticks text { fill: var(--soft); font-size: 11.5px; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.raw { stroke-width: 1; opacity: .32; }
.dot { stroke: none; } .odd { stroke: var(--bad); stroke-width: 1.5; } .cursor { stroke: var(--soft); stroke-dasharray: 3 3; fill: none; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); } .line.c4 { stroke: var(--c4); } .line.c5 { stroke: var(--c5); }
.dot.c0 { fill: var(--c0); } .dot.c1 { fill: var(--c1); } .dot.c2 { fill: var(--c2); } .dot.c3 { fill: var(--c3); } .dot.c4 { fill: var(--c4); } .dot.c5 { fill: var(--c5); }
.note { margin: 4px 0 0; font-size: 12.5px; color: var(--soft); }
.tip { position: absolute; top: 46px; padding: 6px 10px; border-radius: 7px; background: var(--ink); color: var(--card); font-size: 12.5px;
  pointer-events: none; white-space: pre; font-variant-numeric: tabular-nums; z-index: 2; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 4px 14px 4px 0; vertical-align: top; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
td.n, th.n { text-align: right; }
.wide { width: 100%; }
.split { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 14px; align-items: start; }
.matrix th, .matrix td { padding: 0; border: 0 !important; }
.matrix td { min-width: 38px; height: 30px; text-align: center; font-size: 12.5px; border-radius: 3px; }
.matrix tbody th { padding-right: 10px; text-align: right; white-space: nowrap; font-weight: 500; max-width: 180px; overflow: hidden; text-overflow: ellipsis; }
.matrix thead th { vertical-align: bottom; font-weight: 500; height: 1px; }
.matrix thead th span { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg); max-height: 130px; overflow: hidden; padding: 6px 0; margin-left: 8px; white-space: nowrap; }
.matrix td.strong { color: #fff; } .matrix td.zero { color: var(--soft); opacity: .55; }
@media (prefers-color-scheme: dark) { .matrix td.strong { color: #0d1117; } }
.pixels { image-rendering: pixelated; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 12px; }
.sample { padding: 10px; font-size: 13px; overflow-wrap: anywhere; border-top: 3px solid var(--soft); }
.sample.right { border-top-color: var(--good); } .sample.wrong { border-top-color: var(--bad); }
.sample img { display: block; width: 100%; max-height: 160px; object-fit: contain; margin-bottom: 8px; border-radius: 5px; background: #8882; }
.sample .p { height: 4px; border-radius: 2px; background: var(--line); margin: 5px 0 0; overflow: hidden; }
.sample .p i { display: block; height: 100%; background: currentColor; opacity: .6; }
.sample small { color: var(--soft); display: block; }
.sample .text { white-space: pre-wrap; max-height: 9em; overflow: auto; }
.good { color: var(--good); } .bad { color: var(--bad); }
details + details { margin-top: 12px; }
summary { cursor: pointer; font-weight: 600; }
pre { margin: 12px 0 0; overflow-x: auto; font: 12.5px/1.55 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre .k { color: var(--accent); }
@media print { body { background: #fff; } .chart, .card { break-inside: avoid; } }
)css";

// Shows the values nearest to the pointer. Everything that it puts on the page goes in as text.
constexpr const char* kScript = R"js(
for (const figure of document.querySelectorAll("figure[data-chart]")) {
  const chart = JSON.parse(figure.dataset.chart), svg = figure.querySelector("svg"), cursor = figure.querySelector(".cursor"), tip = figure.querySelector(".tip");
  const left = 64, right = 26, top = 12, bottom = 38, width = 640, height = 300;
  const nearest = (steps, step) => {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (steps[middle] < step) low = middle; else high = middle; }
    return Math.abs(steps[low] - step) < Math.abs(steps[high] - step) ? low : high;
  };
  const show = event => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const at = ((event.clientX - box.left) * scale - left) / (width - left - right);
    if (at < -0.02 || at > 1.02) return hide();
    const step = chart.x[0] + Math.min(Math.max(at, 0), 1) * (chart.x[1] - chart.x[0]);
    let anchor = null;
    for (const curve of chart.curves) {
      const found = curve.steps[nearest(curve.steps, step)];
      if (anchor === null || Math.abs(found - step) < Math.abs(anchor - step)) anchor = found;
    }
    const lines = ["step " + anchor.toLocaleString("en")];
    const reach = (chart.x[1] - chart.x[0]) / 100;
    for (const curve of chart.curves) {
      const index = nearest(curve.steps, anchor);
      if (chart.curves.length > 1 && Math.abs(curve.steps[index] - anchor) > reach) continue;
      lines.push(curve.name + "  " + curve.values[index]);
    }
    const x = left + (anchor - chart.x[0]) / (chart.x[1] - chart.x[0] || 1) * (width - left - right);
    cursor.setAttribute("d", `M${x} ${top}V${height - bottom}`);
    tip.textContent = lines.join("\n");
    tip.hidden = false;
    const pixel = x / scale + box.left - figure.getBoundingClientRect().left;
    tip.style.left = (pixel + tip.offsetWidth + 24 > figure.clientWidth ? pixel - tip.offsetWidth - 10 : pixel + 12) + "px";
  };
  const hide = () => { tip.hidden = true; cursor.removeAttribute("d"); };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerleave", hide);
}
)js";

}  // namespace

std::string wrap_page(const std::string& title, const std::string& body) {
  // Escaping keeps foreign markup out; the policy is the second wall: no network, no script but ours. The nonce depends on
  // the page, so that equal inputs give equal bytes and no input can hold its own page's nonce.
  const std::string nonce = hash_bytes(body.data(), body.size());
  return cat("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src "
             "'unsafe-inline'; script-src 'nonce-",
             nonce, "'\">\n",
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" "
             "content=\"no-referrer\">\n<title>",
             escape_html(title), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n", body, "<script nonce=\"", nonce,
             "\">", kScript, "</script>\n</body>\n</html>\n");
}

}  // namespace oumi
