// The page of `finemask demo`: pictures come in, each is asked for once, and everything else happens here.

import { canShow, isTouch, takePicture } from "./camera.js";
import { Controls } from "./controls.js";
import { cocoFile, jsonBlob, labelmeFile, save, stem } from "./downloads.js";
import { fullSize } from "./drawing.js";
import { ObjectsTable } from "./objects_table.js";
import { Picture, picturesOf } from "./pictures.js";
import { Refusal, modelInfo } from "./server.js";
import { askedScore, firstSettings, shownOf } from "./settings.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";
import { inWords, outcome, seconds } from "./wording.js";

const SAID_AFTER_MS = 500; // what changes while a slider moves is told to screen readers when it rests

const KINDS = ["overlay", "coco", "labelme"];

const part = id => document.getElementById(id);
const objectColours = part("demo").dataset.colours.split(" ");
const pictures = [];
let current = null, info = null, settings = null, controls = null, isAsking = false, telling = null;

const stage = new Stage(part("stage"), part("zoom"), {
  chosen: instance => {
    table.update(settings, colourOf, instance);
    if (instance && !tableHasFocus()) table.reveal(instance);
    if (instance && document.activeElement === part("stage")) tell(inWords(instance, current.image), 0);
  },
  order: () => table.order,
});
const table = new ObjectsTable(part("objects"), {
  point: instance => stage.point(instance),
  choose: instance => { stage.visit(instance); part("stage").scrollIntoView({ block: "nearest" }); },
});
const strip = new Strip(part("strip"), show);
const tableHasFocus = () => part("objects").matches(":hover, :focus-within");

function colourOf(instance) {
  if (settings.colourBy === "object") return objectColours[(instance.id - 1) % objectColours.length];
  return info.categories.find(({ name }) => name === instance.category).colour;
}

/** The model's own words; until they are there nothing can be asked. */
async function begin() {
  part("trouble").hidden = true;
  try {
    info = await modelInfo();
  } catch (error) {
    trouble(error, begin);
    return;
  }
  settings = firstSettings(info);
  controls = new Controls(part("controls"), info, settings, refresh);
  part("controls").hidden = false;
  askNext();
}

function add(added) {
  if (!added.length) return;
  pictures.push(...added);
  show(added[0]);
  added.forEach(thumbnail);
  askNext();
}

async function thumbnail(picture) {
  await picture.drawThumbnail();
  if (picture !== current) picture.release();
  updateStrip();
}

/** Asks for the pictures that wait, one after another. */
async function askNext() {
  const next = pictures.find(picture => picture.status === "waiting");
  if (!next || isAsking || !info) return;
  isAsking = true;
  const asked = next.ask(askedScore(settings), info);
  if (next === current) show(next);
  updateStrip();
  await asked;
  isAsking = false;
  if (next === current) show(next);
  if (!next.thumbnail && next.answer) thumbnail(next);
  updateStrip();
  askNext();
}

async function show(picture) {
  if (current && current !== picture) current.release();
  current = picture;
  part("empty").hidden = true;
  if (picture.isOpen) part("busy").hidden = false;
  part("trouble").hidden = picture.status !== "refused";
  if (picture.status === "refused") trouble(picture.refusal, () => again(picture), picture.name);
  const bitmap = await picture.bitmap();
  if (picture !== current) return;
  part("busy").hidden = !picture.isOpen;
  const { width, height } = picture.answer?.image ?? bitmap ?? {};
  if (width !== picture.image?.width || height !== picture.image?.height) picture.image = { width, height };
  picture.bitmapNow = bitmap;
  controls?.show(picture.answer?.instances ?? []);
  table.show(picture.answer);
  refresh();
}

function again(picture) {
  picture.status = "waiting";
  show(picture);
  askNext();
}

