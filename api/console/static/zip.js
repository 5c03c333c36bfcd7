// Writes a zip file (PKWARE APPNOTE 6.3.10) without compression: pictures are compressed already.
const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

export function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = table[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

const UTF8 = 1 << 11;

// `files`: [name, Uint8Array] each. Names occur once, and lead nowhere above the folder.
export function zip(files) {
  const parts = [], central = [], known = new Set();
  let offset = 0;
  for (const [wanted, bytes] of files) {
    const name = new TextEncoder().encode(unique(safe(wanted), known));
    const facts = [crc32(bytes), bytes.length, bytes.length];
    const head = record(0x04034b50, [[20, 2], [UTF8, 2], [0, 2], [0, 2], [33, 2], ...facts.map((one) => [one, 4]), [name.length, 2], [0, 2]]);
    parts.push(head, name, bytes);
    central.push(record(0x02014b50, [[20, 2], [20, 2], [UTF8, 2], [0, 2], [0, 2], [33, 2], ...facts.map((one) => [one, 4]), [name.length, 2], [0, 2], [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]), name);
    offset += head.length + name.length + bytes.length;
  }
  const size = central.reduce((sum, one) => sum + one.length, 0);
  const end = record(0x06054b50, [[0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]]);
  return new Blob([...parts, ...central, end], { type: "application/zip" });
}

function record(signature, fields) {
  const bytes = new Uint8Array(4 + fields.reduce((sum, [, width]) => sum + width, 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [value, width] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return bytes;
}

const safe = (name) => name.split(/[\\/]+/).filter((part) => part && part !== "." && part !== "..").join("/") || "image";

function unique(name, known) {
  const dot = name.lastIndexOf(".") > name.lastIndexOf("/") ? name.lastIndexOf(".") : name.length;
  let tried = name;
  for (let n = 2; known.has(tried); n++) tried = `${name.slice(0, dot)}-${n}${name.slice(dot)}`;
  known.add(tried);
  return tried;
}
