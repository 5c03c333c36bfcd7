// The texts of the pages, by name; the server puts them into each page.
const known = JSON.parse(document.getElementById("texts").textContent);

export function t(name, values = {}) {
  const text = known[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? String(values[key]) : whole));
}
