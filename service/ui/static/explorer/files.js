/** Recordings in and out: JSON, the self-contained page, a file that is chosen or dropped. */

import { BadRecording } from "./checks.js";
import { callPage } from "./page.js";
import { fromJson, toJson } from "./recording.js";

/** Where the recording goes in the page that is saved; the service writes the same sign. */
const SLOT = "@recording@";
const LARGEST_BYTES = 512 * 1024 * 1024;

/** A recording as the text of a script element: JSON in which nothing can end the element. */
export function asData(recording) {
  return toJson(recording).replaceAll("<", "\\u003c");
}

/** The self-contained page of a recording. The empty page comes from the service. */
export async function savedPage(recording) {
  const [before, after] = (await callPage()).split(SLOT);
  return before + asData(recording) + after;
}

/** A name for a file of a recording. */
export function fileName(recording, ending) {
  const { seed, power } = recording.request;
  return `powercut-${power.method}-seed-${seed}.${ending}`;
}

/** Let the browser save a text. */
export function download(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** The recording in a file; throws BadRecording. */
export async function read(file) {
  if (file.size > LARGEST_BYTES) throw new BadRecording("The file is larger than 512 MiB: that is no recording of this page.");
  return fromJson(await file.text());
}

/** Call `onFile` with a file that is dropped anywhere on the page. */
export function onDrop(onFile) {
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    document.documentElement.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.documentElement.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    document.documentElement.classList.remove("dropping");
    if (!isFile(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length > 0) onFile(event.dataTransfer.files[0]);
  });
}
