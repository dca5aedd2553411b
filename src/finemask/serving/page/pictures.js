// The pictures of this visit, one after another: read, asked for, kept with their answers until the page is closed.

import { Refusal, picture, predict, tooLarge } from "./server.js";

const THUMBNAIL_PX = 72;

let made = 0;

/** A picture: status is "waiting", "asked", "found" (then it has an answer) or "refused" (then a refusal). */
export class Picture {
  /**
   * @param file a File or Blob.
   * @param name what it is called; of the file by default.
   */
  constructor(file, name = file.name) {
    made += 1;
    this.id = made;
    this.file = file;
    this.name = name || `picture ${made}`;
    this.status = "waiting";
    this.thumbnail = null; // a canvas
    this.decoded = null; // a promise of a bitmap, or of null where this browser cannot show such files
  }

  /** Whether there is neither an answer nor a refusal yet. */
  get isOpen() { return this.status === "waiting" || this.status === "asked"; }

  /** The pixels as they are to be seen; null where there are none to be had. */
  bitmap() {
    this.decoded ??= this.decode();
    return this.decoded;
  }

  /** By the browser, if it shows the file as the server reads it: upright, by EXIF; else by the server. */
  async decode() {
    const own = await isTurnedWebp(this.file) ? null : await createImageBitmap(this.file).catch(() => null);
    const size = this.answer?.image;
    if (!size || (own && own.width === size.width && own.height === size.height)) return own;
    own?.close();
    return picture(this.file, this.name).then(createImageBitmap).catch(() => null);
  }

  /** Gives the pixels back; they are decoded anew when they are shown again. */
  async release() {
    const { decoded } = this;
    this.decoded = null;
    (await decoded)?.close();
  }

  /** Asks the server, with the score from which on it is to answer; the outcome is in `status`. */
  async ask(least, info) {
    this.status = "asked";
    this.refusal = null;
    try {
      const words = this.whyNot() ?? tooLarge(this.file, info.limits);
      if (words) throw new Refusal(words);
      this.answer = await predict(this.file, this.name, least);
      this.status = "found";
      if (!await this.sameSize()) await this.release(); // to be decoded anew
    } catch (error) {
      this.refusal = Refusal.of(error);
      this.status = "refused";
    }
  }

  /** Whether what was decoded is the picture that the server saw. */
  async sameSize() {
    const bitmap = await this.decoded, { width, height } = this.answer.image;
    return bitmap?.width === width && bitmap.height === height;
  }

  /** Why it cannot be a picture; null if it may be one. */
  whyNot() {
    if (!this.file.size) return "The file is empty (0 bytes). Choose another one.";
    const isOther = this.file.type && !this.file.type.startsWith("image/");
    return isOther ? `This is no picture but ${this.file.type}. Choose a JPEG, PNG, WebP, TIFF or BMP file.` : null;
  }

  async drawThumbnail() {
    const bitmap = await this.bitmap();
    if (!bitmap) return;
    const side = THUMBNAIL_PX * Math.min(devicePixelRatio || 1, 2), shorter = Math.min(bitmap.width, bitmap.height);
    const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    const left = (bitmap.width - shorter) / 2, top = (bitmap.height - shorter) / 2;
    context.drawImage(bitmap, left, top, shorter, shorter, 0, 0, side, side);
    this.thumbnail = canvas;
  }
}

/** What was dropped or pasted, as pictures: browsers call whatever is pasted image.png. */
export function picturesOf(transfer, isPaste = false) {
  return [...(transfer?.files ?? [])].map(file => new Picture(file, isPaste ? `pasted ${made + 1}.png` : file.name));
}

/** Whether a file is WebP with EXIF, whose orientation some browsers pass over. */
async function isTurnedWebp(file) {
  const head = new Uint8Array(await file.slice(0, 21).arrayBuffer());
  const text = (from, to) => String.fromCharCode(...head.slice(from, to));
  return text(8, 16) === "WEBPVP8X" && Boolean(head[20] & 8);
}
