// The place where pictures appear: progress, the before/after slider, files, and what was painted before.
// Gradio gives `element`, `props` and `watch`; props.value is what page.py sends.
const KEPT = 24;
const STORE = "singdiffusion-session";
const $ = (selector) => element.querySelector(selector);
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};
const uri = (file) => "data:image/png;base64," + file;
let session = [];
let current = 0;

// A reload keeps what was painted, as much of it as the browser stores.
function keep() {
  for (let count = session.length; count > 0; count -= 1) {
    try { sessionStorage.setItem(STORE, JSON.stringify(session.slice(0, count))); return; } catch (full) { /* try with fewer */ }
  }
}
function restore() {
  try { session = JSON.parse(sessionStorage.getItem(STORE)) || []; } catch (damaged) { session = []; }
}

function download(file, name, text) {
  const link = make("a", { href: "#", className: "download" }, text);
  link.setAttribute("download", name);
  link.addEventListener("click", () => {  // a blob: browsers limit how long a data: link may be
    const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    link.href = url;
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  });
  return link;
}

// What the model's safety checker withheld, in a sentence; empty if nothing.
function withheld(pair) {
  const parts = pair.withheld || [];
  if (!parts.length) return "";
  const which = parts.length > 1 ? "both pictures" : pair.mean_luma.length < 2 ? "this picture"
    : `the picture ${parts[0] === "on" ? "with" : "without"} SingDiffusion`;
  return `The model’s safety checker withheld ${which}. Another prompt or seed may pass.`;
}

function compare(pair) {
  const alone = !(pair.on && pair.off);
  const figure = make("figure", { className: "compare" + (alone ? " alone" : "") });
  // a strip gets bands at its sides: the slider needs room, and the window has an end
  figure.style.setProperty("--ratio", Math.min(3, Math.max(1 / 3, pair.width / pair.height)));
  const lumas = pair.mean_luma.map((luma) => `mean luma ${luma}`);
  if (pair.on) figure.append(make("img", { src: uri(pair.on), alt: `${pair.prompt}, with SingDiffusion, ${lumas[1]}`, className: "with" }));
  if (pair.off) figure.append(make("img", { src: uri(pair.off), alt: `${pair.prompt}, without SingDiffusion, ${lumas[0]}`, className: "without" }));
  if (!pair.on && !pair.off) figure.append(make("p", { className: "withheld" }, withheld(pair)));
  else if (withheld(pair)) figure.append(make("span", { className: pair.on ? "tag with" : "tag without" }, pair.on ? "With" : "Without"));
  if (alone) return figure;
  const slider = make("input", { type: "range", min: 0, max: 100, value: 50, step: 1 });
  slider.setAttribute("aria-label", "Before and after: how much of the picture without SingDiffusion is shown");
  const move = () => {
    figure.style.setProperty("--at", slider.value + "%");
    slider.setAttribute("aria-valuetext", `${slider.value} % without, ${100 - slider.value} % with`);
  };
  slider.addEventListener("input", move);
  figure.append(make("span", { className: "tag without" }, "Without"), make("span", { className: "tag with" }, "With"),
    make("span", { className: "line" }), slider);
  move();
  return figure;
}

// Breaks between words alone, never after the first dash of an option.
function words(command) {
  return make("code", {}, ...command.split(" ").flatMap((word, i) => [i ? " " : "", make("span", {}, word)]));
}

function facts(pair) {
  const list = make("p", { className: "facts" });
  list.append(make("q", {}, pair.prompt), make("span", {}, `seed ${pair.seed}`), make("span", {}, `${pair.seconds} s`));
  if (!pair.on && !pair.off) return list;
  const lumas = make("span", { className: "lumas" }, "mean luma ", make("b", { className: "without" }, String(pair.mean_luma[0] ?? "withheld")));
  if (pair.mean_luma.length > 1) lumas.append(" → ", make("b", { className: "with" }, String(pair.mean_luma[1] ?? "withheld")));
  list.append(lumas);
  return list;
}

function render() {
  const pair = session[current];
  const shown = $(".shown");
  shown.replaceChildren();
  element.querySelector(".empty").hidden = Boolean(pair);
  if (pair) {
    const files = make("p", { className: "downloads" }, "Download, with settings inside:");
    for (const [part, suffix, text] of [["off", "without", "without"], ["on", "with_sing", "with"], ["compare", "compare", "side by side"]])
      if (pair[part]) files.append(" ", download(pair[part], `${pair.name}-${suffix}.png`, text));
    const brightness = make("div", { className: "brightness" });
    brightness.innerHTML = pair.histogram;  // ours; the prompt in it is escaped
    const command = make("details", { className: "command" }, make("summary", {}, "The same on the command line"), words(pair.command));
    const key = make("p", { className: "histogram-key", ariaHidden: "true" });
    if (pair.off) key.append(make("span", { className: "without" }, "without"));
    if (pair.on) key.append(make("span", { className: "with" }, "with SingDiffusion"));
    shown.append(compare(pair), facts(pair));
    if (pair.on || pair.off) {
      if (withheld(pair)) shown.append(make("p", { className: "withheld" }, withheld(pair)));
      shown.append(files, brightness, key);
    }
    shown.append(command);
  }
  const strip = $(".session");
  strip.hidden = session.length < 2;
  $(".session ul").replaceChildren(...session.map((each, i) => {
    const images = [each.off, each.on].filter(Boolean).map((file) => make("img", { src: uri(file), alt: "" }));
    const button = make("button", { type: "button" }, ...(images.length ? images : [make("span", { className: "blank" }, "withheld")]));
    button.setAttribute("aria-label", `Show picture ${i + 1} of ${session.length}: ${each.prompt}, seed ${each.seed}`);
    button.setAttribute("aria-pressed", String(i === current));
    button.addEventListener("click", () => {
      current = i;
      render();
      if ($("progress").hidden) status("");  // it belongs to another picture
      element.querySelectorAll(".session button")[i].focus();
    });
    return make("li", {}, button);
  }));
}

function status(text, alert = false) {
  const line = $(".status");
  line.classList.toggle("failed", alert);
  if (line.textContent !== text) line.textContent = text;
}

function update() {
  const value = props.value || {};
  const bar = $("progress");
  bar.hidden = value.phase !== "painting";
  element.firstElementChild.setAttribute("aria-busy", String(value.phase === "painting"));
  if (value.phase === "painting") {
    if (value.total) { bar.max = value.total; bar.value = value.done; }
    else bar.removeAttribute("value");
  }
  status(value.text || "", value.phase === "failed");
  $(".count").textContent = value.count || "";  // not read aloud: it changes too often, and the bar has the same number
  if (value.phase === "done" && value.id !== element.dataset.seen) {
    element.dataset.seen = value.id;
    session = [...value.pairs, ...session].slice(0, KEPT);
    current = 0;
    keep();
    render();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (matchMedia("(max-width: 859px)").matches) element.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
  }
}

restore();
render();
watch("value", update);
