// Addresses of an image's pictures.
export const thumbnail = (item) => `/v1/items/${item.id}/thumbnail?v=${versionOf(item)}`;
export const result = (item) => `/v1/items/${item.id}/result?v=${versionOf(item)}`;
export const photo = (item) => `/v1/items/${item.id}/photo?inline=1`;
export const photoThumbnail = (item) => `/v1/items/${item.id}/photo-thumbnail`;
export const matte = (item) => `/v1/items/${item.id}/matte?v=${versionOf(item)}`;

// Changes whenever the result was made again, so that no browser shows an old one.
export function versionOf(item) {
  return encodeURIComponent(`${item.version}-${item.finished_at ?? ""}`);
}

export function load(address) {
  const image = new Image();
  image.decoding = "async";
  image.src = address;
  return image;
}
