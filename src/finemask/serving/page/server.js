// What is asked of the server, and what went wrong, in words. Addresses are relative: a proxy may put it anywhere.

import { mebibytes } from "./wording.js";

/** Something did not work; `message` says what, for people. */
export class Refusal extends Error {
  /**
   * @param message what, and the remedy.
   * @param canRetry whether the very same request may work later.
   */
  constructor(message, canRetry = false) {
    super(message);
    this.canRetry = canRetry;
  }

  /** An error as a refusal: of what is none, a defect of this page. */
  static of(error) {
    return error instanceof Refusal ? error : new Refusal(`Something went wrong on this page: ${error.message}`);
  }
}

const ENVELOPE_BYTES = 1024; // around the file, in a form
const HERE = location.origin + location.pathname; // without the name and password that an address may hold
const TRY_AGAIN = [408, 429, 502, 503, 504];

export const modelInfo = () => ask("info", {});

/** The answer for one picture. */
export function predict(file, name, least) {
  const query = new URLSearchParams({ threshold: String(least), masks: "polygon" });
  return ask(`predict?${query}`, form(file, name));
}

/** The picture as the server sees it, a Blob, for files that a browser does not show, or shows otherwise. */
export const picture = (file, name) => ask("picture", form(file, name), response => response.blob());

function form(file, name) {
  const body = new FormData();
  body.append("image", file, name);
  return { method: "POST", body };
}

/** Why a file need not be sent; null if nothing speaks against it. */
export function tooLarge(file, limits) {
  const most = limits?.max_bytes;
  if (!most || file.size + ENVELOPE_BYTES <= most) return null;
  return `It has ${mebibytes(file.size)}; this server takes up to ${mebibytes(most)}. Save it smaller, or as JPEG.`;
}

async function ask(address, request, read = response => response.json()) {
  let response;
  try {
    response = await fetch(HERE + address, { ...request, cache: "no-store" });
  } catch {
    throw new Refusal("The server does not answer. If it was stopped, start it again; then try again here.", true);
  }
  const content = await (response.ok ? read(response) : response.json()).catch(() => null);
  if (response.ok && content) return content;
  throw refusal(response, content);
}

function refusal({ status, headers }, content) {
  const canRetry = TRY_AGAIN.includes(status);
  if (status === 401) return new Refusal("This server asks for a token. Reload the page and give it as the password.");
  if (status === 429) {
    const after = Number(headers.get("Retry-After")), when = after > 0 ? `in ${after} s` : "in a moment";
    return new Refusal(`The server is busy with other pictures. Try again ${when}.`, canRetry);
  }
  const said = content?.error?.message;
  if (said) return new Refusal(`${said[0].toUpperCase()}${said.slice(1)}`, canRetry);
  return new Refusal(`The server answered with status ${status}, and gave no reason.`, canRetry);
}
