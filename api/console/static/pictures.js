// Addresses of an image's pictures. They change whenever the result was made again: a page that has
// shown a picture shows it again from its own memory for the same address, whatever stands behind `#`.
const of = (item, what) => `/v1/items/${item.id}/${what}?v=${encodeURIComponent(`${item.version}-${item.finished_at ?? ""}`)}`;

export const thumbnail = (item) => of(item, "thumbnail");
export const photoThumbnail = (item) => of(item, "photo-thumbnail");
export const result = (item) => of(item, "result");
// What a browser can show of a result.
export const seen = (item) => (["zip", "psd", "mov"].includes(item.result_format) || plays(item) ? thumbnail(item) : result(item));
// Whether a browser plays the result: a clip, not a picture that moves.
export const plays = (item) => item.kind === "clip" && ["webm", "mp4"].includes(item.result_format);
export const matte = (item) => of(item, "matte");
export const sent = (item) => `/v1/items/${item.id}/photo`;
export const photo = (item) => `${sent(item)}?inline=1`;

// What a person calls an image: the own id, if it has one, and the file's name; in full, with the
// columns of its list, as a title.
export const called = (item) => [item.custom_id, item.name.split("/").at(-1)].filter(Boolean).join(" · ");
export const calledInFull = (item) => [item.name, item.custom_id, ...Object.entries(item.labels ?? {}).map(([name, value]) => `${name}: ${value}`)].filter(Boolean).join("\n");

export function load(address) {
  const image = new Image();
  image.decoding = "async";
  image.src = address;
  return image;
}
