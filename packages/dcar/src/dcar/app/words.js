// The words that the checkpoint knows: what begins as the word that is being written, or by kind.
const box = () => document.querySelector("#prompt textarea");
const list = element.querySelector(".words-list"), tabs = element.querySelector(".words-kinds");
const MOST = 60;
let kind = null;

function written() {
  const text = box() ? box().value : "";
  return (/[\p{L}]+$/u.exec(text) || [""])[0].toLowerCase();
}

function add(word) {
  const input = box();
  const begun = written();
  const kept = input.value.slice(0, input.value.length - (word.startsWith(begun) ? begun.length : 0));
  const gap = kept && !/\s$/.test(kept) ? " " : "";
  input.value = `${kept}${gap}${word} `;
  input.dispatchEvent(new Event("input", {bubbles: true}));
  input.focus();
}

function show() {
  const kinds = props.value || {};
  const names = Object.keys(kinds);
  if (!names.length) return;
  kind = kind || names[0];
  tabs.replaceChildren(...names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${name} ${kinds[name].length}`;
    button.className = name === kind ? "chosen" : "";
    button.onclick = () => { kind = name; show(); };
    return button;
  }));
  const begun = written();
  const all = [...new Set(Object.values(kinds).flat())];
  const matching = begun ? all.filter((word) => word.startsWith(begun) && word !== begun) : [];
  const words = matching.length ? matching : kinds[kind];
  list.replaceChildren(...words.slice(0, MOST).map((word) => {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = word;
    chip.className = matching.length ? "chip match" : "chip";
    chip.onclick = () => add(word);
    return chip;
  }));
}

document.addEventListener("input", (event) => { if (event.target === box()) show(); });
watch("value", show);
show();