/** Everything that depends on the settings. */
function refresh() {
  const picture = current;
  const shown = picture?.answer ? shownOf(picture.answer.instances, settings) : [];
  stage.show(picture?.image && (picture.bitmapNow || picture.answer) ? sceneOf(picture, shown) : null);
  table.update(settings ?? { off: new Set(), thresholds: {} }, colourOf, stage.chosen);
  part("results").hidden = !picture?.answer?.instances.length;
  part("under-stage").hidden = !stage.scene;
  for (const kind of KINDS) part(`download-${kind}`).disabled = !picture?.answer;
  part("objects-head").textContent = `${shown.length} of ${picture?.answer?.instances.length ?? 0} objects are shown`;
  describe(picture, shown);
  updateStrip();
}

const sceneOf = (picture, shown) =>
  ({ bitmap: picture.bitmapNow, image: picture.image, instances: shown, settings: settings ?? {}, colourOf });

function describe(picture, shown) {
  const hasOneClass = info?.categories.length === 1;
  const { answer, status } = picture ?? {};
  if (picture) {
    part("name").textContent = picture.name;
    part("facts").textContent = answer
      ? `${answer.image.width} × ${answer.image.height} px, ${seconds(answer.timings_ms.total)}` : "";
  }
  const said = answer ? outcome(answer.instances.length, shown, controls.thresholdWords, hasOneClass) : "";
  part("outcome").textContent = said;
  const notes = [...(answer?.warnings ?? [])];
  if (answer && !picture.bitmapNow) notes.push("The picture cannot be shown; what was found in it is drawn on grey.");
  const paragraph = textContent => Object.assign(document.createElement("p"), { textContent });
  part("warnings").replaceChildren(...notes.map(paragraph));
  part("stage").setAttribute("aria-label", picture ? `Picture ${picture.name}` : "Picture");
  tell(answer ? `${picture.name}: ${said}.` : status === "asked" ? `Looking at ${picture.name}.` : "");
}

/** To screen readers, when nothing else has come for a moment. */
function tell(words, afterMs = SAID_AFTER_MS) {
  clearTimeout(telling);
  telling = setTimeout(() => { part("status").textContent = words; }, afterMs);
}

function updateStrip() {
  strip.update(pictures, current, picture => shownOf(picture.answer.instances, settings).length);
}

/** What went wrong, where it is to be seen, with a way on. */
function trouble(error, retry, name = "") {
  const refusal = Refusal.of(error);
  part("empty").hidden = part("busy").hidden = true;
  part("trouble").hidden = false;
  part("trouble-name").textContent = name;
  part("trouble-words").textContent = refusal.message;
  part("retry").hidden = !refusal.canRetry;
  part("retry").onclick = retry;
}

async function download(kind) {
  const { answer, name } = current, shown = shownOf(answer.instances, settings), file = stem(name);
  if (kind === "coco") save(jsonBlob(cocoFile(answer, shown, name, info.categories)), `${file}.coco.json`);
  else if (kind === "labelme") save(jsonBlob(labelmeFile(answer, shown, name)), `${file}.json`);
  else {
    const canvas = fullSize({ ...sceneOf(current, shown), empty: "#808080" });
    const blob = await new Promise(resolve => canvas.toBlob(resolve, "image/png"));
    if (blob) save(blob, `${file}.overlay.png`);
    else tell("The picture is too large for this browser to write.", 0);
  }
}

async function useCamera() {
  if (isTouch() || !canShow()) part("capture").click();
  else {
    const file = await takePicture(part("camera-window"));
    if (file) add([new Picture(file)]);
  }
}

for (const id of ["file", "capture"]) {
  part(id).addEventListener("change", event => { add(picturesOf(event.target)); event.target.value = ""; });
}
part("camera").hidden = !canShow() && !isTouch();
part("camera").addEventListener("click", useCamera);
part("empty").addEventListener("click", () => part("file").click());
for (const kind of KINDS) part(`download-${kind}`).addEventListener("click", () => download(kind));

// Drop anywhere, paste anywhere.
let depth = 0;
const over = by => { depth = Math.max(0, depth + by); document.body.classList.toggle("dropping", depth > 0); };
addEventListener("dragenter", event => { event.preventDefault(); over(1); });
addEventListener("dragleave", () => over(-1));
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => { event.preventDefault(); over(-depth); add(picturesOf(event.dataTransfer)); });
addEventListener("paste", event => add(picturesOf(event.clipboardData, true)));

begin();
