/** Reads what a PNG says of itself: the texts that the service has written into it. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/**
 * The texts of a PNG by their keywords, from its tEXt and uncompressed iTXt chunks. Empty for anything else.
 *
 * @param {ArrayBuffer} buffer
 * @returns {Map<string, string>}
 */
export function pngTexts(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  const texts = new Map();
  if (SIGNATURE.some((byte, at) => bytes[at] !== byte)) return texts;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = latin1(bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    const end = data.indexOf(0);
    if (kind === "tEXt") texts.set(latin1(data.subarray(0, end)), latin1(data.subarray(end + 1)));
    if (kind === "iTXt" && data[end + 1] === 0) texts.set(latin1(data.subarray(0, end)), international(data, end));
    at += 12 + length;
  }
  return texts;
}

/** After the keyword of an iTXt chunk: two flags, a language, a translated keyword, and the text in UTF-8. */
function international(data, end) {
  const language = data.indexOf(0, end + 3);
  const keyword = data.indexOf(0, language + 1);
  return new TextDecoder().decode(data.subarray(keyword + 1));
}

function latin1(bytes) {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}
