// A picture from the camera: of a phone by its own camera app, elsewhere by a window with what the camera sees.

/** Whether there may be one: browsers show it to pages of this machine and of https only. */
export const isTouch = () => matchMedia("(pointer: coarse)").matches;
export const canShow = () => Boolean(window.isSecureContext && navigator.mediaDevices?.getUserMedia);

/** Why a camera cannot be used, by the name of the browser's error. */
const WORDS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it beside the address, then try again.",
  NotFoundError: "No camera was found. Connect one, then try again.",
  NotReadableError: "The camera is in use elsewhere. Close the other program, then try again.",
};

/**
 * Opens the window and gives a File, or null where it was closed.
 *
 * @param dialog with a video, a p for what goes wrong, and buttons named "take" and "close".
 */
export async function takePicture(dialog) {
  const video = dialog.querySelector("video"), words = dialog.querySelector("p");
  const take = dialog.querySelector("[name=take]"), close = dialog.querySelector("[name=close]");
  words.textContent = "Waiting for the camera …";
  take.disabled = true;
  dialog.showModal();
  let stream = null;
  const closed = new Promise(resolve => dialog.addEventListener("close", () => resolve(null), { once: true }));
  const taken = new Promise(resolve => { take.onclick = () => resolve(frameOf(video)); });
  close.onclick = () => dialog.close();
  try {
    const wanted = { video: { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } } };
    stream = await Promise.race([navigator.mediaDevices.getUserMedia(wanted), closed]);
    if (stream) {
      video.srcObject = stream;
      await video.play();
      words.textContent = "";
      take.disabled = false;
      take.focus();
    }
  } catch (error) {
    words.textContent = WORDS[error.name] ?? `The camera cannot be used: ${error.message}`;
  }
  const file = await Promise.race([taken, closed]);
  stream?.getTracks().forEach(track => track.stop());
  video.srcObject = null;
  if (dialog.open) dialog.close();
  return file;
}

async function frameOf(video) {
  const size = { width: video.videoWidth, height: video.videoHeight };
  const canvas = Object.assign(document.createElement("canvas"), size);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise(resolve => canvas.toBlob(resolve, "image/jpeg", 0.95));
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  return new File([blob], `camera ${time}.jpg`, { type: "image/jpeg" });
}
