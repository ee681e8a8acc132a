// The stage: the frames of a run as they arrive, and a film of them afterwards.
const find = (name) => element.querySelector(`.stage-${name}`);
const bar = find("bar"), image = find("image"), label = find("label"), slider = find("slider");
const tokens = find("tokens"), empty = find("empty"), view = find("view");
let followed = true;  // whether the last frame is shown as it arrives

function show() {
  const value = props.value || {frames: []};
  const frames = value.frames || [];
  empty.hidden = frames.length > 0 || value.waiting;
  view.hidden = frames.length === 0;
  element.querySelector(".stage").classList.toggle("running", Boolean(value.running));
  find("waiting").hidden = !(value.waiting && frames.length === 0);
  if (frames.length === 0) { followed = true; return; }
  slider.max = frames.length - 1;
  if (value.running || followed) slider.value = frames.length - 1;
  const frame = frames[Math.min(Number(slider.value), frames.length - 1)];
  image.src = tokens.checked ? frame.tokens : frame.image;
  label.textContent = frame.label;
  bar.style.width = `${(100 * frames.length) / Math.max(value.total || frames.length, 1)}%`;
  element.querySelector(".stage").dataset.frames = frames.length;
}

slider.addEventListener("input", () => {
  followed = Number(slider.value) === Number(slider.max);
  show();
});
tokens.addEventListener("change", show);
watch("value", show);
show();
