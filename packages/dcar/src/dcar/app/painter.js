// The painter: a brush over an image whose strokes snap outwards to tokens. The value's `cells` are
// rows of # (is to change) and . (is kept), as in the record of an edit.
const canvas = element.querySelector("canvas"), context = canvas.getContext("2d");
const brush = element.querySelector(".painter-brush"), count = element.querySelector(".painter-count");
const empty = element.querySelector(".painter-empty"), view = element.querySelector(".painter-view");
const photo = new Image();
let cells = [], strokes = [], painting = false, erasing = false, shown = null;

const grid = () => ({rows: cells.length, columns: cells.length ? cells[0].length : 0});

function draw() {
  const value = props.value;
  if (!value || !value.image || !photo.complete) return;
  const patch = value.patch;
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  cells.forEach((row, y) => row.forEach((on, x) => {
    context.strokeStyle = "rgba(255, 255, 255, 0.35)";
    context.lineWidth = 1;
    context.strokeRect(x * patch + 0.5, y * patch + 0.5, patch, patch);
    if (!on) return;
    context.fillStyle = "rgba(91, 92, 246, 0.45)";
    context.fillRect(x * patch, y * patch, patch, patch);
    context.strokeStyle = "rgba(255, 255, 255, 0.95)";
    context.lineWidth = 2;
    context.strokeRect(x * patch + 1, y * patch + 1, patch - 2, patch - 2);
  }));
  context.fillStyle = "rgba(255, 255, 255, 0.55)";
  for (const [x, y, radius] of strokes) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }
  const {rows, columns} = grid();
  const chosen = cells.flat().filter(Boolean).length;
  count.textContent = chosen
    ? `${chosen} of ${rows * columns} tokens will be generated anew`
    : "paint where the image is to change";
}

function publish() {
  strokes = [];
  shown = props.value.image;
  props.value = {...props.value, cells: cells.map((row) => row.map((on) => (on ? "#" : ".")).join(""))};
  draw();
}

function stamp(event) {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
  const radius = Number(brush.value) / 2, patch = props.value.patch;
  if (!erasing) strokes.push([x, y, radius]);
  // A token is touched where the brush's disc and its square meet.
  cells.forEach((row, r) => row.forEach((_, c) => {
    const dx = x - Math.min(Math.max(x, c * patch), (c + 1) * patch);
    const dy = y - Math.min(Math.max(y, r * patch), (r + 1) * patch);
    if (dx * dx + dy * dy <= radius * radius) cells[r][c] = !erasing;
  }));
  draw();
}

function load() {
  const value = props.value;
  const there = Boolean(value && value.image);
  empty.hidden = there;
  view.hidden = !there;
  if (!there) { shown = null; return; }
  if (value.image === shown) { draw(); return; }
  shown = value.image;
  canvas.width = value.width;
  canvas.height = value.height;
  cells = value.cells.map((row) => [...row].map((mark) => mark === "#"));
  photo.onload = draw;
  photo.src = value.image;
}

canvas.addEventListener("pointerdown", (event) => {
  painting = true;
  erasing = event.shiftKey || element.querySelector(".painter-erase").checked;
  canvas.setPointerCapture(event.pointerId);
  stamp(event);
});
canvas.addEventListener("pointermove", (event) => painting && stamp(event));
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => { if (painting) { painting = false; publish(); } });
}
element.querySelector(".painter-clear").addEventListener("click", () => {
  cells = cells.map((row) => row.map(() => false));
  publish();
});
element.querySelector(".painter-invert").addEventListener("click", () => {
  cells = cells.map((row) => row.map((on) => !on));
  publish();
});
watch("value", load);
load();
