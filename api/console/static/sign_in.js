// A one-time link carries its token behind `#`: it never reaches a log.
import { byId } from "./elements.js";

const token = location.hash.slice(1);
if (token.startsWith("mtl_")) {
  history.replaceState(null, "", location.pathname + location.search);
  byId("key").value = token;
  byId("by-link").hidden = false;
  byId("sign-in").submit();
}
